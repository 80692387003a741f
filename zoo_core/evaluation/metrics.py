"""What the metrics of both tasks share: which class was taken for which, and how often."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.evaluation.shares import ClassCounts
from zoo_core.evaluation.tally import Tally, is_sharded

LARGEST_MATRIX: Final = 4096
"""Classes up to which every pair of classes is counted: 128 MiB."""


class Metrics(ABC):
    """Counts that batches are added to and metrics are computed from; see the subclasses.

    Attributes:
        num_classes: How many classes there are.
        ignore_index: The target that never counts; ``None`` if all do.
    """

    _axes: ClassVar[str]
    """Axes of the targets, beside the batch's."""

    def __init__(
        self, num_classes: int, ignore_index: int | None, sizes: Mapping[str, int]
    ) -> None:
        check_whole("num_classes", num_classes, least=2)
        if ignore_index is not None and type(ignore_index) is not int:
            raise InputError(f"ignore_index must be a whole number or None, not {ignore_index!r}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._has_matrix = num_classes <= LARGEST_MATRIX
        # What does not count goes to one place more.
        cells = num_classes**2 + 1 if self._has_matrix else 3 * (num_classes + 1)
        self._sizes = {"cells": cells, "non_finite": 1, **sizes}
        self.reset()

    def reset(self) -> None:
        """Forget everything, indices that were no classes too."""
        self._own = Tally(self._sizes, bounds=4)
        self._total: Tally | None = None

    def merge(self, other: Self) -> None:
        """Add what another object of the same settings has counted, as if it had been done here.

        Raises:
            InputError: If its settings are others.
        """
        if self._settings() != other._settings():
            raise InputError(f"{self!r} cannot be merged with {other!r}")
        self._own.add(other._own)
        self._total = None

    def synchronize(self) -> None:
        """Let the results be those of all processes of ``torch.distributed`` together.

        Every process must call it. What this process counted stays its own: synchronizing twice
        counts nothing twice, and after another update the results are this process's again until
        the next time. Without several processes, nothing happens.
        """
        if is_sharded():
            self._total = self._own.over_ranks()

    @abstractmethod
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch."""

    @abstractmethod
    def compute(self) -> dict[str, Any]:
        """Give the metrics of all batches since the last reset."""

    @abstractmethod
    def per_class(self) -> dict[str, list[Any]]:
        """Give a table: each column's values, one a class."""

    @property
    def confusion_matrix(self) -> Tensor:
        """How often a class, by row, was taken for a class, by column: int64 ``[C, C]``.

        Raises:
            InputError: If there are too many classes, or predictions or targets were wrong.
        """
        if not self._has_matrix:
            raise InputError(
                f"there is no confusion matrix of {self.num_classes:,} classes, only up to "
                f"{LARGEST_MATRIX:,}"
            )
        cells = self._counted()["cells"][:-1].clone()
        return cells.view(self.num_classes, self.num_classes)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings()[1].items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> tuple[type, dict[str, Any]]:
        return type(self), {"num_classes": self.num_classes, "ignore_index": self.ignore_index}

    def _is_logits(self, predictions: Tensor, targets: Tensor) -> bool:
        """Check types and shapes of a batch, and tell whether it has logits or class indices."""
        classes, axes = self.num_classes, self._axes
        form = f"logits [B, {classes}{axes}] or class indices [B{axes}]"
        for what, value, right in (
            ("predictions", predictions, form),
            ("targets", targets, f"class indices [B{axes}]"),
        ):
            if not isinstance(value, Tensor):
                raise InputError(f"{what} must be {right} in a tensor, not {type(value).__name__}")
        dims = 1 + axes.count(",")
        is_logits = predictions.is_floating_point() and predictions.dim() == dims + 1
        is_indices = _is_whole(predictions) and predictions.dim() == dims
        if not (is_indices or (is_logits and predictions.shape[1] == classes)):
            raise InputError(f"predictions must be {form}, not {_form(predictions)}")
        shape = [size for axis, size in enumerate(predictions.shape) if axis != 1 or is_indices]
        if not _is_whole(targets) or list(targets.shape) != shape:
            raise InputError(
                f"targets must be class indices {shape}, as many as the predictions, not "
                f"{_form(targets)}"
            )
        return is_logits

    def _count(self, predicted: Tensor, targets: Tensor, finite: Tensor | None = None) -> Tensor:
        """Count which class was taken for which, and tell where something was counted.

        Args:
            predicted: Class indices of any shape.
            targets: As many, on the same device.
            finite: Where the logits were finite.
        """
        classes = self.num_classes
        self._total = None
        self._own.move(predicted.device)
        predicted, targets = predicted.long(), targets.long()
        ignored = None if self.ignore_index is None else targets == self.ignore_index
        if ignored is not None:
            targets, predicted = (t.masked_fill(ignored, 0) for t in (targets, predicted))
        (low, high), (lowest, highest) = targets.aminmax(), predicted.aminmax()
        self._own.raise_bounds(torch.stack([-low, high, -lowest, highest]))
        if predicted.device.type == "cpu":
            self._check_values(self._own)
            scored = torch.ones_like(targets, dtype=torch.bool)
        else:  # which does not wait to hear whether all are classes
            scored = (targets >= 0) & (targets < classes)
            scored &= (predicted >= 0) & (predicted < classes)
        if ignored is not None:
            scored &= ~ignored
        if finite is not None:
            self._own["non_finite"].add_((scored & ~finite).sum())
            scored &= finite
        if self._has_matrix:
            places = targets * classes + predicted
            self._own.count("cells", places.masked_fill(~scored, classes**2))
        else:
            hits = scored & (targets == predicted)
            for row, (values, counts) in enumerate(
                [(targets, hits), (targets, scored), (predicted, scored)]
            ):
                places = values.masked_fill(~counts, classes) + row * (classes + 1)
                self._own.count("cells", places)
        return scored

    def _check_values(self, tally: Tally) -> None:
        last = self.num_classes - 1
        ends = tally.bounds.tolist()
        for what, low, high in (("targets", -ends[0], ends[1]), ("predictions", -ends[2], ends[3])):
            if low < 0 or high > last:
                wrong = low if low < 0 else high
                raise InputError(
                    f"{what} must be classes from 0 to {last}, not {wrong}; "
                    f"ignore_index is {self.ignore_index}"
                )

    def _counted(self) -> Tally:
        """Give what was counted, on the CPU.

        Raises:
            InputError: If predictions or targets were no classes.
        """
        tally = self._total or self._own.on_cpu()
        self._check_values(tally)
        return tally

    def _classes(self, tally: Tally) -> ClassCounts:
        cells = tally["cells"]
        if self._has_matrix:
            matrix = cells[:-1].view(self.num_classes, -1)
            correct, targets, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        else:
            correct, targets, predicted = cells.view(3, -1)[:, :-1]
        return ClassCounts(correct, targets, predicted, self.ignore_index)


def check_whole(name: str, value: object, *, least: int) -> None:
    """Check that an argument is a whole number.

    Raises:
        InputError: If it is none, or too small.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number from {least}, not {value!r}")


def all_finite(lowest: Tensor, highest: Tensor) -> Tensor:
    """Tell where what has these bounds is finite; a bound is NaN where anything is."""
    return (lowest > -torch.inf) & (highest < torch.inf)


def _is_whole(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex())


def _form(values: Tensor) -> str:
    return f"{list(values.shape)} of {values.dtype}"
