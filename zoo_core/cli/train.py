"""``zoo train``: a model, trained on a folder of data, in a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from zoo_core.cli.config import config_option, read_config
from zoo_core.cli.options import (
    CountType,
    ModelType,
    SizeType,
    device_option,
    licence_option,
    parse_settings,
)
from zoo_core.cli.tables import echo_json
from zoo_core.errors import CheckpointError, OptionError
from zoo_core.hookspecs import hookimpl
from zoo_core.training.settings import (
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    STRATEGIES,
    Settings,
)

if TYPE_CHECKING:
    from zoo_core.evaluation import Evaluator
    from zoo_core.training.job import Job
    from zoo_core.training.trainer import Trainer

_CONFIG: Final = "config.yaml"
_NEWEST: Final = ""
_SHARE: Final = click.FloatRange(0, 1)
_ABOVE: Final = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("recipe", metavar="RECIPE_OR_DIR", type=ModelType(), required=False)
@click.option("--data", type=click.Path(), metavar="DIR", help="The data set; see zoo data check.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The run's folder.  [default: runs/run-001, and on]",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_NEWEST,
    metavar="[DIR]",
    help="Go on with the run in DIR, or in --out's folder, if it was begun; as it was begun. DIR "
    "may be one of its checkpoints.",
)
@config_option
@click.option(
    "--epochs",
    type=CountType(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="How often the data are gone through.",
)
@click.option(
    "--batch-size",
    type=CountType(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Pictures a batch, of all processes together.",
)
@click.option(
    "--lr",
    type=_ABOVE,
    default=1e-3,
    show_default=True,
    metavar="X",
    help="The largest learning rate.",
)
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adamw", show_default=True)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0),
    default=0.01,
    show_default=True,
    metavar="X",
    help="Of all weights but norms and biases.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    default="cosine",
    show_default=True,
    help="How the learning rate goes.",
)
@click.option(
    "--warmup",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="EPOCHS",
    help="Over how many epochs it rises; with cosine.",
)
@click.option(
    "--accumulate",
    type=CountType(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Batches to a step.",
)
@click.option("--clip", type=_ABOVE, metavar="NORM", help="Clip gradients to this norm.")
@click.option(
    "--ema",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="Average the weights, keeping this share a step, such as 0.999.",
)
@click.option(
    "--freeze",
    multiple=True,
    metavar="PART",
    help="A part that is not trained, such as backbone. Repeatable.",
)
@click.option(
    "--layer-decay",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="What each layer's learning rate is of the next one's, such as 0.75.",
)
@click.option("--label-smoothing", type=_SHARE, default=0.0, show_default=True, metavar="SHARE")
@click.option("--balance", is_flag=True, help="Weigh classes by how rare they are.")
@click.option(
    "--task-weights",
    metavar="TEXT",
    help="Weights of losses, classification=1,segmentation=0.5; or uncertainty, to learn them.",
)
@click.option(
    "--patience",
    type=CountType(min=1),
    metavar="N",
    help="Stop after this many epochs without a lower validation loss.",
)
@click.option(
    "--val-share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of the pictures held out to validate on, where there is no such split.",
)
@click.option(
    "--flip",
    type=_SHARE,
    default=0.5,
    show_default=True,
    metavar="P",
    help="How probable it is that a picture is flipped.",
)
@click.option(
    "--jitter",
    type=_SHARE,
    default=0.2,
    show_default=True,
    metavar="X",
    help="How much brightness, contrast and saturation change.",
)
@click.option(
    "--ignore-index",
    type=int,
    default=255,
    show_default=True,
    metavar="I",
    help="The number of a mask's pixels that belong to no class.",
)
@click.option(
    "--seg-classes",
    type=CountType(min=2),
    metavar="N",
    help="Classes of the masks.  [default: counted]",
)
@click.option(
    "--mask-names",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Names of the masks' classes, one a line.",
)
@click.option("--pretrained", is_flag=True, help="Begin with the backbone's default weights.")
@click.option(
    "--weights",
    type=click.Path(),
    metavar="FILE",
    help="Begin with the backbone's weights in a local .safetensors file.",
)
@licence_option
@click.option(
    "--in-channels",
    type=click.IntRange(1, 3),
    metavar="N",
    help="1 for grey, 3 for colour.  [default: 3]",
)
@click.option(
    "--image-size", type=SizeType(), metavar="SIZE", help="Side, or HEIGHTxWIDTH, in pixels."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PART.OPTION=VALUE",
    help="Set an option of a part, named by its role or its name. Repeatable.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Fixes weights, order and augmentation.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@click.option("--channels-last", is_flag=True, help="Lay pictures out with their channels last.")
@click.option("--compile", is_flag=True, help="Compile the model.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="ddp",
    show_default=True,
    help="With several processes: a replica in each, or shards.",
)
@click.option(
    "--save-every",
    type=CountType(min=0),
    default=0,
    show_default=True,
    metavar="STEPS",
    help="Write a checkpoint within epochs too.",
)
@device_option
@click.option(
    "--workers",
    type=CountType(min=0),
    metavar="N",
    help="Processes that read pictures.  [default: one a core, at most 8]",
)
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in the end.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    out: Path | None,
    resume: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a model on a folder of data.

    RECIPE_OR_DIR is a recipe, as for build, or the folder of a saved model to go on from. Its
    heads get the data's classes: folders of pictures, masks, or both; see zoo data check.

    The run's folder gets the best model by its validation loss (model, for zoo predict, evaluate
    and export), checkpoints, metrics, pictures of curves and predictions, and all settings.
    torchrun --nproc-per-node 4 -m zoo_core train … is the same command on four processes.

    \b
    Examples:
      zoo train resnet18+cbam+unet --data data/streets --epochs 30 --pretrained
      zoo train resnet18 --data data/pets --config fast.yaml --lr 3e-4
      zoo train --resume runs/run-001
    """
    checkpoint, resume = _checkpoint(resume)
    folder, resumes = _folder(out, resume)
    stored = folder / _CONFIG
    goes_on = resumes and stored.is_file()
    if goes_on:
        given = _as_begun(ctx, given, stored)
    settings = _settings(given, resumes, folder)
    parts = parse_settings(settings.settings)
    if Path(settings.recipe, "config.json").is_file():
        _check_saved(settings)
    from zoo_core.hardware import keep_freed_memory
    from zoo_core.training.job import Job
    from zoo_core.training.world import join

    keep_freed_memory()
    world = join(settings.device)
    folder = world.from_main(folder)  # another process may have begun it by now
    shows = world.is_main and not as_json
    job = Job(settings, parts, folder, _callbacks(folder, settings, shows) if world.is_main else ())
    if world.is_main:
        _begin(job, folder, goes_on)
    if shows:
        _echo_begin(job, folder)
    history = job.run(checkpoint or resumes)
    evaluator = job.evaluate()
    if world.is_main:
        found = _finish(job, folder, history, evaluator)
        if as_json:
            echo_json(found)
        else:
            click.echo()
            click.echo(f"model    {folder / 'model'}")
            click.echo(f"curves   {folder / 'curves.png'}")


