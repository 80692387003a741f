"""Filling in pixels that were removed, from their neighbours."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

_TOLERANCE: Final = 1e-5
_MOST_STEPS: Final = 2000


def impute(pictures: Tensor, removed: Tensor) -> Tensor:
    """Give pictures whose removed pixels are each the weighted mean of their eight neighbours.

    Linear imputation of Rong et al. 2022 (https://arxiv.org/abs/2202.00449), without its noise.
    The system of equations is solved by conjugate gradients, for all pictures at once.

    Args:
        pictures: ``[N, C, H, W]``.
        removed: ``[N, H, W]``, whether a pixel is to be filled in. Where all are, it becomes 0.
    """
    hole = removed[:, None].to(pictures.dtype)
    known = pictures * (1 - hole)
    degree = _neighbours(torch.ones_like(hole))

    def system(values: Tensor) -> Tensor:
        return hole * (degree * values - _neighbours(values))

    values = hole * _guess(known, 1 - hole)
    residual = hole * _neighbours(known) - system(values)
    direction = residual.clone()
    squared = _dot(residual, residual)
    enough = _TOLERANCE**2 * _dot(hole * _neighbours(known), hole * _neighbours(known))
    for _ in range(_MOST_STEPS):
        if bool((squared <= enough).all()):
            break
        image = system(direction)
        # A picture that is done, or has nothing to fill in, stays as it is.
        length = squared / _dot(direction, image).clamp(min=torch.finfo(squared.dtype).tiny)
        length = torch.where(squared > enough, length, torch.zeros_like(length))
        values = values + length * direction
        residual = residual - length * image
        before, squared = squared, _dot(residual, residual)
        direction = residual + squared / before.clamp(min=torch.finfo(before.dtype).tiny) * (
            direction
        )
    return known + values


def _neighbours(values: Tensor) -> Tensor:
    """Give the sum of each pixel's neighbours: a sixth of those beside it, a twelfth of corners."""
    padded = F.pad(values, (1, 1, 1, 1))
    across = padded[..., :-2] + padded[..., 2:] + 2 * padded[..., 1:-1]
    both = across[..., :-2, :] + across[..., 2:, :] + 2 * across[..., 1:-1, :]
    return (both - 4 * values) / 12


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2, 3), keepdim=True)


def _guess(known: Tensor, weight: Tensor) -> Tensor:
    """Give every pixel the mean of what is known around it, from coarser and coarser pictures."""
    mean = known / weight.clamp(min=1e-6)
    if min(known.shape[-2:]) < 2:
        return mean
    coarse = _guess(
        F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False),
        F.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False),
    )
    filled = F.interpolate(coarse, known.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(weight > 0, mean, filled)
