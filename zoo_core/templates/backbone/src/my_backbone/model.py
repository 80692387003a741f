"""A backbone: it turns pictures into a pyramid of feature maps."""

from __future__ import annotations

from torch import Tensor, nn
from zoo_core import Backbone, ChannelSchedule
from zoo_core.errors import InputError


class Block(nn.Module):
    """Adds to a map what convolutions make of it: one over places, two over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False),
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give a map of the same shape."""
        change: Tensor = self.layers(x)
        return x + change


class MyBackbone(Backbone):
    """Four stages of residual blocks, each of half the size and twice the channels of the last.

    After ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545). The norms look at one
    picture at a time, so that neither the batch's size nor the mode changes what they do.

    Args:
        in_channels: Channels of the pictures.
        width: Channels of the first map; each that follows has twice as many.
        depth: Blocks of each stage.

    Raises:
        InputError: If one of them is not positive.
    """

    def __init__(self, in_channels: int = 3, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        given = {"in_channels": in_channels, "width": width, "depth": depth}
        for name, value in given.items():
            if value < 1:
                raise InputError(f"{name} must be positive, not {value}")
        channels = [width * 2**stage for stage in range(4)]
        self._schedule = ChannelSchedule(channels, strides=[4, 8, 16, 32])
        self.stem = _halve(in_channels, width)
        self.stages = nn.ModuleList()
        for before, after in zip([width, *channels], channels, strict=False):
            blocks = [Block(after) for _ in range(depth)]
            self.stages.append(nn.Sequential(_halve(before, after), *blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of pictures ``[B, C, H, W]``, shallow to deep.

        The map of stride ``s`` is ``[B, channels, ceil(H / s), ceil(W / s)]``.
        """
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the maps."""
        return self._schedule


def _halve(before: int, after: int) -> nn.Sequential:
    """Give layers that halve height and width, rounding up."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, after)
    )
