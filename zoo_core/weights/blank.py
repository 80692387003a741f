"""Constructing modules without values, to be filled from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zoo_core.loader import CATCH
from zoo_core.shapes import ShapesOnly

M = TypeVar("M", bound=nn.Module)


@contextmanager
def blank() -> Iterator[None]:
    """Within it, modules are constructed with shapes and without values; no random number is drawn.

    :func:`zoo_core.weights.load` gives them their values.
    """
    with torch.device("meta"), ShapesOnly():
        yield


def built_for_loading(make: Callable[[], M]) -> M:
    """Construct a module blank if it can be filled so, else as always.

    Args:
        make: Constructs it.
    """
    try:
        with blank():
            module = make()
    except CATCH:
        return make()  # whatever it was, here it shows itself again, or was the device's fault
    return module if fillable(module) else make()


def fillable(module: nn.Module) -> bool:
    """Tell whether a file's values can make a blank module whole.

    They cannot where values stand outside the state dict, or under two names.
    """
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own |= dict(module.named_buffers(remove_duplicate=False))
    return (
        own.keys() == module.state_dict().keys()
        and len({id(tensor) for tensor in own.values()}) == len(own)
        and not any(map(is_lazy, own.values()))
        and not any(_strays(part) for part in module.modules())
    )


def _strays(module: nn.Module) -> bool:
    """Tell whether blank tensors stand in plain attributes."""
    registered = ("_parameters", "_buffers", "_modules")
    values = (value for name, value in vars(module).items() if name not in registered)
    return any(tensor.is_meta for tensor in _tensors(values))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            yield from _tensors(value.values())
        elif isinstance(value, list | tuple | set):
            yield from _tensors(value)


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a value in the place of a blank parameter or buffer."""
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    blank_one = owner._parameters.get(attribute)
    if blank_one is not None:
        owner._parameters[attribute] = nn.Parameter(value, blank_one.requires_grad)
    else:
        owner._buffers[attribute] = value
