"""Writing a model to a file that takes its place only if it does what the model does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from zoo_core.errors import ExportError, InputError
from zoo_core.exporting import Axis, Check, Difference, Exported
from zoo_core.exporting.quiet import at_most, quiet, reason
from zoo_core.exporting.tracing import AXES, Traced, by_head, images, trace
from zoo_core.extras import is_installed
from zoo_core.models.multitask import MultitaskModel

_SECONDS: Final = 180
_LONG: Final = (
    f"torch did not work out in {_SECONDS} s of computing what the model does with any height and "
    f"width; --fixed-size (fixed_size=True) fixes them"
)
_SMALL: Final = (16, 17, 32, 33, 64, 65, 128, 129, 256, 257)
_OTHER: Final = (21, 53)
"""What the larger of the checked sizes has more than the model's own."""

_MEANT: Final = {
    "random": "random pictures",
    "photograph": "a photograph",
    "given": "the given picture",
}


def write_checked(
    model: MultitaskModel,
    path: Path,
    chosen: str,
    *,
    fixed_size: bool,
    picture: Image.Image | None,
    tolerance: float,
) -> Exported:
    """Write a model in the chosen format, as ``zoo.export`` says.

    Raises:
        InputError: If the model is of another precision than float32, or takes no such picture.
        ExportError: If the model cannot be exported, or the file does not do what the model does.
    """
    model = _ready(model)
    size = (224, 224) if model.preprocessing is None else model.preprocessing.size
    photographs = list(_photographs(model, picture))
    with TemporaryDirectory(prefix=".exporting-", dir=path.absolute().parent) as aside:
        written = Path(aside, path.name)
        with quiet():
            with at_most(_SECONDS, _LONG):
                traced = trace(model, size, fixed_size)
                run = _written(traced, written, chosen, _described(model))
            axes, checks = _checked(model, traced, run, size, photographs, tolerance)
        bytes_written = written.stat().st_size
        written.replace(path)
    return Exported(
        path=path,
        format=chosen,
        size=bytes_written,
        input=traced.input,
        outputs=traced.outputs,
        axes=axes,
        checks=checks,
    )


def _ready(model: MultitaskModel) -> MultitaskModel:
    """Give a copy to export: on the CPU, in eval mode, without gradients."""
    if not isinstance(model, MultitaskModel):
        raise InputError(f"export takes a zoo_core.MultitaskModel, not {type(model).__name__}")
    for name, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise InputError(f"the model has no values: {name} is on the meta device")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise InputError(f"export takes models of float32; {name} is {tensor.dtype}")
    try:
        return copy.deepcopy(model).cpu().eval().requires_grad_(False)
    except Exception as error:
        raise ExportError(f"the model cannot be copied: {reason(error)}") from error


def _photographs(
    model: MultitaskModel, picture: Image.Image | None
) -> Iterator[tuple[str, Tensor]]:
    """Give the picture to check with, prepared, if there is one that the model takes."""
    channels = model.backbone.constructor_arguments.get("in_channels", 3)
    if model.preprocessing is None or channels not in (1, 3):
        if picture is not None:
            raise InputError(
                f"the model takes {channels} channels; pictures give 1 or 3"
                if model.preprocessing
                else "the model does not know its preprocessing; set model.preprocessing"
            )
        return
    name = "given"
    if picture is None:
        if not is_installed("skimage"):
            return
        from skimage import data

        name, picture = "photograph", Image.fromarray(data.chelsea())  # type: ignore[no-untyped-call]
    from zoo_core.pictures import prepare

    picture = picture.convert("L" if channels == 1 else "RGB")
    yield name, prepare(picture, model.preprocessing)[None]


def _described(model: MultitaskModel) -> dict[str, str]:
    """Give what whoever runs the file has to know of the model."""
    known = model.preprocessing
    return {
        "recipe": model.recipe.canonical if model.recipe else "",
        "preprocessing": json.dumps(asdict(known) if known else None),
        "labels": json.dumps(model.labels),
    }


