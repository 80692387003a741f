"""``zoo predict``: what a model says of pictures."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo_core.cli.options import ModelType, model_options, ready_model
from zoo_core.cli.tables import echo_json
from zoo_core.errors import InputError

if TYPE_CHECKING:
    from zoo_core.models import MultitaskModel
    from zoo_core.prediction import Prediction, Ranked


@click.command()
@click.argument("model", metavar="RECIPE_OR_DIR", type=ModelType())
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@model_options
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="K",
    help="How many classes to show.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    default=Path("predictions"),
    show_default=True,
    help="Where pictures with painted masks go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    model: str,
    images: tuple[str, ...],
    top: int,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify and segment pictures with a model.

    RECIPE_OR_DIR is a recipe, as for build, or the folder of a saved model.

    IMAGE is a picture, a folder of pictures or a quoted glob. Pictures that cannot be read are
    named and skipped, and the exit code is then 1.

    \b
    Examples:
      zoo predict resnet50 --pretrained cat.jpg
      zoo predict timm/efficientnet_lite0 --weights lite0.safetensors photos/
      zoo predict my-model 'photos/*.png' --output masks --json
    """
    ready = ready_model(model, options)
    _check_takes_pictures(ready, model)
    failed = False
    results: list[dict[str, Any]] = []
    found = list(_found(images, output))
    taken = {path.resolve() for path, _ in found}
    quiet = not as_json or not sys.stderr.isatty()
    with click.progressbar(found, label="pictures", file=sys.stderr, hidden=quiet) as pictures:
        for path, problem in pictures:
            if problem is None:
                try:
                    results.append(_predict(ready, path, top, output, taken))
                except InputError as error:
                    problem = str(error)
            if problem is not None:
                failed = True
                click.echo(f"zoo: skipped {problem}", err=True)
            elif not as_json:
                _echo(results[-1])
    if as_json:
        echo_json(results)
    if failed:
        ctx.exit(1)


def _check_takes_pictures(model: MultitaskModel, name: str) -> None:
    channels = _channels(model)
    if channels not in (1, 3):
        raise InputError(f"{name} takes {channels} channels; pictures give 1 (grey) or 3 (RGB)")
    if model.preprocessing is None:
        raise InputError(
            f"{name} does not say how pictures become its inputs; set model.preprocessing and save "
            f"it again"
        )


def _channels(model: MultitaskModel) -> int:
    channels: int = model.backbone.constructor_arguments.get("in_channels", 3)
    return channels


def _found(images: Iterable[str], output: Path) -> Iterator[tuple[Path, str | None]]:
    """Give the pictures that arguments mean, or the problem of an argument that means none.

    What lies in ``output`` below a folder are painted masks of an earlier run, and is left out.
    """
    from zoo_core.pictures import SUFFIXES

    for image in images:
        path = Path(image)
        if path.is_dir():
            pictures = {p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES}
            if output.resolve() != path.resolve():
                pictures -= {p for p in pictures if output.resolve() in p.resolve().parents}
            inside = sorted(pictures)
        elif not path.exists() and glob.has_magic(image):
            inside = [Path(p) for p in sorted(glob.glob(image, recursive=True))]  # noqa: PTH207 - may be absolute
        else:
            inside = [path]
        for picture in inside:
            yield picture, None
        if not inside:
            yield path, f"{path}: there are no pictures"


def _predict(
    model: MultitaskModel, path: Path, top: int, output: Path, taken: set[Path]
) -> dict[str, Any]:
    from zoo_core.pictures import paint, read_picture
    from zoo_core.prediction import predict as run

    picture = read_picture(path, _channels(model))
    try:
        prediction: Prediction = run(model, picture, top)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    shown: dict[str, Any] = {
        "path": str(path),
        "classification": _ranked(prediction.classification),
        "segmentation": None,
    }
    if prediction.mask is not None:
        output.mkdir(parents=True, exist_ok=True)
        target = _free(output / f"{path.stem}.png", taken)
        paint(picture, prediction.mask).save(target)
        shown["segmentation"] = {
            "overlay": str(target),
            "classes": _ranked(prediction.segmentation),
        }
    return shown


def _free(path: Path, taken: set[Path]) -> Path:
    """Give the path, or a numbered one if this run reads it or has written there already."""
    number, free = 1, path
    while free.resolve() in taken:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    taken.add(free.resolve())
    return free


def _ranked(ranking: list[Ranked] | None) -> list[dict[str, Any]] | None:
    return None if ranking is None else [vars(item) for item in ranking]


def _echo(shown: dict[str, Any]) -> None:
    click.secho(shown["path"], bold=True)
    for item in shown["classification"] or ():
        click.echo(f"  {item['score']:6.1%}  {item['label']}")
    if shown["segmentation"]:
        for item in shown["segmentation"]["classes"][:5]:
            click.echo(f"  {item['score']:6.1%}  of the pixels: {item['label']}")
        click.echo(f"  mask painted over the picture: {shown['segmentation']['overlay']}")
