"""Constructing modules without values, to be filled from a file."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import setitem
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zoo_core.loader import CATCH
from zoo_core.shapes import ShapesOnly

M = TypeVar("M", bound=nn.Module)

# What holds no tensors of a module's own; modules are looked at one by one.
_SIMPLE: Final = (
    type(None), bool, int, float, complex, str, bytes, type, ModuleType, BuiltinFunctionType,
    CodeType, nn.Module, torch.dtype, torch.device, torch.Size,
)  # fmt: skip
_FLAGS: Final = frozenset({type(None), bool, int, float, str})
_LISTS: Final = frozenset({tuple, list, dict, set, OrderedDict})
_MANY: Final = 10_000


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
    parameters = dict(module.named_parameters(remove_duplicate=False))
    own: dict[str, Tensor] = {**parameters, **dict(module.named_buffers(remove_duplicate=False))}
    return (
        own.keys() == module.state_dict().keys()
        and all(map(_is_plain, parameters.values()))
        and len({id(tensor) for tensor in own.values()}) == len(own)
        and not any(map(is_lazy, own.values()))
        and not any(_strays(part) for part in module.modules())
    )


def _is_plain(parameter: nn.Parameter) -> bool:
    """Tell whether another parameter can take its place without losing hooks or its type."""
    hooks = parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    return type(parameter) is nn.Parameter and not hooks


def _strays(module: nn.Module) -> bool:
    """Tell whether blank tensors stand in plain attributes, however deep."""
    registered = ("_parameters", "_buffers", "_modules")
    rest = [
        value
        for name, value in vars(module).items()
        if name not in registered and not _is_nothing(value)
    ]
    seen: set[int] = set()
    while rest:
        value = rest.pop()
        if isinstance(value, Tensor):
            if value.is_meta:
                return True
        elif not isinstance(value, _SIMPLE) and id(value) not in seen:
            seen.add(id(value))
            rest += _parts_of(value)
            if len(seen) > _MANY:
                return True  # nobody can tell
    return False


def _is_nothing(value: object) -> bool:
    """Tell quickly what most attributes are: a flag, a number, or a list of hooks that is empty."""
    kind = type(value)
    return kind in _FLAGS or (kind in _LISTS and not value)


def _parts_of(value: Any) -> list[Any]:
    """Give what an object holds; of functions what they close over, not where they stand."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return [*cells, value.__defaults__, value.__kwdefaults__]
    return [part for part in gc.get_referents(value) if not isinstance(part, _SIMPLE)]


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Put a value in the place of a blank parameter or buffer."""
    assignment(module, name, value)()


def assignment(module: nn.Module, name: str, value: Tensor) -> Callable[[], None]:
    """Prepare to put a value in the place of a blank parameter or buffer; the call does it."""
    path, _, attribute = name.rpartition(".")
    owner = module.get_submodule(path)
    blank_one = owner._parameters.get(attribute)
    if blank_one is None:
        return partial(setitem, owner._buffers, attribute, value)
    filled = nn.Parameter(value, blank_one.requires_grad)
    filled.__dict__.update(blank_one.__dict__)
    return partial(setitem, owner._parameters, attribute, filled)
