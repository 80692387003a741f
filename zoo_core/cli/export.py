"""``zoo export``: write a model to a file that runs without the zoo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo_core.cli.options import ModelType, model_options, ready_model
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.exporting import (
    SUFFIXES,
    Exported,
    Shape,
    check_target,
    chosen_format,
    to_json,
)
from zoo_core.exporting import export as write

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo_core.models import MultitaskModel


@click.command()
@click.argument("model", metavar="RECIPE_OR_DIR", type=ModelType())
@model_options
@click.option(
    "--format",
    "given",
    type=click.Choice(list(SUFFIXES)),
    help="What to write.  [default: as --output ends, else onnx]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file.  [default: the model's name, here]",
)
@click.option(
    "--fixed-size", is_flag=True, help="Fix height and width to the model's picture size."
)
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A picture to check with.  [default: scikit-image's cat, if it is installed]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    metavar="X",
    help="Largest difference allowed, as a share of the output's largest value.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    model: str,
    given: str | None,
    output: Path | None,
    fixed_size: bool,
    image: Path | None,
    tolerance: float,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a model to a file that runs without the zoo.

    RECIPE_OR_DIR is a recipe, as for build, or the folder of a saved model.

    The file takes pictures of any number, height and width, as far as the model does. It is run
    beside the model, and kept only if both say the same.

    \b
    Examples:
      zoo export resnet50.a1_in1k
      zoo export my-model --output my-model.pt2
      zoo export timm/swin_tiny_patch4_window7_224+unet --fixed-size
    """
    path = output or Path(_name(model) + SUFFIXES[given or "onnx"])
    chosen = chosen_format(path, given)
    check_target(path, chosen, force)
    ready = ready_model(model, options)
    exported = write(
        ready,
        path,
        format=chosen,
        fixed_size=fixed_size,
        picture=_picture(image, ready),
        tolerance=tolerance,
        force=force,
    )
    if as_json:
        echo_json(to_json(exported, tolerance=tolerance))
    else:
        _echo(exported)


def _name(model: str) -> str:
    if Path(model).is_dir():
        return Path(model).resolve().name
    return re.sub(r"[^\w.-]+", "-", model)


def _picture(image: Path | None, model: MultitaskModel) -> Image | None:
    if image is None:
        return None
    from zoo_core.pictures import read_picture

    return read_picture(image, model.backbone.constructor_arguments.get("in_channels", 3))


def _echo(exported: Exported) -> None:
    rows = [
        [
            check.pictures,
            "×".join(map(str, check.shape)),
            head,
            f"{found.largest:.1e}",
            f"{found.relative:.1e}",
        ]
        for check in exported.checks
        for head, found in check.differences.items()
    ]
    echo_table(
        ["checked on", "shape", "output", "difference", "relative"],
        rows,
        right="difference relative",
    )
    click.echo()
    click.echo(f"file     {exported.path}, {exported.size / 1e6:.1f} MB, {exported.format}")
    click.echo(f"input    image {_shape(exported.input)}")
    for name, shape in exported.outputs.items():
        click.echo(f"output   {name} {_shape(shape)}")
    for name, axis in exported.axes.items():
        if axis.fixed is not None:
            click.echo(f"{name:8} fixed, {axis.fixed}")
        else:
            click.echo(
                f"{name:8} open, from {axis.least}" + (f" to {axis.most}" if axis.most else "")
            )


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape))
