"""Metrics side by side with torchmetrics': the time of updates and results, which must be equal.

torchmetrics' are in a ``MetricCollection``, whose groups of metrics share their counts; they are
found before the clock is read. A round is some updates and one set of results; rounds are
interleaved.

Run ``python -m benchmarks.metrics [ROUNDS [THREADS]]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
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

from zoo_core.evaluation import ClassificationMetrics, SegmentationMetrics

ROUNDS: Final = 11
CLASSES, BATCH, SIZE, UPDATES = 21, 8, 512, 3
NAMES, SAMPLES, TIMES = 1000, 256, 8
"""Classes, batch and updates of the classification."""

Batches = Sequence[tuple[Tensor, Tensor]]


def pixels() -> Batches:
    """Give logits that are often right, and targets of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, CLASSES, (BATCH, SIZE, SIZE), generator=generator)
    logits = torch.randn(BATCH, CLASSES, SIZE, SIZE, generator=generator)
    logits.scatter_add_(1, targets[:, None], torch.full((BATCH, 1, SIZE, SIZE), 2.0))
    targets[torch.rand(targets.shape, generator=generator) < 0.05] = 255
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
    options: dict[str, Any] = {"num_classes": CLASSES, "ignore_index": 255}
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


def seconds(metrics: Any, batches: Batches) -> tuple[float, Mapping[str, Any]]:
    """Give the time of a round, and its results."""
    metrics.reset()
    start = time.perf_counter()
    for predictions, targets in batches:
        metrics.update(predictions, targets)
    results = metrics.compute()
    return time.perf_counter() - start, results


def compare(what: str, ours: Any, theirs: MetricCollection, batches: Batches, rounds: int) -> None:
    """Print how many times as long torchmetrics' take."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(-2, rounds):  # the first two warm up
        found = [seconds(metrics, batches) for metrics in (ours, theirs)]
        for name, value in found[1][1].items():
            own = torch.tensor(found[0][1][name], dtype=value.dtype)
            torch.testing.assert_close(own, value, atol=1e-5, rtol=1e-5)
        if turn >= 0:
            for times, (time_taken, _) in zip(taken, found, strict=True):
                times.append(time_taken)
    ratios = [other / own for own, other in zip(*taken, strict=True)]
    mine, peers = (statistics.median(times) / len(batches) * 1e3 for times in taken)
    print(
        f"{what:40}  {mine:6.1f} ms a batch, torchmetrics {peers:6.1f}: "
        f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) times as fast",
        flush=True,
    )


def main() -> None:
    """Compare on logits and on class indices, and on one metric alone."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    logits = pixels()
    indices = [(predictions.argmax(1), targets) for predictions, targets in logits]
    for what, names in (("all five", ()), ("IoU by class alone", ("class_iou",))):
        for form, batches in (("logits", logits), ("indices", indices)):
            ours = SegmentationMetrics(CLASSES)
            compare(f"segmentation, {form}, {what}", ours, segmentation(names), batches, rounds)
    ours_too = ClassificationMetrics(NAMES)
    compare("classification, logits", ours_too, classification(), samples(), rounds)


if __name__ == "__main__":
    main()
