"""ConvMixer: convolutions on patches, at one resolution from beginning to end."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from zoo_core import Backbone, ChannelSchedule
from zoo_core.errors import InputError

from birdhouse.arguments import check_whole


class ConvMixer(Backbone):
    """Blocks that mix places by a depthwise convolution, then channels by a 1x1 convolution.

    After Trockman and Kolter 2022 (https://arxiv.org/abs/2201.09792). The maps are those after
    each quarter of the blocks, all of one stride, as a plain vision transformer's are. Tensors
    have the names that timm gives them, so that weights made for it are read.

    Args:
        in_channels: Channels of the pictures.
        width: Channels of every map.
        depth: Blocks; with fewer than four, there are as many maps.
        patch_size: Side of a patch in pixels, and so the stride of every map.
        kernel_size: Side of the depthwise convolutions, an odd number.

    Raises:
        InputError: If one of them is not positive, or ``kernel_size`` is even.
    """

    first_conv = "stem.0"
    classifier = "head"

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 256,
        depth: int = 8,
        patch_size: int = 7,
        kernel_size: int = 9,
    ) -> None:
        super().__init__()
        check_whole(
            in_channels=in_channels,
            width=width,
            depth=depth,
            patch_size=patch_size,
            kernel_size=kernel_size,
        )
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be odd, not {kernel_size}")
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, patch_size, stride=patch_size),
            nn.GELU(),
            nn.BatchNorm2d(width),
        )
        self.blocks = nn.Sequential(*(_block(width, kernel_size) for _ in range(depth)))
        levels = min(4, depth)
        self._ends = [depth * level // levels for level in range(1, levels + 1)]
        self._schedule = ChannelSchedule([width] * levels, strides=[patch_size] * levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of pictures ``[B, C, H, W]``, shallow to deep.

        Pictures that no whole number of patches covers are padded at the right and bottom.
        """
        patch = self._schedule.strides[0]
        x = self.stem(F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch)))
        maps = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self._ends:
                maps.append(x)
        return maps

    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the maps."""
        return self._schedule


class Residual(nn.Module):
    """Adds to a map what a module makes of it."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Give a map of the same shape."""
        change: Tensor = self.fn(x)
        return x + change


def _block(width: int, kernel_size: int) -> nn.Sequential:
    places = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
    return nn.Sequential(
        Residual(nn.Sequential(places, nn.GELU(), nn.BatchNorm2d(width))),
        nn.Conv2d(width, width, 1),
        nn.GELU(),
        nn.BatchNorm2d(width),
    )
