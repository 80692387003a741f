"""Attention that weighs channels, the same at all places."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_attention.arguments import check_positive
from zoo_core import Attention
from zoo_core.errors import InputError


class SqueezeExcitation(Attention):
    """Weighs channels by what their averages say to a small network.

    After Hu et al. 2017 (https://arxiv.org/abs/1709.01507).

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has; it has one at least.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_positive("SqueezeExcitation", in_channels=in_channels, reduction=reduction)
        hidden = max(1, in_channels // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        weights = torch.sigmoid(self.mlp(x.mean((2, 3), keepdim=True)))
        return x * weights


class EfficientChannelAttention(Attention):
    """Weighs each channel by the averages of its neighbours, with one small kernel for all.

    After Wang et al. 2019 (https://arxiv.org/abs/1910.03151).

    Args:
        in_channels: Channels of the map.
        kernel_size: How many neighbours count, itself included, an odd number. ``None`` takes the
            paper's: half of ``log2(in_channels) + 1``, made odd, and 3 at least.

    Raises:
        InputError: If one of them is no positive whole number, or ``kernel_size`` is even.
    """

    def __init__(self, in_channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        check_positive("EfficientChannelAttention", in_channels=in_channels)
        if kernel_size is None:
            kernel_size = max(3, int((math.log2(in_channels) + 1) / 2) | 1)
        check_positive("EfficientChannelAttention", kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise InputError(
                f"kernel_size of EfficientChannelAttention must be odd, not {kernel_size}"
            )
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        averages = x.mean((2, 3)).unsqueeze(1)
        weights = torch.sigmoid(self.conv(averages)).squeeze(1)
        return x * weights[..., None, None]
