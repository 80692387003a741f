"""SegmentationMetrics: equal to scikit-learn and torchmetrics over all pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.functional.segmentation import dice_score

from zoo_core.errors import InputError
from zoo_core.evaluation import SegmentationMetrics, segmentation

TIGHT = {"rel": 1e-13, "abs": 1e-13}


def drawn(
    seed: int, shape: tuple[int, int, int], classes: int, ignored: float
) -> tuple[Tensor, Tensor]:
    """Draw logits, and masks that they are often right about, with absent classes."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.randint(0, classes, (3,), generator=generator)
    masks = there[torch.randint(0, 3, shape, generator=generator)]
    logits = torch.randn(shape[0], classes, *shape[1:], dtype=torch.float64, generator=generator)
    logits.scatter_add_(1, masks[:, None], torch.full_like(logits[:, :1], 2))
    masks[torch.rand(shape, generator=generator) < ignored] = 255
    return logits, masks


def measured(logits: Tensor, masks: Tensor) -> SegmentationMetrics:
    metrics = SegmentationMetrics(logits.shape[1])
    metrics.update(logits, masks)
    return metrics


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    classes=st.integers(2, 12),
    whole=st.booleans(),
    ignored=st.sampled_from([0.0, 0.3]),
)
def test_it_equals_scikit_learn(
    seed: int, shape: tuple[int, int, int], classes: int, whole: bool, ignored: float
) -> None:
    logits, masks = drawn(seed, shape, classes, ignored)
    masks[0, 0, 0] = 0
    if whole:
        logits = logits.round()
    metrics = measured(logits, masks)
    scores, table = metrics.compute(), metrics.per_class()

    rows = (masks != 255).numpy()
    true, predicted = masks.numpy()[rows], logits.numpy().argmax(1)[rows]
    expected = confusion_matrix(true, predicted, labels=list(range(classes)))
    np.testing.assert_array_equal(metrics.confusion_matrix.numpy(), expected)
    assert scores["pixels"] == len(true)
    assert scores["pixel_accuracy"] == pytest.approx((true == predicted).mean(), **TIGHT)
    present = sorted({*true.tolist(), *predicted.tolist()})
    for name, function in {
        "iou": jaccard_score,
        "dice": f1_score,
        "precision": precision_score,
        "recall": recall_score,
    }.items():
        values = function(true, predicted, labels=present, average=None, zero_division=0)
        assert [table[name][number] for number in present] == pytest.approx(values, **TIGHT)
        absent = [value for number, value in enumerate(table[name]) if number not in present]
        assert all(math.isnan(value) for value in absent)
        if name in ("iou", "dice"):
            assert scores[f"mean_{name}"] == pytest.approx(values.mean(), **TIGHT)
            np.testing.assert_array_equal(scores[f"class_{name}"], table[name])


def test_it_equals_torchmetrics() -> None:
    logits, masks = drawn(4, (5, 32, 48), 21, 0.2)
    scores = measured(logits, masks).compute()
    predicted = logits.argmax(1)
    macro = multiclass_jaccard_index(predicted, masks, 21, average="macro", ignore_index=255)
    assert scores["mean_iou"] == pytest.approx(float(macro), rel=0, abs=1e-6)
    each = multiclass_jaccard_index(predicted, masks, 21, average="none", ignore_index=255)
    assert np.nan_to_num(scores["class_iou"]) == pytest.approx(each.numpy(), rel=0, abs=1e-6)

    masks[masks == 255] = 0  # its Dice ignores nothing
    scores = measured(logits, masks).compute()
    each = dice_score(
        predicted, masks, 21, average="none", input_format="index", aggregation_level="global"
    )
    assert np.nan_to_num(scores["class_dice"]) == pytest.approx(
        each.nan_to_num().flatten().numpy(), rel=0, abs=1e-6
    )


def test_a_class_that_is_ignored_is_absent_as_in_torchmetrics() -> None:
    logits, masks = drawn(4, (2, 32, 48), 6, 0)
    ignored = int(masks[0, 0, 0])
    metrics = SegmentationMetrics(6, ignore_index=ignored)
    metrics.update(logits, masks)
    scores = metrics.compute()
    assert math.isnan(scores["class_iou"][ignored])
    macro = multiclass_jaccard_index(logits, masks, 6, average="macro", ignore_index=ignored)
    assert scores["mean_iou"] == pytest.approx(float(macro), rel=0, abs=1e-6)


