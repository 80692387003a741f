"""What both metrics do: add up exactly, refuse what is wrong, and never wait for a device."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.evaluation import ClassificationMetrics, SegmentationMetrics

Kind = type[ClassificationMetrics] | type[SegmentationMetrics]
KINDS = [ClassificationMetrics, SegmentationMetrics]


def drawn(kind: Kind, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    axes = () if kind is ClassificationMetrics else (3, 4)
    logits = torch.randn(count, 6, *axes, generator=generator)
    targets = torch.randint(0, 6, (count, *axes), generator=generator)
    if count:
        logits[count // 2] = torch.nan
        targets[0] = -100 if kind is ClassificationMetrics else 255
    return logits, targets


def text(metrics: ClassificationMetrics | SegmentationMetrics) -> str:
    """Give all results, to be compared with NaN being equal to itself."""
    matrix = metrics.confusion_matrix.tolist()
    return json.dumps([metrics.compute(), metrics.per_class(), matrix])


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5), merged=st.booleans())
def test_any_split_gives_exactly_the_same(kind: Kind, sizes: list[int], merged: bool) -> None:
    logits, targets = drawn(kind, sum(sizes))
    whole, parts = kind(6), kind(6)
    whole.update(logits, targets)
    for some, wanted in zip(logits.split(sizes), targets.split(sizes), strict=True):
        part = kind(6) if merged else parts
        part.update(some, wanted)
        if merged:
            parts.merge(part)
    assert text(parts) == text(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_reset_forgets_everything(kind: Kind) -> None:
    metrics = kind(6)
    empty = text(metrics)
    metrics.update(*drawn(kind, 9))
    filled = text(metrics)
    assert filled != empty
    metrics.reset()
    assert text(metrics) == empty
    metrics.update(*drawn(kind, 9))
    assert text(metrics) == filled


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_a_copy(kind: Kind) -> None:
    metrics = kind(6)
    metrics.update(*drawn(kind, 9))
    before = text(metrics)
    metrics.confusion_matrix.zero_()
    twin = copy.deepcopy(metrics)
    twin.update(*drawn(kind, 9))
    assert text(metrics) == before != text(twin)


@pytest.mark.parametrize("kind", KINDS)
def test_without_other_processes_synchronizing_does_nothing(kind: Kind) -> None:
    metrics = kind(6)
    metrics.update(*drawn(kind, 9))
    before = text(metrics)
    metrics.synchronize()
    assert text(metrics) == before


@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_and_gradients_do_not_matter(kind: Kind) -> None:
    logits, targets = drawn(kind, 9)
    expected = kind(6)
    expected.update(logits, targets)
    expected.update(logits, targets)
    with torch.inference_mode():
        metrics, inside = kind(6), kind(6)
        metrics.update(logits, targets)
        inside.update(logits * 1, targets)
    metrics.update(logits.requires_grad_(), targets)
    inside.merge(inside)
    assert text(metrics) == text(inside) == text(expected)


@pytest.mark.parametrize("classes", [6, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_update_never_reads_a_value(kind: Kind, classes: int) -> None:
    """Tensors on the meta device have none, so that nothing here can wait for a GPU."""
    axes = () if kind is ClassificationMetrics else (3, 4)
    metrics = kind(classes)
    with torch.device("meta"):
        targets = torch.empty((2, *axes), dtype=torch.int64)
        with torch.inference_mode():
            metrics.update(torch.empty(2, classes, *axes), targets)
        metrics.update(targets, targets.to(torch.uint8))
    assert metrics._own.sums.is_meta


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("classes", [6, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same_and_is_not_waited_for(kind: Kind, classes: int) -> None:
    logits, targets = drawn(kind, 9)
    axes = (0,) * (2 * (logits.dim() - 2))
    logits = nn.functional.pad(logits, (*axes, 0, classes - 6), value=-9.0)
    here, there = kind(classes), kind(classes)
    on_gpu = logits.cuda(), targets.cuda()
    there.update(*on_gpu)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there.update(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for _ in range(2):
        here.update(logits, targets)
    found = there.compute() | there.per_class()
    for name, value in (here.compute() | here.per_class()).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    wrong = targets.cuda().fill_(classes)
    there.update(on_gpu[0], wrong)
    with pytest.raises(InputError, match=f"targets must be classes from 0 to {classes - 1}"):
        there.compute()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_deterministic_where_torch_must_be(kind: Kind) -> None:
    metrics, expected = kind(6), kind(6)
    expected.update(*drawn(kind, 9))
    torch.use_deterministic_algorithms(True)
    try:
        metrics.update(*drawn(kind, 9))
        assert text(metrics) == text(expected)
    finally:
        torch.use_deterministic_algorithms(False)


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def whole(*shape: int) -> Tensor:
    return zeros(*shape, dtype=torch.int64)


WANTS = "predictions must be logits [B, 6] or class indices [B]"
WANTS_MAPS = "predictions must be logits [B, 6, H, W] or class indices [B, H, W]"
WRONG: list[tuple[Kind, Any, Any, str]] = [
    (ClassificationMetrics, [0], whole(1), f"{WANTS} in a tensor, not list"),
    (ClassificationMetrics, whole(1), 0, "targets must be class indices [B] in a tensor, not int"),
    (ClassificationMetrics, zeros(2, 7), whole(2), f"{WANTS}, not [2, 7] of torch.float32"),
    (ClassificationMetrics, zeros(2), whole(2), f"{WANTS}, not [2] of torch.float32"),
    (ClassificationMetrics, whole(2, 6), whole(2), f"{WANTS}, not [2, 6] of torch.int64"),
    (ClassificationMetrics, zeros(2, 6), whole(3),
     "targets must be class indices [2], as many as the predictions, not [3] of torch.int64"),
    (ClassificationMetrics, zeros(2, 6), zeros(2, 6),
     "targets must be class indices [2], as many as the predictions, not [2, 6] of torch.float32"),
    (ClassificationMetrics, zeros(2, 6), zeros(2),
     "targets must be class indices [2], as many as the predictions, not [2] of torch.float32"),
    (ClassificationMetrics, zeros(2, 6), whole(2) + 6,
     "targets must be classes from 0 to 5, not 6; ignore_index is -100"),
    (ClassificationMetrics, zeros(2, 6), whole(2) - 1,
     "targets must be classes from 0 to 5, not -1; ignore_index is -100"),
    (ClassificationMetrics, whole(2) + 9, whole(2),
     "predictions must be classes from 0 to 5, not 9; ignore_index is -100"),
    (SegmentationMetrics, zeros(2, 6), whole(2), f"{WANTS_MAPS}, not [2, 6] of torch.float32"),
    (SegmentationMetrics, zeros(2, 6, 3, 4), whole(2, 1, 3, 4),
     "targets must be class indices [2, 3, 4], as many as the predictions, not [2, 1, 3, 4] of "
     "torch.int64"),
    (SegmentationMetrics, zeros(2, 6, 3, 4), whole(2, 3, 5),
     "targets must be class indices [2, 3, 4], as many as the predictions, not [2, 3, 5] of "
     "torch.int64"),
    (SegmentationMetrics, zeros(2, 6, 3, 4), (whole(2, 3, 4) + 254).byte(),
     "targets must be classes from 0 to 5, not 254; ignore_index is 255"),
    (SegmentationMetrics, whole(2, 3, 4) - 2, whole(2, 3, 4),
     "predictions must be classes from 0 to 5, not -2; ignore_index is 255"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "predictions", "targets", "message"), WRONG)
def test_wrong_batches_are_refused(
    kind: Kind, predictions: Any, targets: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        kind(6).update(predictions, targets)
    assert str(caught.value) == message


def test_wrong_values_on_another_device_are_found_when_computing() -> None:
    metrics = ClassificationMetrics(6)
    metrics._own.raise_bounds(torch.tensor([0, 6, 0, 0]))
    for read in (metrics.compute, metrics.per_class, lambda: metrics.confusion_matrix):
        with pytest.raises(InputError, match="targets must be classes from 0 to 5, not 6"):
            read()


def test_predictions_count_only_where_targets_do() -> None:
    metrics = SegmentationMetrics(6)
    metrics.update(torch.tensor([[[255, 3]]]), torch.tensor([[[255, 3]]]))
    assert metrics.compute()["pixels"] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassificationMetrics(1), "num_classes must be a whole number from 2, not 1"),
        (lambda: SegmentationMetrics(True), "num_classes must be a whole number from 2, not True"),
        (lambda: ClassificationMetrics(3, calibration_bins=0),
         "calibration_bins must be a whole number from 1, not 0"),
        (lambda: SegmentationMetrics(3, ignore_index=0.5),
         "ignore_index must be a whole number or None, not 0.5"),
        (lambda: ClassificationMetrics(3).merge(ClassificationMetrics(4)),
         "ClassificationMetrics(num_classes=3, ignore_index=-100, calibration_bins=15) cannot be "
         "merged with ClassificationMetrics(num_classes=4, ignore_index=-100, "
         "calibration_bins=15)"),
        (lambda: SegmentationMetrics(3).merge(SegmentationMetrics(3, None)),
         "SegmentationMetrics(num_classes=3, ignore_index=255) cannot be merged with "
         "SegmentationMetrics(num_classes=3, ignore_index=None)"),
        (lambda: ClassificationMetrics(5000).confusion_matrix,
         "there is no confusion matrix of 5,000 classes, only up to 4,096"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == message
