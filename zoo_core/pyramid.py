"""The pyramid that decoders need where a backbone's maps all have one stride.

After the simple feature pyramid of ViTDet (Li et al. 2022, https://arxiv.org/abs/2203.16527).
"""

from __future__ import annotations

from torch import nn

from zoo_core.contracts import ChannelSchedule


def resampling_steps(schedule: ChannelSchedule) -> list[int]:
    """Give for each level how often to double (positive) or halve (negative) its resolution.

    Maps that all have one stride are spread around it, for four levels to a quarter, a half, one
    and two times that stride; maps of several strides are a pyramid already and stay.
    """
    levels = len(schedule)
    if levels == 1 or len(set(schedule.strides)) > 1:
        return [0] * levels
    return [levels - 2 - level for level in range(levels)]


def resample(channels: int, step: int) -> nn.Module:
    """Give a layer that doubles or halves the resolution ``abs(step)`` times."""
    if step < 0:
        return nn.Sequential(*[nn.MaxPool2d(2, ceil_mode=True) for _ in range(-step)])
    layers: list[nn.Module] = []
    for _ in range(step):
        layers += [
            nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers) if layers else nn.Identity()