def _checkpoint(resume: str | None) -> tuple[Path | None, str | None]:
    """Give the checkpoint to go on from, if one was named, and the folder of its run."""
    path = Path(resume or "")
    if path.parent.name == "checkpoints" and (path.parents[1] / _CONFIG).is_file():
        return path, str(path.parents[1])
    return None, resume


def _folder(out: Path | None, resume: str | None) -> tuple[Path, bool]:
    """Give the run's folder, and whether it is to be gone on with."""
    if resume:
        folder = Path(resume)
        if out is not None and out != folder:
            raise OptionError(f"--resume {folder} and --out {out} are two folders; give one")
        if not (folder / _CONFIG).is_file():
            raise CheckpointError(f"{folder} is no folder of a run: no {_CONFIG} in it")
        return folder, True
    runs = sorted(Path("runs").glob("run-[0-9][0-9][0-9]*"))
    if resume is not None:
        if out is None and not runs:
            raise OptionError("--resume: there are no runs in runs; name the folder of one")
        return out or runs[-1], True
    if out is None:
        number = 1 + max(
            (int(path.name[4:]) for path in runs if path.name[4:].isdecimal()), default=0
        )
        out = Path("runs", f"run-{number:03d}")
    elif out.is_dir() and any(out.iterdir()):
        raise OptionError(f"--out {out} holds files already; --resume goes on with a run there")
    return out, False


def _as_begun(ctx: click.Context, given: dict[str, Any], stored: Path) -> dict[str, Any]:
    """Give the options that a run was begun with, and what was asked for now."""
    now = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    asked = {k: v for k, v in given.items() if ctx.get_parameter_source(k) in now}
    begun: dict[str, Any] = dict.fromkeys(given)
    values = read_config(ctx, stored)
    for parameter in ctx.command.params:
        if parameter.name in given:
            value = values.get(parameter.name)
            missing = () if parameter.multiple else None
            begun[parameter.name] = (
                missing if value is None else parameter.type_cast_value(ctx, value)
            )
    begun["licences"] = begun["licences"] or None
    wanted: dict[str, Any] = {**begun, **asked}
    Settings(**wanted).check_as_begun(Settings(**begun), stored.parent)
    return wanted


