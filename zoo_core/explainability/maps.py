"""Bringing maps to the picture's size and to a common scale, and telling empty ones."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_core.errors import ZooWarning


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps ``[B, h, w]`` to the size of the pictures, bilinearly."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def normalised(values: Tensor) -> Tensor:
    """Scale each picture's values ``[B, …]`` to 0–1; where all are the same, to zeros."""
    flat = values.flatten(1)
    least, most = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = most - least
    scaled = (flat - least) / torch.where(span > 0, span, torch.ones_like(span))
    return scaled.reshape(values.shape)


def warn_of_flat(what: str, values: Tensor, expected: Tensor | None = None) -> None:
    """Warn of pictures whose values ``[B, …]`` are all the same, or not finite.

    Args:
        what: What gave them.
        values: The values.
        expected: ``[B]``, the pictures of which that was to be expected.
    """
    flat = values.detach().flatten(1)
    broken = ~flat.isfinite().all(1)
    same = (flat.amin(1) == flat.amax(1)) & ~broken
    if flat.shape[1] == 1:
        same = torch.zeros_like(same)
    if expected is not None:
        same &= ~expected.to(same.device)
    problems = {"not finite": broken, "the same everywhere, so that it shows nothing": same}
    for problem, found in problems.items():
        rows = found.nonzero()[:, 0].tolist()
        if rows:
            warnings.warn(
                f"{what}: the map of picture {', '.join(map(str, rows))} is {problem}",
                ZooWarning,
                stacklevel=2,
            )
