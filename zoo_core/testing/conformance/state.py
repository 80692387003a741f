"""What a component must leave as it is: the process around it, and the model that it is given."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class _Setting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _environment() -> dict[str, str]:
    # torch sets variables of its own when its compiler is first imported.
    return {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}


def _set_environment(values: Mapping[str, str]) -> None:
    for name in _environment():
        del os.environ[name]
    os.environ.update(values)


def _set_deterministic(flags: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])


_CUDNN: Final = torch.backends.cudnn

SETTINGS: Final[dict[str, _Setting]] = {
    "torch's default dtype": _Setting(torch.get_default_dtype, torch.set_default_dtype),
    "torch's grad mode": _Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's anomaly mode": _Setting(
        torch.is_anomaly_enabled, lambda on: torch.autograd.set_detect_anomaly(on)
    ),
    "torch's deterministic algorithms": _Setting(
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_deterministic,
    ),
    "torch's number of threads": _Setting(torch.get_num_threads, torch.set_num_threads),
    "torch's precision of float32 products": _Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    **{
        f"torch.backends.cudnn.{name}": _Setting(
            partial(getattr, _CUDNN, name), partial(setattr, _CUDNN, name)
        )
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    },
    "the environment's variables": _Setting(_environment, _set_environment),
}
"""Settings of the process, which nothing that a component does may change."""

GENERATORS: Final[dict[str, _Setting]] = {
    "Python's random numbers": _Setting(random.getstate, random.setstate),
    "NumPy's random numbers": _Setting(
        lambda: np.random.get_state(legacy=False), np.random.set_state
    ),
    "torch's random numbers": _Setting(torch.get_rng_state, torch.set_rng_state),
}
"""The global generators of random numbers."""


def read(settings: Mapping[str, _Setting]) -> dict[str, Any]:
    """Give the value of each setting."""
    return {name: setting.read() for name, setting in settings.items()}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Give the names of what is not as it was."""
    names = {**before, **after}
    return [
        name
        for name in names
        if name not in before or name not in after or not _same(before[name], after[name])
    ]


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards the process has the settings that it had, and its random numbers go on."""
    everything = {**SETTINGS, **GENERATORS}
    before = read(everything)
    try:
        yield
    finally:
        after = read(everything)
        for name in changed(before, after):
            everything[name].write(before[name])


def model_state(model: nn.Module) -> dict[str, Any]:
    """Give everything of a model that an explainer must leave as it is, by what it is called."""
    found: dict[str, Any] = {}
    for place, module in model.named_modules():
        where = place or "the model"
        found[f"{where}: train or eval mode"] = module.training
        for name, held in vars(module).items():
            if name.startswith("_") and "hooks" in name and isinstance(held, dict):
                found[f"{where}: {name.strip('_').replace('_', ' ')}"] = list(held.values())
    for name, parameter in model.named_parameters():
        found[f"{name}: requires_grad"] = parameter.requires_grad
        found[f"{name}: grad"] = None if parameter.grad is None else parameter.grad.clone()
        found[f"{name}: value"] = parameter.detach().clone()
    for name, buffer in model.named_buffers():
        found[f"{name}: value"] = buffer.detach().clone()
    return found


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return not changed(one, other)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)
