"""The pyramid that decoders need where a backbone's maps all have one stride.

After the simple feature pyramid of ViTDet (Li et al. 2022, https://arxiv.org/abs/2203.16527).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.contracts import ChannelSchedule


def resampling_steps(schedule: ChannelSchedule) -> list[int]:
    """Give for each level how often to double (positive) or halve (negative) its resolution.

    Maps that all have one stride are spread around it, for four levels to a quarter, a half, one
    and two times that stride, though none finer than the picture; maps of several strides are a
    pyramid already and stay.
    """
    levels = len(schedule)
    if levels == 1 or len(set(schedule.strides)) > 1:
        return [0] * levels
    finest = schedule.strides[0].bit_length() - 1
    return [min(finest, levels - 2 - level) for level in range(levels)]


def spread_steps(schedule: ChannelSchedule) -> list[int]:
    """Give those steps for decoders that want a pyramid from stride 4 to stride 32.

    As :func:`resampling_steps`, but maps that all have one stride, whichever it is, are spread
    evenly over strides from 4 to 32: to 4, 8, 16 and 32, as near as doubling comes, if four.
    """
    levels = len(schedule)
    if levels == 1 or len(set(schedule.strides)) > 1:
        return [0] * levels
    finest = math.log2(schedule.strides[0] / 4)
    return [round(finest - 3 * level / (levels - 1)) for level in range(levels)]


class _Halve(nn.Module):
    """Takes the largest of each two by two values; a last odd row or column stands alone.

    So does ``MaxPool2d(2, ceil_mode=True)``, which exports for even sizes or for odd ones only.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2), mode="constant", value=float("-inf"))
        return F.max_pool2d(padded, 2)


def resample(channels: int, step: int) -> nn.Module:
    """Give a layer that doubles or halves the resolution ``abs(step)`` times."""
    if step < 0:
        return nn.Sequential(*[_Halve() for _ in range(-step)])
    layers: list[nn.Module] = []
    for _ in range(step):
        layers += [
            nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers) if layers else nn.Identity()
