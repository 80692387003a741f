"""Metrics beside torchmetrics': the time of updates and results, which must be equal.

torchmetrics' are in a ``MetricCollection``, whose groups of metrics share their counts; they are
found before the clock is read. A round is some updates and one set of results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from benchmarks.comparing import Area, Comparison, interleaved
from zoo_core.evaluation import ClassificationMetrics, SegmentationMetrics

ROUNDS: Final = 7
CLASSES, BATCH, SIZE, UPDATES = 21, 8, 512, 3
SMALL: Final = 64
"""Side of the pictures of a quick run."""
IGNORED: Final = 255
NAMES, SAMPLES, TIMES = 1000, 256, 8
"""Classes, batch and updates of the classification."""

LARGEST: Final = "largest logits and a count"
COUNT: Final = "one count"
SOFTMAX: Final = "softmax alone"

TEXT: Final = """Updates and one set of results, by one thread and its own time; the run checks that
the results are equal. Segmentation is of {batch} pictures of {size}×{size} pixels with {classes}
classes, classification of {samples} samples with {names:,} classes. torchmetrics' metrics are in a
`MetricCollection`, whose groups share their counts. The zoo always counts all that it has; in the
rows of IoU alone, torchmetrics counts a part. The limits are `torch.bincount` over ready pairs of
classes, where there are logits after the largest of each pixel's, and a softmax of the logits."""

Batches = Sequence[tuple[Tensor, Tensor]]


def pixels(size: int) -> Batches:
    """Give logits that are often right, and targets of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, CLASSES, (BATCH, size, size), generator=generator)
    logits = torch.randn(BATCH, CLASSES, size, size, generator=generator)
    logits.scatter_add_(1, targets[:, None], torch.full((BATCH, 1, size, size), 2.0))
    targets[torch.rand(targets.shape, generator=generator) < 0.05] = IGNORED
    return [(logits, targets)] * UPDATES


def samples() -> Batches:
    """Give logits that are often right, and their targets."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(TIMES):
        targets = torch.randint(0, NAMES, (SAMPLES,), generator=generator)
        logits = torch.randn(SAMPLES, NAMES, generator=generator) * 2
        logits[torch.arange(SAMPLES), targets] += 4
        batches.append((logits, targets))
    return batches


def segmentation(names: Sequence[str]) -> MetricCollection:
    """Give torchmetrics' of segmentation, named as the zoo's."""
    options: dict[str, Any] = {"num_classes": CLASSES, "ignore_index": IGNORED}
    metrics: dict[str, Any] = {
        "class_iou": MulticlassJaccardIndex(**options, average="none"),
        "mean_iou": MulticlassJaccardIndex(**options, average="macro"),
        "class_dice": MulticlassF1Score(**options, average="none"),
        "mean_dice": MulticlassF1Score(**options, average="macro"),
        "pixel_accuracy": MulticlassAccuracy(**options, average="micro"),
    }
    return MetricCollection({name: metrics[name] for name in names or metrics})


def classification() -> MetricCollection:
    """Give torchmetrics' of classification, named as the zoo's."""
    metrics: dict[str, Any] = {
        "accuracy": MulticlassAccuracy(NAMES, average="micro"),
        "top5_accuracy": MulticlassAccuracy(NAMES, average="micro", top_k=5),
        "calibration_error": MulticlassCalibrationError(NAMES, n_bins=15, norm="l1"),
    }
    kinds = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
    for average in ("macro", "weighted"):
        for name, kind in kinds.items():
            metrics[f"{average}_{name}"] = kind(NAMES, average=average)
    return MetricCollection(metrics)


def run(metrics: Any, batches: Batches) -> Mapping[str, Any]:
    """Do a round, and give its results."""
    metrics.reset()
    for predictions, targets in batches:
        metrics.update(predictions, targets)
    results: Mapping[str, Any] = metrics.compute()
    return results


def check(ours: Any, theirs: MetricCollection, batches: Batches) -> None:
    """Make sure that the results are equal; torchmetrics finds its groups by the way."""
    own = run(ours, batches)
    for name, value in run(theirs, batches).items():
        same = torch.tensor(own[name], dtype=value.dtype)
        torch.testing.assert_close(same, value, atol=1e-5, rtol=1e-5)


def counting(batches: Batches) -> Callable[[], None]:
    """Give the limit of segmentation: what it takes to read the logits and to count once."""
    pairs = []
    for predictions, targets in batches:
        classes = predictions.argmax(1) if predictions.ndim == 4 else predictions
        known = targets != IGNORED
        pairs.append((targets * CLASSES + classes)[known])

    def count() -> None:
        for (predictions, _), flat in zip(batches, pairs, strict=True):
            if predictions.ndim == 4:
                predictions.amax(1)
            torch.bincount(flat, minlength=CLASSES**2)

    return count


def softmax(batches: Batches) -> None:
    """Do what calibration cannot do without."""
    for logits, _ in batches:
        logits.softmax(1)


def measure(quick: bool) -> Area:
    """Compare on logits and on class indices, and on one metric alone."""
    torch.set_num_threads(1)
    size = SMALL if quick else SIZE
    logits = pixels(size)
    indices = [(predictions.argmax(1), targets) for predictions, targets in logits]
    forms = (("logits", logits, LARGEST), ("indices", indices, COUNT))
    works: list[tuple[str, Any, MetricCollection, Batches, str, Callable[[], None]]] = [
        (
            f"segmentation, {form}, {what}",
            SegmentationMetrics(CLASSES),
            segmentation(names),
            batches,
            limit,
            counting(batches),
        )
        for what, names in (("all five", ()), ("IoU by class alone", ("class_iou",)))
        for form, batches, limit in forms
    ]
    few = samples()
    works.append(
        (
            "classification, logits",
            ClassificationMetrics(NAMES),
            classification(),
            few,
            SOFTMAX,
            partial(softmax, few),
        )
    )
    comparisons = []
    for work, ours, theirs, batches, limit, alone in works:
        check(ours, theirs, batches)
        runs: dict[str, Callable[[], object]] = {
            "zoo": partial(run, ours, batches),
            "torchmetrics": partial(run, theirs, batches),
            limit: alone,
        }
        taken = interleaved(runs, 1 if quick else ROUNDS, clock=time.process_time)
        comparisons.append(Comparison(work, taken, limit=limit))
    versions = {"torchmetrics": version("torchmetrics")}
    text = TEXT.format(batch=BATCH, size=size, classes=CLASSES, samples=SAMPLES, names=NAMES)
    return Area("metrics", "Metrics", text, comparisons, versions=versions)
