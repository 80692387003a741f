"""``zoo predict``: what a model says of pictures."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zoo_core.cli.options import ModelType, device_option, model_options, ready_model
from zoo_core.cli.tables import echo_json
from zoo_core.errors import InputError
from zoo_core.training.settings import PRECISIONS

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo_core.models import MultitaskModel
    from zoo_core.prediction import Prediction, Predictor, Prepared, Ranked

    Answer = tuple[Image, Prediction] | InputError

BATCH: Final = 16
READERS: Final = 4
"""Threads that read pictures while the model runs."""


@dataclass(frozen=True)
class _Read:
    """A picture as it was read, and as the model takes it; or what is wrong with it."""

    path: Path
    picture: Any = None
    prepared: Prepared | None = None
    problem: InputError | None = None


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
@click.option(
    "--exact",
    is_flag=True,
    help="Run each picture alone and the model as it is, with no fused layers.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="What the model is run in; scores change with it.",
)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    model: str,
    images: tuple[str, ...],
    top: int,
    output: Path,
    exact: bool,
    precision: str,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Classify and segment pictures with a model.

    RECIPE_OR_DIR is a recipe, as for build, or the folder of a saved model.

    IMAGE is a picture, a folder of pictures or a quoted glob. Pictures that cannot be read are
    named and skipped, and the exit code is then 1.

    Pictures are run in batches and with fused layers, which moves scores by rounding.

    \b
    Examples:
      zoo predict resnet50 --pretrained cat.jpg
      zoo predict timm/efficientnet_lite0 --weights lite0.safetensors photos/
      zoo predict my-model 'photos/*.png' --output masks --json
      zoo predict my-model photos/ --exact --json
    """
    ready = ready_model(model, options, device)
    _check_takes_pictures(ready, model)
    predictor = _predictor(ready, top, exact, precision)
    failed = False
    results: list[dict[str, Any]] = []
    found = list(_found(images, output))
    taken = {path.resolve() for path, _ in found}
    quiet = not as_json or not sys.stderr.isatty()
    with click.progressbar(
        length=len(found), label="pictures", file=sys.stderr, hidden=quiet
    ) as bar:
        for path, answer in answered(predictor, found, _channels(ready), 1 if exact else BATCH):
            bar.update(1)
            try:
                if isinstance(answer, InputError):
                    raise answer
                results.append(_shown(path, *answer, output, taken))
            except InputError as error:
                failed = True
                click.echo(f"zoo: skipped {error}", err=True)
            else:
                if not as_json:
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


def _predictor(model: MultitaskModel, top: int, exact: bool, precision: str) -> Predictor:
    from zoo_core.prediction import Predictor
    from zoo_core.training.precision import HALF

    return Predictor(model, top, exact, HALF.get(precision))


def answered(
    predictor: Predictor, found: Sequence[tuple[Path, str | None]], channels: int, size: int
) -> Iterator[tuple[Path, Answer]]:
    """Give each picture with what the model says of it, or with what is wrong, in order.

    The first picture goes alone, so that its answer comes soon, and the others in batches of a
    size, while the next ones are being read.
    """
    from zoo_core.pictures import read_picture

    def read(path: Path, problem: str | None) -> _Read:
        try:
            if problem is not None:
                raise InputError(problem)
            picture = read_picture(path, channels)
            with _naming(path):
                return _Read(path, picture, predictor.prepare(picture))
        except InputError as error:
            return _Read(path, problem=error)

    batches = [found[:1], *(found[i : i + size] for i in range(1, len(found), size))]
    with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as readers:
        ahead = [readers.submit(read, *each) for each in batches[0]]
        for following in [*batches[1:], []]:
            pictures = [each.result() for each in ahead]
            ahead = [readers.submit(read, *each) for each in following]
            answers = _predicted(predictor, pictures)
            yield from ((each.path, answers[each.path]) for each in pictures)


def _predicted(predictor: Predictor, pictures: list[_Read]) -> dict[Path, Answer]:
    """Predict those that could be read; where the model refuses a batch, one by one."""
    answers: dict[Path, Answer] = {each.path: each.problem for each in pictures if each.problem}
    read = [(each, each.prepared) for each in pictures if each.prepared is not None]
    try:
        predictions = predictor.predict([prepared for _, prepared in read])
        answers |= {
            each.path: (each.picture, prediction)
            for (each, _), prediction in zip(read, predictions, strict=True)
        }
    except InputError:
        for each, prepared in read:
            try:
                with _naming(each.path):
                    answers[each.path] = each.picture, predictor.predict([prepared])[0]
            except InputError as error:
                answers[each.path] = error
    return answers


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put a picture's path before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _shown(
    path: Path, picture: Image, prediction: Prediction, output: Path, taken: set[Path]
) -> dict[str, Any]:
    from zoo_core.pictures import paint

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
