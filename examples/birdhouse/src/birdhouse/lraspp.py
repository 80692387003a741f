"""Lite R-ASPP, the segmentation head of MobileNetV3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError

from birdhouse.arguments import check_whole


class LRASPP(Decoder):
    """Classifies the last map, weighed by its own average, and a finer one, and sums the logits.

    After Howard et al. 2019 (https://arxiv.org/abs/1905.02244), with torchvision's sizes and
    names of tensors. The finer map is the one whose stride is nearest to 8, as in the paper, of
    all before the last one; it is the last one itself where that stands alone.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width of what becomes of the last map.

    Raises:
        InputError: If a number is not positive.
    """

    def __init__(
        self, backbone_channels: Sequence[int], output_channels: int, channels: int = 128
    ) -> None:
        super().__init__()
        check_whole(output_channels=output_channels, channels=channels)
        schedule = ChannelSchedule(backbone_channels)
        self._levels = len(schedule)
        self._stride = schedule.strides[0]
        finer = schedule.strides[:-1] or schedule.strides
        self._low = min(range(len(finer)), key=lambda level: abs(math.log2(finer[level] / 8)))
        high = schedule[-1]
        self.cbr = nn.Sequential(
            nn.Conv2d(high, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, channels, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(schedule[self._low], output_channels, 1)
        self.high_classifier = nn.Conv2d(channels, output_channels, 1)

    def reads(self, level: int) -> bool:
        """Tell whether a map is one of the two, 1 being the shallowest."""
        return level in (self._low + 1, self._levels)

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Give logits ``[B, output_channels, H, W]``.

        Args:
            features: The maps, shallow to deep.
            output_size: Height and width of the logits; without it, the shallowest map's size
                times its stride.

        Raises:
            InputError: If there are more or fewer maps than the decoder was made for.
        """
        if len(features) != self._levels:
            raise InputError(f"LRASPP was made for {self._levels} maps, and got {len(features)}")
        low, high = features[self._low], features[-1]
        x = _resized(self.cbr(high) * self.scale(high), low.shape[-2:])
        logits = self.low_classifier(low) + self.high_classifier(x)
        if output_size is None:
            height, width = features[0].shape[-2:]
            output_size = (height * self._stride, width * self._stride)
        return _resized(logits, output_size)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=(size[0], size[1]), mode="bilinear", align_corners=False)