def _written(
    traced: Traced, path: Path, chosen: str, described: dict[str, str]
) -> Callable[[Tensor], Any]:
    """Write the file, and give a function that runs it."""
    if chosen == "onnx":
        from zoo_core.exporting import onnx_file as form
    else:
        from zoo_core.exporting import torch_file as form  # type: ignore[no-redef]
    try:
        form.write(traced, path, described)
        run: Callable[[Tensor], Any] = form.reader(path)
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"torch cannot write the model as {chosen}: {reason(error)}") from error
    return run


def _checked(
    model: MultitaskModel,
    traced: Traced,
    run: Callable[[Tensor], Any],
    size: tuple[int, int],
    photographs: list[tuple[str, Tensor]],
    tolerance: float,
) -> tuple[dict[str, Axis], tuple[Check, ...]]:
    """Run the file beside the model; give the axes with their smallest lengths, and the runs."""

    def check(pictures: str, given: Tensor) -> Check:
        return _check(model, run, pictures, given, tolerance)

    axes = dict(traced.axes)
    batches = (1, 3) if axes["batch"].fixed is None else (1, 1)
    other, least = size, [size]
    if axes["height"].fixed is None:
        other = (
            _at_most(axes["height"], size[0] + _OTHER[0]),
            _at_most(axes["width"], size[1] + _OTHER[1]),
        )
        least = _least_sizes(traced)
    checks = [check("random", images(model, batches[1], other))]
    for smallest in least:
        try:
            checks.insert(0, check("random", images(model, batches[0], smallest)))
        except ExportError:
            if smallest == least[-1]:
                raise
        else:
            break
    for name, length in zip(AXES, (1, *smallest), strict=True):
        axes[name] = replace(axes[name], least=length)
    checks += [check(name, photograph) for name, photograph in photographs]
    return axes, tuple(checks)


def _at_most(axis: Axis, length: int) -> int:
    return length if axis.most is None else min(length, axis.most)


def _least_sizes(traced: Traced) -> list[tuple[int, int]]:
    """Give sizes that may be the smallest that the file takes, the smallest first."""
    least = [traced.axes[name].least for name in ("height", "width")]
    sides = sorted({*least, *_SMALL})
    sizes = [(max(side, least[0]), max(side, least[1])) for side in sides]
    limit = min(traced.example[2:])
    return [size for size in dict.fromkeys(sizes) if max(size) <= limit]


def _check(
    model: MultitaskModel,
    run: Callable[[Tensor], Any],
    pictures: str,
    given: Tensor,
    tolerance: float,
) -> Check:
    """Run file and model on the same pictures.

    Raises:
        ExportError: If one of them fails, or they differ.
    """
    on = f"on {_MEANT[pictures]}, {'×'.join(map(str, given.shape))}"
    with torch.no_grad():
        try:
            expected = by_head(model, model(given))
        except Exception as error:
            raise ExportError(f"the model itself fails {on}: {reason(error)}") from error
        try:
            found = by_head(model, run(given))
        except Exception as error:
            raise ExportError(f"the exported file fails {on}: {reason(error)}") from error
    if found.keys() != expected.keys():
        raise ExportError(f"the exported file gives {list(found)}, the model {list(expected)}")
    differences = {
        head: _difference(found[head], values, f"{head} {on}") for head, values in expected.items()
    }
    for head, difference in differences.items():
        if not difference.relative <= tolerance:
            raise ExportError(
                f"the exported file differs from the model: {head} {on} by up to "
                f"{difference.largest:.2g}, {difference.relative:.2g} of the largest value; the "
                f"tolerance is {tolerance:g}, so nothing is written"
            )
    return Check(pictures=pictures, shape=tuple(given.shape), differences=differences)


def _difference(found: Tensor, expected: Tensor, what: str) -> Difference:
    if found.shape != expected.shape:
        raise ExportError(
            f"the exported file differs from the model: {what} has the shape {list(found.shape)}, "
            f"not {list(expected.shape)}"
        )
    if not expected.isfinite().all():
        raise ExportError(f"the model's {what} has values that are not finite")
    largest = float((found - expected).abs().max())
    scale = float(expected.abs().max())
    return Difference(largest=largest, relative=largest / scale if scale else largest)
