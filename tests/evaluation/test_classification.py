"""ClassificationMetrics: equal to scikit-learn, torchmetrics and the definitions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from zoo_core.evaluation import ClassificationMetrics

TIGHT = {"rel": 1e-13, "abs": 1e-13}


def measured(logits: Tensor, targets: Tensor, **options: Any) -> ClassificationMetrics:
    metrics = ClassificationMetrics(logits.shape[1], **options)
    metrics.update(logits, targets)
    return metrics


def drawn(seed: int, count: int, classes: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Draw logits and targets that the logits are often right about."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, dtype=dtype, generator=generator)
    logits[torch.arange(count), targets] += torch.randn(count, generator=generator).to(dtype) + 1
    return logits, targets


def calibration_error(logits: Tensor, targets: Tensor, bins: int) -> float:
    """Compute it by its definition, sample by sample."""
    in_bin: dict[int, list[tuple[float, bool]]] = {}
    for row, target in zip(logits.double().softmax(1).tolist(), targets.tolist(), strict=True):
        sure = max(row)
        place = math.ceil(Fraction(sure) * bins) - 1
        in_bin.setdefault(place, []).append((sure, row.index(sure) == target))
    return sum(
        abs(math.fsum(sure for sure, _ in found) - sum(right for _, right in found))
        for found in in_bin.values()
    ) / len(targets)


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
    classes=st.integers(2, 9),
    whole=st.booleans(),
    ignored=st.integers(0, 3),
)
def test_it_equals_scikit_learn(
    seed: int, count: int, classes: int, whole: bool, ignored: int
) -> None:
    logits, targets = drawn(seed, count, classes, torch.float64)
    if whole:
        logits = logits.round()  # many ties
    targets[: min(ignored, count - 1)] = -100
    metrics = measured(logits, targets)
    scores, table = metrics.compute(), metrics.per_class()

    rows = targets != -100
    true, predicted = targets[rows].numpy(), logits.numpy().argmax(1)[rows.numpy()]
    assert scores["samples"] == len(true)
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted), **TIGHT)
    everything = list(range(classes))
    expected = confusion_matrix(true, predicted, labels=everything)
    np.testing.assert_array_equal(metrics.confusion_matrix.numpy(), expected)

    present = sorted({*true.tolist(), *predicted.tolist()})
    options: dict[str, Any] = {"labels": present, "zero_division": 0}
    columns = precision_recall_fscore_support(true, predicted, average=None, **options)
    for name, values in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [table[name][number] for number in present] == pytest.approx(values, **TIGHT)
        for number in set(everything) - set(present):
            assert (
                table[name][number] == 0 if name == "support" else math.isnan(table[name][number])
            )
    for average in ("macro", "weighted"):
        means = precision_recall_fscore_support(true, predicted, average=average, **options)
        for name, value in zip(("precision", "recall", "f1"), means, strict=False):
            assert scores[f"{average}_{name}"] == pytest.approx(value, **TIGHT)

    # Of equal logits, the lower class comes first.
    best = np.argsort(-logits.numpy(), axis=1, kind="stable")[rows.numpy(), :5]
    assert scores["top5_accuracy"] == pytest.approx((best == true[:, None]).any(1).mean(), **TIGHT)
    if not whole and classes > 5:
        top5 = top_k_accuracy_score(true, logits[rows].numpy(), k=5, labels=everything)
        assert scores["top5_accuracy"] == pytest.approx(top5, **TIGHT)
    if not whole:
        expected_error = calibration_error(logits[rows], targets[rows], 15)
        assert scores["calibration_error"] == pytest.approx(expected_error, rel=0, abs=1e-11)


@pytest.mark.parametrize(("count", "classes"), [(1, 7), (50, 7), (333, 40), (1000, 6)])
def test_it_equals_torchmetrics(count: int, classes: int) -> None:
    logits, targets = drawn(3, count, classes, torch.float32)
    targets[::7] = -100
    targets[0] = 1
    scores = measured(logits, targets).compute()
    options: dict[str, Any] = {"num_classes": classes, "ignore_index": -100}

    def close(value: Tensor) -> Any:
        return pytest.approx(float(value), rel=0, abs=1e-6)

    micro = multiclass_accuracy(logits, targets, average="micro", **options)
    assert scores["accuracy"] == close(micro)
    top5 = multiclass_accuracy(logits, targets, average="micro", top_k=5, **options)
    assert scores["top5_accuracy"] == close(top5)
    for average in ("macro", "weighted"):
        for name, function in {
            "precision": multiclass_precision,
            "recall": multiclass_recall,
            "f1": multiclass_f1_score,
        }.items():
            expected = function(logits, targets, average=average, **options)
            assert scores[f"{average}_{name}"] == close(expected)
    for bins in (1, 10, 15):
        error = measured(logits, targets, calibration_bins=bins).compute()["calibration_error"]
        assert error == close(multiclass_calibration_error(logits, targets, n_bins=bins, **options))


def test_a_confidence_on_a_border_belongs_to_the_bin_below() -> None:
    # Confidences of 1/2, 3/4 and 1; with 4 bins, each is the upper border of its own.
    logits = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]], dtype=torch.float64).log()
    logits[2, 1] = -1e6
    targets = torch.tensor([1, 0, 1])
    error = measured(logits, targets, calibration_bins=4).compute()["calibration_error"]
    assert error == pytest.approx((0.5 + 0.25 + 1.0) / 3, rel=0, abs=1e-11)
    # With 2 bins, 1/2 is alone in the first; in the other, 1 of 2 is right.
    error = measured(logits, targets, calibration_bins=2).compute()["calibration_error"]
    assert error == pytest.approx((0.5 + abs(1 - 1.75)) / 3, rel=0, abs=1e-11)


def test_half_precision_logits_are_measured_as_the_numbers_they_are() -> None:
    logits, targets = drawn(5, 200, 10, torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        half = logits.to(dtype)
        assert measured(half, targets).compute() == measured(half.float(), targets).compute()


def test_fewer_than_five_classes_are_always_in_the_top_five() -> None:
    for classes in (2, 4, 5):
        logits, targets = drawn(classes, 20, classes, torch.float32)
        assert measured(logits, targets).compute()["top5_accuracy"] == 1
    logits, targets = drawn(6, 200, 6, torch.float32)
    assert 0.5 < measured(-logits, targets).compute()["top5_accuracy"] < 1


def test_equal_logits_go_to_the_lower_class() -> None:
    logits = torch.zeros(8, 8)
    scores = measured(logits, torch.arange(8)).compute()
    assert scores["accuracy"] == 1 / 8
    assert scores["top5_accuracy"] == 5 / 8


def test_class_indices_have_no_ranks_and_no_confidences() -> None:
    logits, targets = drawn(1, 30, 7, torch.float32)
    metrics = ClassificationMetrics(7)
    metrics.update(logits.argmax(1).to(torch.int32), targets.to(torch.uint8))
    of_indices, of_logits = metrics.compute(), measured(logits, targets).compute()
    for name, value in of_indices.items():
        if name in ("top5_accuracy", "calibration_error"):
            assert math.isnan(value)
        else:
            assert value == of_logits[name]
    # Together with logits, those two are of the logits alone.
    metrics.update(logits, targets)
    both = metrics.compute()
    assert both["samples"] == 60
    assert both["top5_accuracy"] == of_logits["top5_accuracy"]
    assert both["calibration_error"] == of_logits["calibration_error"]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_counted_and_not_scored(wrong: float) -> None:
    logits, targets = drawn(2, 30, 7, torch.float32)
    damaged = logits.clone()
    damaged[3, 0] = damaged[4, 6] = damaged[9] = wrong
    targets[9] = -100  # does not count anyway
    kept = [index for index in range(30) if index not in (3, 4, 9)]
    scores = measured(damaged, targets).compute()
    assert scores.pop("non_finite") == 2
    expected = measured(logits[kept], targets[kept]).compute()
    assert expected.pop("non_finite") == 0
    assert scores == expected


def test_nothing_scored_is_nan() -> None:
    metrics = ClassificationMetrics(3)
    for logits in (torch.zeros(0, 3), torch.full((4, 3), torch.nan)):
        metrics.update(logits, torch.zeros(len(logits), dtype=torch.long))
        scores = metrics.compute()
        assert scores.pop("samples") == 0
        assert scores.pop("non_finite") == len(logits)
        assert all(math.isnan(value) for value in scores.values())
        assert len(scores) == 9


def test_a_class_that_is_ignored_is_absent() -> None:
    logits, targets = drawn(2, 200, 5, torch.float64)
    metrics = measured(logits, targets, ignore_index=2)
    rows = targets != 2
    true, predicted = targets[rows].numpy(), logits[rows].numpy().argmax(1)
    assert 2 in predicted
    means = precision_recall_fscore_support(
        true, predicted, labels=[0, 1, 3, 4], average="macro", zero_division=0
    )
    scores = metrics.compute()
    assert scores["samples"] == len(true)
    for name, value in zip(("precision", "recall", "f1"), means, strict=False):
        assert scores[f"macro_{name}"] == pytest.approx(value, **TIGHT)
    assert math.isnan(metrics.per_class()["recall"][2])


def test_without_an_ignored_target_all_count() -> None:
    logits, targets = drawn(2, 20, 5, torch.float64)
    none = measured(logits, targets, ignore_index=None)
    assert none.compute() == measured(logits, targets).compute()


def test_many_classes_are_measured_without_a_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 21_841, (500,), generator=generator)
    logits = torch.randn(500, 21_841, generator=generator)
    logits[torch.arange(300), targets[:300]] += 9
    metrics = measured(logits, targets)
    true, predicted = targets.numpy(), logits.numpy().argmax(1)
    scores = metrics.compute()
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted), **TIGHT)
    present = sorted({*true.tolist(), *predicted.tolist()})
    means = precision_recall_fscore_support(
        true, predicted, labels=present, average="macro", zero_division=0
    )
    for name, value in zip(("precision", "recall", "f1"), means, strict=False):
        assert scores[f"macro_{name}"] == pytest.approx(value, **TIGHT)
    assert metrics._own.sums.numel() < 70_000
