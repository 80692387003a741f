"""The linear probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_core import ChannelSchedule
from zoo_core.errors import InputError
from zoo_decoders.base import Head, resized


class LinearDecoder(Head):
    """Classifies every place of the last map by one linear layer, and upsamples the logits.

    It shows what a backbone's maps know by themselves, as in DINOv2 (Oquab et al. 2023,
    https://arxiv.org/abs/2304.07193): a batch norm and a 1×1 convolution.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        maps: How many of the last maps are read; several are resized to the finest of them and
            concatenated. DINOv2 has 1, and 4 for its better results.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self, backbone_channels: Sequence[int], output_channels: int, maps: int = 1
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.check_whole("maps", maps)
        schedule = ChannelSchedule(backbone_channels)
        if maps > len(schedule):
            raise InputError(
                f"maps of LinearDecoder must be at most {len(schedule)}, as many as the backbone "
                f"gives, not {maps}"
            )
        channels = sum(schedule[-maps:])
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Conv2d(channels, output_channels, 1)
        self._maps = maps

    def reads(self, level: int) -> bool:
        """Tell whether a level is among the last ones."""
        return level > self._levels - self._maps

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Give logits of the resolution of the finest map that is read."""
        x, *others = features[-self._maps :]
        if others:
            x = torch.cat([x, *(resized(other, x.shape[-2:]) for other in others)], 1)
        logits: Tensor = self.head(self.norm(x))
        return logits
