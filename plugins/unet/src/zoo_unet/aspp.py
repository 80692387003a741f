"""Atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.layers import ConvNormAct


class ASPP(nn.Module):
    """Looks at a map with several dilations, and at its mean (Chen et al. 2017).

    See https://arxiv.org/abs/1706.05587. State dict and results are those of torchvision's.

    Args:
        in_channels: Channels of the map ``[B, C, H, W]``.
        atrous_rates: Dilations.
        out_channels: Channels of the map that it gives, and of each branch.
    """

    def __init__(self, in_channels: int, atrous_rates: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvNormAct(in_channels, out_channels, 1)])
        for rate in atrous_rates:
            self.convs.append(ConvNormAct(in_channels, out_channels, 3, dilation=rate))
        self.convs.append(_Pooling(in_channels, out_channels))
        merged = len(self.convs) * out_channels
        self.project = ConvNormAct(merged, out_channels, 1).append(nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Give a map ``[B, out_channels, H, W]``."""
        seen: Tensor = self.project(torch.cat([conv(x) for conv in self.convs], 1))
        return seen


class _Pooling(nn.Sequential):
    """The mean of a map, everywhere."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *ConvNormAct(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return F.interpolate(mean, x.shape[-2:], mode="bilinear", align_corners=False)
