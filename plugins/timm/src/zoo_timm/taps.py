"""Which of a timm model's intermediate maps a backbone gives."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

LEVELS = 4


def choose_taps(strides: Sequence[int]) -> list[int]:
    """Give the indices of the last map of each stride, shallow to deep.

    Of a model whose maps all have one stride, such as a ViT: four evenly spaced ones, the last
    included, or as many as there are.

    Args:
        strides: The stride of every map that the model can give, never decreasing.
    """
    last = {stride: index for index, stride in enumerate(strides)}
    if len(last) > 1:
        return list(last.values())
    count = len(strides)
    # Ceiling division, so that the steps are as even as integers allow.
    return sorted({-(-count * step // LEVELS) - 1 for step in range(1, LEVELS + 1)})


def lay_out(taps: Sequence[Tensor], size: Sequence[int], strides: Sequence[int]) -> list[Tensor]:
    """Lay tokens ``[B, N, C]`` of a picture out as maps ``[B, C, H, W]``; maps stay as they are."""
    return [
        tapped.mT.reshape(-1, tapped.shape[2], size[0] // stride, size[1] // stride)
        if tapped.ndim == 3
        else tapped
        for tapped, stride in zip(taps, strides, strict=True)
    ]
