"""The decoder of UPerNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_core.layers import ConvNormAct
from zoo_core.pyramid import resample
from zoo_decoders.base import PyramidHead, resized
from zoo_decoders.pooling import adaptive_average

BINS = (1, 2, 3, 6)


class UPerNetDecoder(PyramidHead):
    """Pools the deepest map at four scales, builds a feature pyramid, and joins its levels.

    After Xiao et al. 2018 (https://arxiv.org/abs/1807.10221), the part for semantic segmentation.
    The average of the whole map is not normalised, so that a batch of one can be trained on.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width; most of the cost grows with its square, and many users have 512.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self, backbone_channels: Sequence[int], output_channels: int, channels: int = 256
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.check_whole("channels", channels)
        *shallow, deepest = self.channels
        *steps, last_step = self.steps
        self.deepest = nn.Sequential(
            PyramidPooling(deepest, channels), resample(channels, last_step)
        )
        self.laterals = nn.ModuleList(
            nn.Sequential(ConvNormAct(given, channels, 1), resample(channels, step))
            for given, step in zip(shallow, steps, strict=True)
        )
        self.smooth = nn.ModuleList(ConvNormAct(channels, channels, 3) for _ in shallow)
        self.head = nn.Sequential(
            ConvNormAct(channels * len(self.channels), channels, 3),
            nn.Conv2d(channels, output_channels, 1),
        )

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Give logits of the finest level's resolution."""
        x = self.deepest(maps[-1])
        levels = [x]
        layers = zip(self.laterals[::-1], self.smooth[::-1], maps[-2::-1], strict=True)
        for lateral, smooth, features in layers:
            level = lateral(features)
            x = level + resized(x, level.shape[-2:])
            levels.insert(0, smooth(x))
        finest, *others = levels
        joined = [finest, *(resized(level, finest.shape[-2:]) for level in others)]
        logits: Tensor = self.head(torch.cat(joined, 1))
        return logits


class PyramidPooling(nn.Module):
    """Joins a map with its averages over 1, 4, 9 and 36 parts.

    After Zhao et al. 2016 (https://arxiv.org/abs/1612.01105).
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            ConvNormAct(in_channels, width, 1, norm_layer=nn.BatchNorm2d if bins > 1 else None)
            for bins in BINS
        )
        self.join = ConvNormAct(in_channels + len(BINS) * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, width, H, W]``."""
        pooled = [
            resized(scale(adaptive_average(x, bins)), x.shape[-2:])
            for scale, bins in zip(self.scales, BINS, strict=True)
        ]
        joined: Tensor = self.join(torch.cat([x, *pooled], 1))
        return joined