def test_every_class_counts_where_none_is_ignored() -> None:
    """255 too, of 256 classes."""
    logits, masks = drawn(4, (2, 32, 48), 256, 0.2)
    metrics = SegmentationMetrics(256, ignore_index=None)
    metrics.update(logits, masks)
    scores = metrics.compute()
    assert scores["pixels"] == masks.numel()
    assert metrics.per_class()["support"][255] == int((masks == 255).sum()) > 0
    macro = multiclass_jaccard_index(logits, masks, 256, average="macro")
    assert scores["mean_iou"] == pytest.approx(float(macro), rel=0, abs=1e-6)
    few = SegmentationMetrics(21, ignore_index=None)
    with pytest.raises(InputError, match="from 0 to 20, not 255; ignore_index is None"):
        few.update(logits[:, :21], masks.clamp(max=20).where(masks < 255, 255))


def test_absent_classes_are_nan_and_left_out_of_means() -> None:
    metrics = SegmentationMetrics(4)
    metrics.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 0, 0, 255]]]))
    scores = metrics.compute()
    assert scores["class_iou"][:2] == [2 / 3, 0]
    assert scores["class_dice"][:2] == [0.8, 0]
    assert all(math.isnan(value) for value in scores["class_iou"][2:] + scores["class_dice"][2:])
    assert (scores["mean_iou"], scores["mean_dice"]) == (1 / 3, 0.4)
    assert (scores["pixel_accuracy"], scores["pixels"]) == (2 / 3, 3)


def test_pixels_that_are_not_finite_are_counted_and_not_scored() -> None:
    logits, masks = drawn(1, (2, 5, 6), 4, 0.1)
    masks[0, :2] = torch.tensor([0, 1, 2, 3, 255, 0])
    expected_masks = masks.clone()
    expected_masks[0, 0, :3] = 255
    expected = measured(logits, expected_masks).compute()
    logits[0, 0, 0, 0], logits[0, 3, 0, 1], logits[0, 2, 0, 2] = math.nan, math.inf, -math.inf
    logits[0, :, 0, 4] = math.nan  # ignored anyway
    scores = measured(logits, masks).compute()
    assert scores.pop("non_finite") == 3
    assert expected.pop("non_finite") == 0
    np.testing.assert_equal(scores, expected)


def test_nothing_scored_is_nan() -> None:
    scores = measured(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 255)).compute()
    assert (scores["pixels"], scores["non_finite"]) == (0, 0)
    assert math.isnan(scores["mean_iou"])
    assert math.isnan(scores["pixel_accuracy"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("classes", [2, 21, 255, 256, 300])
def test_the_lowest_of_equal_classes_is_predicted_as_max_does(
    classes: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randint(0, classes, (2, classes, 9, 7), generator=generator).to(dtype)
    masks = torch.randint(0, classes, (2, 9, 7), generator=generator)
    found = SegmentationMetrics(classes, ignore_index=None)
    found.update(logits, masks)
    wanted = SegmentationMetrics(classes, ignore_index=None)
    wanted.update(logits.max(1).indices, masks)
    assert torch.equal(found.confusion_matrix, wanted.confusion_matrix)


@pytest.mark.parametrize("at_once", [1, 50, 1000])
def test_the_pictures_counted_at_once_do_not_matter(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, masks = drawn(6, (7, 5, 9), 5, 0.1)
    expected = measured(logits, masks).confusion_matrix
    monkeypatch.setattr(segmentation, "_AT_ONCE", at_once)
    assert torch.equal(measured(logits, masks).confusion_matrix, expected)
    assert torch.equal(measured(logits.argmax(1), masks).confusion_matrix, expected)
    assert expected.sum() == (masks != 255).sum()


def test_pictures_of_other_sizes_layouts_and_types_add_up() -> None:
    metrics = SegmentationMetrics(5)
    matrix = torch.zeros(5, 5, dtype=torch.int64)
    for number, shape in enumerate([(1, 1, 1), (2, 7, 3), (1, 33, 20)]):
        logits, masks = drawn(number, shape, 5, 0.1)
        matrix += measured(logits, masks).confusion_matrix
        logits = logits.to(memory_format=torch.channels_last)
        metrics.update(logits, masks.to(torch.uint8).mT.contiguous().mT)
    assert torch.equal(metrics.confusion_matrix, matrix)
