"""Seeing what layers give while a model runs, in this thread only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

Seen = Callable[[nn.Module, Any], Any]


@contextmanager
def recording(modules: Mapping[nn.Module, Seen]) -> Iterator[None]:
    """Call a function with each output of some modules, and let it give another output.

    Calls by other threads, which may run the same model, are left alone.

    Args:
        modules: For each module a function of the module and its output; what it gives takes the
            output's place unless it is ``None``.
    """
    owner = threading.get_ident()

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        del inputs
        return modules[module](module, output) if threading.get_ident() == owner else None

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def tensor_of(output: Any) -> Tensor | None:
    """Give the one tensor that matters of a layer's output, ``None`` if there is none.

    That is the last of a list of maps, and the first of a tuple or of an output with names.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if not isinstance(output, list | tuple):
        return None
    values = reversed(output) if isinstance(output, list) else output
    return next((value for value in values if isinstance(value, Tensor)), None)


def with_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """Give a layer's output with its one tensor replaced."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed: Any = {name: new if value is old else value for name, value in output.items()}
        return changed if type(output) is dict else type(output)(**changed)
    values = [new if value is old else value for value in output]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*values)
    return type(output)(values)
