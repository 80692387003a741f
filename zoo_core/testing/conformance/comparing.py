"""Whether tensors say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

ROUNDING: Final = 1e-4
"""What float32 may differ by, as a share of the largest value, where the order of sums differs."""


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Give the largest difference, as a share of the largest value or of one.

    It is infinite where the shapes differ or only one has values that are not finite.
    """
    if [x.shape for x in one] != [x.shape for x in other]:
        return float("inf")
    return max((_difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)


def _difference(one: Tensor, other: Tensor) -> float:
    if not one.numel() or torch.equal(one, other):
        return 0.0
    gap = (one.double() - other.double()).abs().max()
    scale = max(1.0, float(other.double().abs().max()))
    share = float(gap) / scale
    return share if share == share else float("inf")


def shapes(tensors: Sequence[object]) -> str:
    """Give the shapes of tensors, and the types of what is none, in words."""
    return ", ".join(shape(tensor) for tensor in tensors)


def shape(value: object) -> str:
    """Give the shape of a tensor as ``2×8×16×16``, and the type of what is none."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "×".join(map(str, value.shape)) or "a scalar"


def share(value: float) -> str:
    """Give a difference in words."""
    return "other shapes or values that are not finite" if value == float("inf") else f"{value:.2g}"
