"""What a run leaves behind to be read and looked at."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from zoo_core import __version__
from zoo_core.catalogue import registry
from zoo_core.evaluation.metrics import Metrics
from zoo_core.evaluation.tables import for_json
from zoo_core.evaluation.tasks import split_output
from zoo_core.models import MultitaskModel
from zoo_core.pictures import paint
from zoo_core.training.world import World

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN: Final = 8
_QUALITY: Final = {"classification": "accuracy", "segmentation": "mean_iou"}
_TITLES: Final = {"accuracy": "accuracy", "mean_iou": "mean IoU"}


def write_json(path: Path, value: Any) -> None:
    """Write JSON; the file is whole or not there. Numbers that are not finite become null."""
    aside = path.with_name(f".{path.name}")
    text = json.dumps(for_json(value), indent=1, ensure_ascii=False)
    aside.write_text(f"{text}\n", encoding="utf-8")
    aside.replace(path)


def environment(world: World) -> dict[str, Any]:
    """Give what a run was made with: command, machine, and versions."""
    device: Any = str(world.device)
    if world.device.type == "cuda":
        device = f"{device} ({torch.cuda.get_device_name(world.device)})"
    plugins = {p.distribution: p.version for p in registry.plugins}
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "processes": world.size,
        "zoo-core": __version__,
        "torch": torch.__version__,
        **{name: metadata.version(name) for name in ("torchvision", "numpy", "pillow")},
        "plugins": plugins,
    }


def measured(metrics: Mapping[str, Metrics], labels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Give all that an evaluation found, by task, for JSON."""
    return {
        task: {
            **found.compute(),
            "classes": list(labels.get(task, map(str, range(found.num_classes)))),
            "per_class": found.per_class(),
            "confusion_matrix": found.confusion_matrix.tolist(),
        }
        for task, found in metrics.items()
    }


def draw_curves(history: Mapping[str, Any], validated: Sequence[int], path: Path) -> None:
    """Draw losses, quality and learning rate over epochs.

    Args:
        history: What ``Trainer.train`` gives.
        validated: The epochs that were validated.
        path: The PNG file.
    """
    epochs = range(1, len(history["train_loss"]) + 1)
    figure = _figure(10.5, 3.2)
    losses, quality, rate = figure.subplots(1, 3)
    losses.plot(epochs, history["train_loss"], label="training")
    if validated:
        losses.plot(validated, history["val_loss"], label="validation")
    losses.legend(frameon=False)
    metrics = history["val_metrics"]
    tasks = metrics if set(metrics) <= set(_QUALITY) else {_only_task(metrics): metrics}
    for task, found in tasks.items():
        name = _QUALITY[task]
        quality.plot(validated, found[name], label=f"{task}: {_TITLES[name]}")
    if tasks and validated:
        quality.legend(frameon=False)
    quality.set_ylim(0, 1)
    rate.plot(epochs, history["learning_rate"], color="tab:gray")
    rate.set_ylim(bottom=0)
    titles = {"loss": losses, "on validation data": quality, "learning rate": rate}
    for title, axes in titles.items():
        _tidy(axes, title)
    _save(figure, path)


def draw_predictions(
    model: MultitaskModel, data: Dataset[Any], path: Path, ignore_index: int = 255
) -> None:
    """Draw some samples with what they are, and what a model says they are.

    Args:
        model: The model, in eval mode.
        data: Samples with labels, masks or both; a few, evenly spread, are shown.
        path: The PNG file.
        ignore_index: What pixels have in masks that belong to no class.
    """
    count: int = len(data)  # type: ignore[arg-type]
    shown = np.unique(np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int))
    samples = [data[int(index)] for index in shown]
    device = next(model.parameters()).device
    with torch.inference_mode():
        outputs = split_output(model(torch.stack([s["image"] for s in samples]).to(device)))
    has_masks = "mask" in samples[0]
    rows = 3 if has_masks else 1
    figure = _figure(1.6 * len(samples), 1.75 * rows + 0.3)
    grid = figure.subplots(rows, len(samples), squeeze=False)
    for column, sample in enumerate(samples):
        picture = _picture(model, sample["image"])
        grid[0, column].imshow(picture)
        if "label" in sample and "classification" in outputs:
            said = int(outputs["classification"][column].argmax())
            true = int(sample["label"])
            names = model.labels.get("classification")
            text = [names[k] if names else str(k) for k in (true, said)]
            is_right = said == true
            grid[0, column].set_title(
                text[0] if is_right else f"{text[1]} (is {text[0]})",
                fontsize=8, color="tab:green" if is_right else "tab:red",
            )  # fmt: skip
        if has_masks:
            mask = sample["mask"].numpy()
            grid[1, column].imshow(paint(picture, np.where(mask == ignore_index, 0, mask), 0.7))
            found = outputs["segmentation"][column].argmax(0).cpu().numpy()
            grid[2, column].imshow(paint(picture, found, 0.7))
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, name in zip(grid[:, 0], ("picture", "mask", "predicted"), strict=False):
        row.set_ylabel(name, fontsize=8)
    _save(figure, path)


def _only_task(metrics: Mapping[str, Any]) -> str:
    return "segmentation" if _QUALITY["segmentation"] in metrics else "classification"


def _picture(model: MultitaskModel, image: torch.Tensor) -> Image.Image:
    """Undo the normalisation."""
    assert model.preprocessing is not None
    mean, std = (
        torch.tensor(values).view(-1, 1, 1)
        for values in (model.preprocessing.mean, model.preprocessing.std)
    )
    values = ((image * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).expand(-1, -1, 3).contiguous().numpy())


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # takes a third of a second

    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
