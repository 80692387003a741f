"""The convolutional block attention module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo_core import Attention
from zoo_core.errors import InputError


class ChannelAttention(nn.Module):
    """Weighs channels by what their average and their maximum say to one small network."""

    def __init__(self, in_channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, in_channels // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give weights ``[B, C, 1, 1]`` from 0 to 1 for ``[B, C, H, W]``."""
        average = x.mean((2, 3), keepdim=True)
        maximum = x.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.mlp(average) + self.mlp(maximum))


class SpatialAttention(nn.Module):
    """Weighs places by the average and the maximum over channels of what is around them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Give weights ``[B, 1, H, W]`` from 0 to 1 for ``[B, C, H, W]``."""
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.norm(self.conv(summary)))


class CBAM(Attention):
    """Channel, then spatial attention (Woo et al. 2018, https://arxiv.org/abs/1807.06521).

    As in the authors' implementation, a batch norm stands behind the spatial convolution.

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has.

    Raises:
        InputError: If one of them is not positive.
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("reduction", reduction)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} of CBAM must be a positive whole number, not {value!r}")
        self.channel = ChannelAttention(in_channels, reduction)
        self.spatial = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        weighed: Tensor = x * self.channel(x)
        refined: Tensor = weighed * self.spatial(weighed)
        return refined
