"""What running a model may change, remembered and put back.

Several threads may explain one model at once. What they share is counted: the first to come
remembers it, and the last to go puts it back.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LOCK = threading.RLock()


class _Kept:
    """One module as it was found, and how many users it has."""

    def __init__(self, module: nn.Module) -> None:
        self.users = 0
        self.module = module
        self.training = module.training
        self.buffers = dict(module._buffers.items())
        # A buffer that is an inference tensor cannot change outside of inference mode.
        self.values = {
            name: (buffer._version, buffer.detach().clone())
            for name, buffer in self.buffers.items()
            if buffer is not None and not buffer.is_inference()
        }

    def put_back(self) -> None:
        self.module.training = self.training
        if isinstance(self.module, torch.jit.ScriptModule):
            return  # its buffers are those of a compiled program
        now = self.module._buffers
        if now.keys() != self.buffers.keys() or any(
            now[name] is not buffer for name, buffer in self.buffers.items()
        ):
            now.clear()
            now.update(self.buffers)
        for name, (version, value) in self.values.items():
            buffer = self.buffers[name]
            if buffer is not None and buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


_KEPT: dict[int, _Kept] = {}


@contextmanager
def modules_kept(model: nn.Module) -> Iterator[None]:
    """Within it all modules are in eval mode; flags and buffers are put back by the last thread.

    The flags are set one by one: ``model.eval()`` may do more than that, such as merging weights.
    """
    modules = list(model.modules())
    with _LOCK:
        for module in modules:  # all of them first: a compiled module's flag is its original's
            if id(module) not in _KEPT:
                _KEPT[id(module)] = _Kept(module)
        for module in modules:
            _KEPT[id(module)].users += 1
            module.training = False
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                kept = _KEPT[id(module)]
                kept.users -= 1
                if not kept.users:
                    del _KEPT[id(module)]
                    kept.put_back()


class _Shared:
    """A state of the whole process, entered by the first user and left by the last."""

    def __init__(self, enter: Callable[[], Callable[[], Any]]) -> None:
        self._enter = enter
        self._users = 0
        self._leave: Callable[[], Any] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with _LOCK:
            if not self._users:
                self._leave = self._enter()
            self._users += 1
        try:
            yield
        finally:
            with _LOCK:
                self._users -= 1
                if not self._users and self._leave is not None:
                    self._leave()


def _random_states() -> Callable[[], None]:
    on_gpus = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    python, legacy = random.getstate(), np.random.get_state()
    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all() if on_gpus else []

    def put_back() -> None:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)

    return put_back


def _eager() -> Callable[[], None]:
    stance = torch.compiler.set_stance("force_eager")
    return lambda: stance.__exit__(None, None, None)


random_kept = _Shared(_random_states)
"""Afterwards the global generators of torch, NumPy and Python go on as if none had been used."""

eager = _Shared(_eager)
"""Within it nothing that ``torch.compile`` made runs compiled, so that hooks are called."""


def is_compiled(model: nn.Module) -> bool:
    """Tell whether a module in the model runs compiled."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[None]:
    """Put parameters' gradients, their flags, and hooks back that foreign code may change.

    Unlike the rest, it is for one thread at a time.
    """
    parameters = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    hooks: list[tuple[dict[int, Any], dict[int, Any]]] = [
        (held, dict(held))
        for module in model.modules()
        for name, held in vars(module).items()
        if name.startswith("_") and "hooks" in name and isinstance(held, dict)
    ]
    for parameter, _, _ in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, grad, requires_grad in parameters:
            parameter.grad = grad
            if not parameter.is_inference():
                parameter.requires_grad_(requires_grad)
        for held, before in hooks:
            if held != before:
                held.clear()
                held.update(before)


class OwnedTensors(torch.overrides.TorchFunctionMode):
    """Give torch's functions a normal tensor for each inference tensor of a model.

    Autograd cannot save inference tensors; so a model that was made in inference mode can be
    explained although it is not changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owned: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function with normal tensors."""
        kwargs = kwargs or {}
        return func(*map(self._own, args), **{name: self._own(v) for name, v in kwargs.items()})

    def _own(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_inference():
            if id(value) not in self._owned:
                self._owned[id(value)] = value, value.detach().clone()
            return self._owned[id(value)][1]
        if type(value) in (list, tuple):
            return type(value)(map(self._own, value))
        return value
