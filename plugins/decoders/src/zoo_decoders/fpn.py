"""The semantic head of the panoptic feature pyramid network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.layers import ConvNormAct
from zoo_core.pyramid import resample
from zoo_decoders.base import PyramidHead, doubled, resized


class FPNDecoder(PyramidHead):
    """Builds a feature pyramid, and sums its levels at the finest one's resolution.

    The pyramid is that of Lin et al. 2016 (https://arxiv.org/abs/1612.03144) without the
    convolution after each addition, the head that of Kirillov et al. 2019
    (https://arxiv.org/abs/1901.02446), whose first convolutions do the same. No layer of it keeps
    statistics of batches, except where maps of one stride are doubled.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width of the pyramid, a multiple of 8; the head is half as wide.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self, backbone_channels: Sequence[int], output_channels: int, channels: int = 256
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.check_whole("channels", channels, multiple=8)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, channels, 1), resample(channels, step))
            for given, step in zip(self.channels, self.steps, strict=True)
        )
        width = channels // 2
        self.branches = nn.ModuleList(
            _Branch(channels, width, round(math.log2(stride / self.strides[0])))
            for stride in self.strides
        )
        self.head = nn.Conv2d(width, output_channels, 1)

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Give logits of the finest level's resolution."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        size = levels[0].shape[-2:]
        x = levels.pop()
        total = self.branches[-1](x, size)
        for branch, level in zip(self.branches[-2::-1], levels[::-1], strict=True):
            x = level + F.interpolate(x, size=level.shape[-2:], mode="nearest")
            total = total + branch(x, size)
        logits: Tensor = self.head(total)
        return logits


class _Branch(nn.Module):
    """Brings a level to the finest one's resolution, with a convolution before each doubling."""

    def __init__(self, channels: int, width: int, doublings: int) -> None:
        super().__init__()
        # Four channels a group at least: a group of one value has no variance.
        norm = partial(nn.GroupNorm, math.gcd(32, width // 4))
        widths = [channels] + [width] * max(1, doublings)
        self.convs = nn.ModuleList(
            ConvNormAct(before, after, 3, norm_layer=norm) for before, after in pairwise(widths)
        )
        self._is_finest = doublings == 0

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Give ``[B, width, *size]``."""
        for conv in self.convs[:-1]:
            x = doubled(conv(x))
        x = self.convs[-1](x)
        return x if self._is_finest else resized(x, size)
