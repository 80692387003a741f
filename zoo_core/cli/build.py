"""``zoo build``: compose a model, and show its stages."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo_core.cli.completion import RecipeType
from zoo_core.cli.options import build_model, model_options
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import SavedModelError

if TYPE_CHECKING:
    from zoo_core.models import MultitaskModel
    from zoo_core.summary import Summary


@click.command()
@click.argument("recipe", type=RecipeType())
@model_options
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="DIR", help="Save the model to a folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(recipe: str, save: Path | None, as_json: bool, **options: Any) -> None:
    """Compose a model from RECIPE and show its stages.

    It is run once, in eval mode, on a black picture.

    \b
    Examples:
      zoo build resnet50+cbam+unet
      zoo build resnet50.a1_in1k --classes 10 --save my-model
      zoo build resnet18+cbam@all+unet --set cbam.reduction=8 --in-channels 4
      zoo build timm/convnext_atto+unet --classes 0 --image-size 256x320 --json
    """
    if save is not None:
        _check_folder(save)
    start = time.perf_counter()
    model = build_model(recipe, **options)
    seconds = time.perf_counter() - start
    from zoo_core.summary import summarise

    assert model.preprocessing is not None
    summary = summarise(model, model.preprocessing.size)
    if save is not None:
        model.save_pretrained(save)
    if as_json:
        echo_json(_to_json(model, summary, seconds, save))
    else:
        _echo(model, summary, seconds, save)


def _check_folder(folder: Path) -> None:
    standing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not standing.is_dir():
        name = folder if folder.exists() else standing
        raise SavedModelError(f"{name} is a file; --save takes a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise SavedModelError(
            f"{folder} holds other files; --save takes a new or empty folder, "
            f"or one with a saved model"
        )


def _origin(model: MultitaskModel) -> list[str]:
    report = model.load_report
    return report.lines() if report else ["random initial values; --pretrained loads weights"]


def _echo(model: MultitaskModel, summary: Summary, seconds: float, save: Path | None) -> None:
    assert model.recipe is not None
    rows = [["input", "", _shape(summary.input_shape), "", ""]]
    for stage in summary.stages:
        is_map = stage.stage == "map"
        cost = ["", ""] if is_map else [f"{stage.parameters:,}", _giga(stage.flops)]
        rows.append(["  map" if is_map else stage.stage, stage.name, _shape(stage.shape), *cost])
    rows.append(["total", "", "", f"{summary.parameters:,}", _giga(summary.flops)])
    header = ["stage", "name", "output", "parameters", "GFLOP"]
    echo_table(header, rows, right="parameters GFLOP")
    click.echo()
    click.echo(f"recipe   {model.recipe.canonical}")
    for number, line in enumerate(_origin(model)):
        click.echo(f"{'' if number else 'weights':7}  {line}")
    times = f"ready in {seconds:.2f} s, one forward {summary.forward_seconds:.2f} s"
    click.echo(f"time     {times}")
    if save is not None:
        click.echo(f"saved    {save}")


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _giga(flops: int) -> str:
    return f"{flops / 1e9:.2f}" if flops >= 5e6 or not flops else f"{flops / 1e9:.4f}"


def _to_json(
    model: MultitaskModel, summary: Summary, seconds: float, save: Path | None
) -> dict[str, Any]:
    assert model.recipe is not None
    return {
        "recipe": model.recipe.canonical,
        "input": list(summary.input_shape),
        "stages": [{**vars(stage), "shape": list(stage.shape)} for stage in summary.stages],
        "parameters": summary.parameters,
        "flops": summary.flops,
        "build_seconds": seconds,
        "forward_seconds": summary.forward_seconds,
        "weights": model.load_report.to_json() if model.load_report else None,
        "saved": str(save) if save else None,
    }
