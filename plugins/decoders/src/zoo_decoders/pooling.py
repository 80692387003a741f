"""Adaptive average pooling that exports with open sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def adaptive_average(x: Tensor, bins: int) -> Tensor:
    """Give the average of each of ``bins`` times ``bins`` parts of ``[B, C, H, W]``.

    The same as ``F.adaptive_avg_pool2d``, whose export to ONNX fails at other sizes than the
    example's: two products with matrices that are made for the size.
    """
    height, width = x.shape[-2:]
    # Plain matrix products would tie the sizes of an exported model in their own way.
    return torch.einsum("bchw,hy,wx->bcyx", x, _weights(height, bins, x), _weights(width, bins, x))


def _weights(size: int, bins: int, like: Tensor) -> Tensor:
    """Give ``[size, bins]``: one part of each place in the average of each bin."""
    place = torch.arange(size, device=like.device).unsqueeze(1)
    number = torch.arange(bins, device=like.device)
    start = number * size // bins
    end = ((number + 1) * size + bins - 1) // bins
    inside = (place >= start) & (place < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)
