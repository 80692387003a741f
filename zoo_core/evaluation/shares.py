"""From counts to shares."""

from __future__ import annotations

import torch
from torch import Tensor


class ClassCounts:
    """Shares by class, in float64; NaN for a class that is absent.

    A class is present if it is among the targets or the predictions that count, and is not the one
    that is ignored.

    Args:
        correct: How often each class was rightly predicted.
        targets: How often it was the target.
        predicted: How often it was predicted.
        ignored: The target that does not count.
    """

    def __init__(
        self, correct: Tensor, targets: Tensor, predicted: Tensor, ignored: int | None
    ) -> None:
        self.correct, self.targets, self.predicted = correct, targets, predicted
        self._present = targets + predicted > 0
        if ignored is not None and 0 <= ignored < len(correct):
            self._present[ignored] = False

    @property
    def precision(self) -> Tensor:
        """Rightly predicted, of the predicted; 0 where none was."""
        return self._share(self.correct, self.predicted)

    @property
    def recall(self) -> Tensor:
        """Rightly predicted, of the targets; 0 where there was none."""
        return self._share(self.correct, self.targets)

    @property
    def dice(self) -> Tensor:
        """Harmonic mean of precision and recall: the Dice coefficient, or F1."""
        return self._share(2 * self.correct, self.targets + self.predicted)

    @property
    def iou(self) -> Tensor:
        """Intersection over union: rightly predicted, of what is target or predicted."""
        return self._share(self.correct, self.targets + self.predicted - self.correct)

    def _share(self, part: Tensor, whole: Tensor) -> Tensor:
        return (part / whole.clamp(min=1).double()).masked_fill(~self._present, torch.nan)

    def accuracy(self) -> float:
        """Rightly predicted, of all."""
        return ratio(int(self.correct.sum()), int(self.targets.sum()))

    def weighted(self, shares: Tensor) -> float:
        """Average over classes, each counting as often as it is a target."""
        return ratio(float((shares.nan_to_num() * self.targets).sum()), int(self.targets.sum()))


def ratio(part: float, whole: int) -> float:
    """Divide; NaN if there is nothing."""
    return part / whole if whole else float("nan")
