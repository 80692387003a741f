"""Models as programs of ``torch.export``, with open batch, height and width."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from zoo_core.errors import ExportError
from zoo_core.exporting import Axis, Shape
from zoo_core.exporting.quiet import reason
from zoo_core.models.multitask import MultitaskModel

AXES: Final = {"batch": 0, "height": 2, "width": 3}

_BEYOND: Final = (37, 75)
"""What the example has more than the model's own size: an odd number, so that no branch of the
model is traced that only some sizes take."""

_STEP: Final = {"batch": 1, "height": 65, "width": 65}
"""By how much a length is changed to see whether it is free: more than the usual strides."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A program, and what is known of its sizes; ``axes`` have the ranges that torch worked out."""

    program: ExportedProgram
    example: tuple[int, ...]
    input: Shape
    outputs: dict[str, Shape]
    axes: dict[str, Axis]


def trace(model: MultitaskModel, size: tuple[int, int], fixed_size: bool) -> Traced:
    """Trace a model whose own picture size is ``size``.

    Height and width are fixed to that size if asked for, if the model takes no other, or if torch
    cannot leave them open.

    Raises:
        ExportError: If the model cannot be traced.
    """
    beyond = (size[0] + _BEYOND[0], size[1] + _BEYOND[1])
    free = set(AXES)
    if fixed_size or not _takes(model, beyond):
        free -= {"height", "width"}
    while True:
        example = images(model, 2 if "batch" in free else 1, beyond if "width" in free else size)
        traced = _traced(model, example, free)
        tied = {name for name in free if traced.axes[name].fixed is not None}
        tied = tied or _tied(model, traced.program, example, free)
        if not tied:
            return traced
        free -= tied if tied == {"batch"} else tied | {"height", "width"}


def _tied(
    model: MultitaskModel, program: ExportedProgram, example: Tensor, free: set[str]
) -> set[str]:
    """Give the free axes that a program has for open, and yet takes one length of.

    Conditions on sums and quotients of lengths are not in the ranges that torch gives.
    """
    run = program.module()

    def takes(*changed: str) -> bool:
        batch, height, width = (
            example.shape[index] + (name in changed) * _STEP[name] for name, index in AXES.items()
        )
        try:
            with torch.no_grad():
                run(images(model, batch, (height, width)))
        except Exception:
            return False
        return True

    return set() if takes(*free) else {name for name in free if not takes(name)}


def images(model: MultitaskModel, batch: int, size: tuple[int, int]) -> Tensor:
    """Give random pictures, the same ones for one shape."""
    channels = model.backbone.constructor_arguments.get("in_channels", 3)
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def by_head(model: MultitaskModel, given: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the outputs by their heads' names, of a model of one head too."""
    if isinstance(given, Mapping):
        return dict(given)
    return {"segmentation" if model.classifier is None else "classification": given}


def _takes(model: MultitaskModel, size: tuple[int, int]) -> bool:
    try:
        with torch.no_grad():
            model(images(model, 1, size))
    except Exception:
        return False
    return True


def _traced(model: MultitaskModel, example: Tensor, free: set[str]) -> Traced:
    # AUTO ties down what the model ties down, where names would end in an error.
    dims = {AXES[name]: Dim.AUTO for name in free}
    try:
        with torch.no_grad():
            outputs = by_head(model, model(example))
            program = torch.export.export(model, (example,), dynamic_shapes=(dims,))
    except Exception as error:
        raise ExportError(f"torch cannot export the model: {reason(error)}") from error
    shapes = _shapes(program)
    names = {str(shapes[0][AXES[name]]): name for name in free}
    return Traced(
        program=program,
        example=tuple(example.shape),
        input=_named(shapes[0], names),
        outputs={
            head: _named(shape, names) for head, shape in zip(outputs, shapes[1:], strict=True)
        },
        axes={
            name: _axis(index, shapes[0][index], program.range_constraints)
            for name, index in AXES.items()
        },
    )


def _shapes(program: ExportedProgram) -> list[Any]:
    """Give the shapes of the pictures and of each output, with torch's symbols."""
    nodes = {node.name: node for node in program.graph.nodes}
    signature = program.graph_signature
    used = [*signature.user_inputs, *signature.user_outputs]
    return [nodes[str(name)].meta["val"].shape for name in used]


def _named(shape: Any, names: Mapping[str, str]) -> Shape:
    """Give a shape with our names instead of torch's symbols."""

    def renamed(side: int | torch.SymInt) -> int | str:
        if isinstance(side, int):
            return side
        return re.sub(r"\w+", lambda symbol: names.get(symbol[0], symbol[0]), str(side))

    return tuple(map(renamed, shape))


def _axis(index: int, side: int | torch.SymInt, ranges: Mapping[Any, Any]) -> Axis:
    if isinstance(side, int):
        return Axis(index=index, fixed=side, least=side, most=side)
    known = ranges.get(side.node.expr)
    least = 1 if known is None else int(known.lower)
    most = int(known.upper) if known is not None and known.upper.is_Integer else None
    return Axis(index=index, fixed=least if least == most else None, least=least, most=most)
