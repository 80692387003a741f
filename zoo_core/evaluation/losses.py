"""The mean of a criterion over all that was scored, whatever the batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.evaluation.tally import is_sharded, sum_over_ranks

Criterion = Callable[[Tensor, Tensor], Tensor]


class MeanLoss:
    """Averages a criterion over samples or pixels, not over batches.

    Targets that are ignored count nothing, and are given to the criterion as its own
    ``ignore_index`` if it has one. Class weights of cross entropy weigh the average, as they do
    within a batch. Nothing here waits for a GPU before the mean is computed.

    Args:
        criterion: Gives, for logits and targets, the mean over a batch; or, as its ``reduction``
            says, the sum, or the loss of each.
        ignore_index: The target that never counts.
    """

    def __init__(self, criterion: Criterion, ignore_index: int | None) -> None:
        self._criterion: Any = criterion
        self._ignore_index = ignore_index
        self._losses: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        targets = targets.long()
        scored = torch.ones_like(targets, dtype=torch.bool)
        if self._ignore_index is not None:
            scored = targets != self._ignore_index
        replacement = getattr(self._criterion, "ignore_index", None)
        if replacement is not None:
            targets = targets.masked_fill(~scored, replacement)
            scored = targets != replacement
        loss = self._criterion(logits, targets)
        count = scored.sum()
        weight = getattr(self._criterion, "weight", None)
        if isinstance(self._criterion, nn.CrossEntropyLoss | nn.NLLLoss) and weight is not None:
            count = (weight[targets.masked_fill(~scored, 0)] * scored).sum()
        if loss.dim() > 0 or getattr(self._criterion, "reduction", "mean") == "sum":
            loss = loss.sum() / count
        self._losses.append(loss)
        self._counts.append(count)

    def compute(self) -> float:
        """Give the mean over all batches, of all processes; every one of them must call it.

        It is NaN if nothing was scored, or if a loss was.
        """
        parts = zip(_numbers(self._losses), _numbers(self._counts), strict=True)
        pairs = [(loss * count, count) for loss, count in parts if count]
        sums = [math.fsum(column) for column in zip(*pairs, strict=True)] or [0.0, 0.0]
        if is_sharded():
            sums = sum_over_ranks(torch.tensor(sums, dtype=torch.float64)).tolist()
        return sums[0] / sums[1] if sums[1] else float("nan")


def _numbers(values: list[Tensor]) -> list[float]:
    """Give the numbers in tensors, waiting for their device once."""
    return torch.stack(values).tolist() if values else []
