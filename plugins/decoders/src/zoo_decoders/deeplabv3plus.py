"""The decoder of DeepLabV3+."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo_core import ChannelSchedule
from zoo_core.errors import InputError
from zoo_core.layers import ConvNormAct
from zoo_core.pyramid import resample
from zoo_decoders.base import Head, resized

LOW_LEVEL = 48  # channels of the low-level map: more would drown what the deep one says


class DeepLabV3PlusDecoder(Head):
    """Looks around at several distances on the deepest map, then refines by a shallow one.

    After Chen et al. 2018 (https://arxiv.org/abs/1802.02611). The shallow map is the one whose
    stride is nearest to 4; the first one, upsampled to about 4, where all maps have one stride.
    Other maps are not read.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width.
        atrous_rates: Dilation rates on the deepest map. By default as far as the paper's reach,
            96, 192 and 288 pixels: 6, 12 and 18 at stride 16, twice that at stride 8.
        dropout: Share of values dropped after the atrous spatial pyramid.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self,
        backbone_channels: Sequence[int],
        output_channels: int,
        channels: int = 256,
        atrous_rates: Sequence[int] | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.check_whole("channels", channels)
        self.check_dropout(dropout)
        schedule = ChannelSchedule(backbone_channels)
        strides = schedule.strides
        if atrous_rates is None:
            atrous_rates = [max(1, round(reach / strides[-1])) for reach in (96, 192, 288)]
        self._check_rates(atrous_rates)
        offsets = [math.log2(stride / 4) for stride in strides]
        # The deepest one only where it is alone.
        self._low = min(range(max(1, len(strides) - 1)), key=lambda level: abs(offsets[level]))
        step = round(offsets[0]) if len(set(strides)) == 1 else 0
        self.low = nn.Sequential(
            ConvNormAct(schedule[self._low], LOW_LEVEL, 1), resample(LOW_LEVEL, step)
        )
        self.deep = nn.Sequential(ASPP(schedule[-1], channels, atrous_rates), nn.Dropout(dropout))
        self.head = nn.Sequential(
            separable(channels + LOW_LEVEL, channels),
            separable(channels, channels),
            nn.Conv2d(channels, output_channels, 1),
        )

    def _check_rates(self, rates: object) -> None:
        if isinstance(rates, str) or not isinstance(rates, Sequence) or not rates:
            raise InputError(
                f"atrous_rates of DeepLabV3PlusDecoder must be whole numbers, not {rates!r}"
            )
        for rate in rates:
            self.check_whole("each of atrous_rates", rate)

    def reads(self, level: int) -> bool:
        """Tell whether a level is the low one or the last."""
        return level in (self._low + 1, self._levels)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Give logits of the shallow map's resolution."""
        low = self.low(features[self._low])
        deep = resized(self.deep(features[-1]), low.shape[-2:])
        logits: Tensor = self.head(torch.cat([deep, low], 1))
        return logits


class ASPP(nn.Module):
    """An atrous spatial pyramid of separable convolutions, with the average of the whole map.

    That average is the same everywhere, and a norm would take it away from a batch of one. So it
    has none of its own, and is added behind the norm of the others: in eval mode that is the
    paper's function all the same.
    """

    def __init__(self, in_channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNormAct(in_channels, width, 1)])
        self.branches.extend(separable(in_channels, width, rate) for rate in rates)
        self.join = ConvNormAct(width * len(self.branches), width, 1, activation_layer=None)
        self.average = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, width, H, W]``."""
        joined = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        return torch.relu(joined + self.average(x.mean((-2, -1), keepdim=True)))


def separable(in_channels: int, width: int, dilation: int = 1) -> nn.Sequential:
    """Give a 3×3 convolution of each channel by itself, then a 1×1 one with norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            in_channels,
            3,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        ),
        ConvNormAct(in_channels, width, 1),
    )