def _settings(given: dict[str, Any], resumes: bool, folder: Path) -> Settings:
    for name, what in (("recipe", "RECIPE_OR_DIR, such as resnet18"), ("data", "--data DIR")):
        if given[name] is None:
            more = f"; there is no run in {folder} to go on with" if resumes else ""
            raise OptionError(f"what to train is missing: {what}{more}")
    if not set(given) == {field.name for field in fields(Settings)}:
        raise AssertionError("options and settings differ")
    return Settings(**given)


def _check_saved(settings: Settings) -> None:
    """Refuse what a saved model cannot be told."""
    own = {
        "--pretrained": settings.pretrained,
        "--weights": settings.weights,
        "--license": settings.licences,
        "--in-channels": settings.in_channels,
        "--image-size": settings.image_size,
        "--set": settings.settings,
    }
    flags = ", ".join(flag for flag, value in own.items() if value)
    if flags:
        raise OptionError(f"{flags}: a saved model is used as it is; leave this away")


def _callbacks(folder: Path, settings: Settings, shows: bool) -> list[object]:
    from zoo_core.training.callbacks import CSVLog, TensorBoardLog

    callbacks: list[object] = [CSVLog(folder / "metrics.csv")]
    if settings.tensorboard:
        callbacks.append(TensorBoardLog(folder / "tensorboard"))
    return [*callbacks, _Lines(settings.epochs)] if shows else callbacks


def _begin(job: Job, folder: Path, goes_on: bool) -> None:
    from zoo_core.training.artefacts import environment, write_json

    folder.mkdir(parents=True, exist_ok=True)
    if not goes_on:
        (folder / _CONFIG).write_text(job.settings.to_yaml(), encoding="utf-8")
    write_json(folder / "environment.json", environment(job.world))


def _echo_begin(job: Job, folder: Path) -> None:
    assert job.model.recipe is not None
    count = len(job.train_data)  # type: ignore[arg-type]
    val = "nothing" if job.val_data is None else f"{len(job.val_data):,}"  # type: ignore[arg-type]
    click.echo(f"recipe   {job.model.recipe.canonical}")
    report = job.model.load_report
    for line in report.lines() if report else ["random initial values"]:
        click.echo(f"weights  {line}")
    click.echo(f"data     {count:,} pictures, validated on {val}")
    click.echo(f"run      {folder}")
    click.echo()


def _finish(
    job: Job, folder: Path, history: Mapping[str, Any], evaluator: Evaluator | None
) -> dict[str, Any]:
    from zoo_core.evaluation.tables import for_json
    from zoo_core.training.artefacts import draw_curves, draw_predictions, measured, write_json

    job.model.save_pretrained(folder / "model")
    found = {} if evaluator is None else measured(evaluator.metrics, job.model.labels)
    write_json(folder / "history.json", history)
    write_json(folder / "metrics.json", found)
    epochs = range(1, len(history["val_loss"]) + 1)
    draw_curves(history, epochs, folder / "curves.png")
    draw_predictions(
        job.model, job.val_data or job.train_data, folder / "predictions.png",
        job.settings.ignore_index,
    )  # fmt: skip
    whole: dict[str, Any] = for_json(
        {"run": str(folder), "model": str(folder / "model"), "history": history, "metrics": found}
    )
    return whole


class _Lines:
    """Prints a line an epoch."""

    _COLUMNS: Final = {
        "train_loss": "loss",
        "val_loss": "val loss",
        "val/accuracy": "accuracy",
        "val/classification/accuracy": "accuracy",
        "val/mean_iou": "mean IoU",
        "val/segmentation/mean_iou": "mean IoU",
    }

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._has_header = False
        self._start = time.perf_counter()

    @hookimpl
    def run_started(self) -> None:
        """Begin to measure."""
        self._start = time.perf_counter()

    @hookimpl
    def epoch_finished(self, trainer: Trainer, epoch: int, results: Mapping[str, float]) -> None:
        """Print."""
        shown = {title: results[key] for key, title in self._COLUMNS.items() if key in results}
        if not self._has_header:
            header = "".join(f"{title:>10}" for title in shown)
            click.secho(f"{'epoch':>9}{header}{'s':>9}", bold=True)
            self._has_header = True
        now = time.perf_counter()
        values = "".join(f"{value:10.4f}" for value in shown.values())
        click.echo(f"{f'{epoch}/{self._epochs}':>9}{values}{now - self._start:9.1f}")
        self._start = now
