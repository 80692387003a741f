"""``zoo evaluate``: how good a model is on a folder of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo_core.cli.options import CountType, ModelType, device_option, model_options, ready_model
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import InputError
from zoo_core.training.settings import PRECISIONS

if TYPE_CHECKING:
    from zoo_core.data.opening import DataFolder
    from zoo_core.evaluation import Evaluator
    from zoo_core.models import MultitaskModel


@click.command()
@click.argument("model", metavar="RECIPE_OR_DIR", type=ModelType())
@click.option(
    "--data", type=click.Path(), required=True, metavar="DIR", help="The data set; see data check."
)
@model_options
@click.option("--split", metavar="NAME", help="Which split.  [default: val, else test, else all]")
@click.option("--batch-size", type=CountType(min=1), default=32, show_default=True, metavar="N")
@click.option(
    "--ignore-index",
    type=int,
    default=255,
    show_default=True,
    metavar="I",
    help="The number of a mask's pixels that belong to no class.",
)
@click.option("--per-class", is_flag=True, help="Show each class.")
@click.option("--confusion", is_flag=True, help="Show which class was taken for which.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@device_option
@click.option(
    "--workers",
    type=CountType(min=0),
    metavar="N",
    help="Processes that read pictures.  [default: one a core, at most 8]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    model: str,
    data: str,
    split: str | None,
    batch_size: int,
    ignore_index: int,
    per_class: bool,
    confusion: bool,
    precision: str,
    device: str | None,
    workers: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a model on a folder of data.

    RECIPE_OR_DIR is a recipe, as for build, the folder of a saved model, or that of a run.

    Pictures are prepared as for predict. Folders of classes that the model knows by name are
    matched by it; others are numbered in the order of their names, which is said.

    \b
    Examples:
      zoo evaluate runs/run-001 --data data/pets
      zoo evaluate my-model --data data/streets --split test --per-class
      zoo evaluate resnet50 --pretrained --data imagenet --json
    """
    from zoo_core.data.opening import DataFolder

    source = DataFolder(data)
    if split is None and source.splits:
        split = source.first("val", "valid", "validation", "test", "testing")
        if split is None:
            raise InputError(f"{data} has {', '.join(source.splits)}; say which with --split")
    source.part(split)
    run = Path(model, "model")
    ready = ready_model(str(run) if (run / "config.json").is_file() else model, options)
    evaluator = _measure(
        ready, source, split,
        batch_size=batch_size, ignore_index=ignore_index, precision=precision, device=device,
        workers=workers,
    )  # fmt: skip
    if not _is_main():
        return
    if as_json:
        from zoo_core.evaluation.tables import for_json
        from zoo_core.training.artefacts import measured

        echo_json(for_json(measured(evaluator.metrics, ready.labels)))
    else:
        _echo(evaluator, ready, per_class, confusion)


def _is_main() -> bool:
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def _measure(
    model: MultitaskModel,
    source: DataFolder,
    split: str | None,
    *,
    batch_size: int,
    ignore_index: int,
    precision: str,
    device: str | None,
    workers: int | None,
) -> Evaluator:
    from zoo_core.data.transforms import Transforms
    from zoo_core.training.job import count_workers
    from zoo_core.training.job import evaluate as measure
    from zoo_core.training.precision import HALF
    from zoo_core.training.world import join

    if model.preprocessing is None:
        raise InputError("the model does not say how pictures become its inputs")
    dataset = source.dataset(
        split,
        Transforms.like(model.preprocessing, ignore_index=ignore_index),
        classes=_classes(model, source),
        mask_classes=model.num_classes_segmentation or None,
        ignore_index=ignore_index,
        channels=len(model.preprocessing.mean),
    )
    world = join(device)
    return measure(
        model, dataset, batch_size, count_workers(workers),
        device=world.device, dtype=HALF.get(precision), ignore_index=ignore_index,
    )  # fmt: skip


def _classes(model: MultitaskModel, source: DataFolder) -> tuple[str, ...] | None:
    """Give the order that the folders' classes have in the model."""
    count = model.num_classes_classification
    if not source.classes or not count:
        return None
    known = model.labels.get("classification", ())
    unknown = [name for name in source.classes if name not in known]
    if known and not unknown:
        return known
    if len(source.classes) != count:
        what = f"it does not know {unknown[0]!r}" if known else "it has no names for them"
        raise InputError(
            f"{source.root} has {len(source.classes)} classes, the model {count}; {what}"
        )
    if known:
        click.echo(
            f"zoo: the model does not know the class {unknown[0]!r} by name; folders are numbered "
            f"in the order of their names",
            err=True,
        )
    return source.classes


def _echo(evaluator: Evaluator, model: MultitaskModel, per_class: bool, confusion: bool) -> None:
    from zoo_core.evaluation.tables import confusion_table, per_class_table

    for number, (task, metrics) in enumerate(evaluator.metrics.items()):
        if number:
            click.echo()
        rows = [
            [name.replace("_", " "), f"{value:,}" if isinstance(value, int) else f"{value:.4f}"]
            for name, value in metrics.compute().items()
            if isinstance(value, int | float)
        ]
        echo_table([task, "value"], rows, right="value")
        names = model.labels.get(task)
        for is_wanted, table in ((per_class, per_class_table), (confusion, confusion_table)):
            if is_wanted:
                click.echo()
                echo_table(*table(metrics, names))
