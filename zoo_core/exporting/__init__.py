"""``zoo.export``: models as files that run without the zoo.

All that can be refused without torch is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo_core.errors import ExportError, InputError
from zoo_core.extras import require

if TYPE_CHECKING:
    from PIL import Image

    from zoo_core.models import MultitaskModel

SUFFIXES: Final = {"onnx": ".onnx", "torch-export": ".pt2"}

Shape = tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the pictures.

    Attributes:
        index: Its place in their shape.
        fixed: Its only length; ``None`` if it is open.
        least: The smallest length that the file was checked with.
        most: The largest length that it takes; ``None`` for any.
    """

    index: int
    fixed: int | None
    least: int
    most: int | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest difference of one output from the model's: absolute, and of its largest value."""

    largest: float
    relative: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One run of the file beside the model: on what, and what each output differs by."""

    pictures: str
    shape: tuple[int, ...]
    differences: dict[str, Difference]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exported file is, and how it was checked.

    Attributes:
        path: The file.
        format: ``"onnx"`` or ``"torch-export"``.
        size: Its bytes.
        input: Shape of its input, ``"image"``: numbers, and the names of open axes.
        outputs: Shape of each output by its name.
        axes: ``"batch"``, ``"height"`` and ``"width"`` of the pictures.
        checks: The runs that agreed with the model.
    """

    path: Path
    format: str
    size: int
    input: Shape
    outputs: dict[str, Shape]
    axes: dict[str, Axis]
    checks: tuple[Check, ...]


def export(
    model: MultitaskModel,
    path: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - as the command's option is called
    fixed_size: bool = False,
    picture: Image.Image | None = None,
    tolerance: float = 1e-4,
    force: bool = False,
) -> Exported:
    """Write a model, in eval mode, to a file that runs without the zoo, and check that file.

    An ONNX file has the input ``"image"`` and the outputs ``"classification"`` and
    ``"segmentation"``; a file of ``torch.export`` is called as the model is. Batch, height and
    width are open, but for what the model itself ties down. The file is read again and run beside
    the model on random pictures of its smallest size and of an odd one, and on a photograph. It
    takes its place only if all that agrees. Recipe, preprocessing and class names are in it, as
    JSON: in ONNX's metadata, or in the extra files of ``torch.export``.

    Files of ``torch.export`` could hold pickled Python objects; these hold none, as is made sure
    of before one is read. So they lack the example inputs that ``torch.export.save`` would pickle:
    give them back (``program.example_inputs = ((images,), {})``) before AOTInductor compiles one.
    ``torch.export.load`` unpickles whatever other files hold: load only those that you trust.

    Args:
        model: The model, which stays as it is.
        path: The file, ``.onnx`` or ``.pt2``.
        format: ``"onnx"`` or ``"torch-export"``; by default as the file's name ends.
        fixed_size: Whether height and width are fixed to those of the model's preprocessing.
        picture: A picture to check with, instead of scikit-image's photograph of a cat.
        tolerance: The largest difference allowed, as a share of an output's largest value.
        force: Whether a file that is there may be replaced.

    Raises:
        InputError: If an argument cannot be.
        MissingDistributionError: If a library is missing.
        ExportError: If the model cannot be exported, or the file does not do what the model does.
    """
    target = Path(path)
    chosen = chosen_format(target, format)
    check_target(target, chosen, force)
    if not isinstance(tolerance, int | float) or not 0 <= tolerance < float("inf"):
        raise InputError(f"tolerance must be a number from 0, not {tolerance!r}")
    from zoo_core.exporting.writing import write_checked

    return write_checked(
        model, target, chosen, fixed_size=fixed_size, picture=picture, tolerance=tolerance
    )


def chosen_format(path: Path, given: str | None) -> str:
    """Give the format that is meant.

    Raises:
        InputError: If there is none, or it does not fit the file's name.
    """
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    named = by_suffix.get(path.suffix.lower())
    if given is not None and given not in SUFFIXES:
        raise InputError(f"format is {' or '.join(SUFFIXES)}, not {given!r}")
    if named is None or given not in (None, named):
        forms = [
            f"{suffix} for {name}" for suffix, name in by_suffix.items() if given in (None, name)
        ]
        raise InputError(f"{path}: the name of the file ends in {', '.join(forms)}")
    return named


def check_target(path: Path, chosen: str, force: bool) -> None:
    """Check that a file can be written, and that what its format needs is installed.

    Raises:
        ExportError: If there is no such folder, or something is there already.
        MissingDistributionError: If a library is missing.
    """
    if not path.absolute().parent.is_dir():
        raise ExportError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ExportError(f"{path} is a folder")
    if path.exists() and not force:
        raise ExportError(f"{path} is there already; --force (force=True) replaces it")
    if chosen == "onnx":
        names = ("onnx", "onnxruntime", "onnxscript")
        require("onnx", "export to ONNX", **{name: name for name in names})


def to_json(exported: Exported, **more: Any) -> dict[str, Any]:
    """Give the report for machines."""
    from dataclasses import asdict

    return {
        "path": str(exported.path),
        "format": exported.format,
        "bytes": exported.size,
        "inputs": [{"name": "image", "dtype": "float32", "shape": list(exported.input)}],
        "outputs": [
            {"name": name, "dtype": "float32", "shape": list(shape)}
            for name, shape in exported.outputs.items()
        ],
        "axes": {name: asdict(axis) for name, axis in exported.axes.items()},
        "checks": [asdict(check) | {"shape": list(check.shape)} for check in exported.checks],
        **more,
    }
