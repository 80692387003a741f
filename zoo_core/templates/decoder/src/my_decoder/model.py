"""A decoder: it turns a backbone's maps into one map of logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError


class MyDecoder(Decoder):
    """Brings all maps to one width and to the finest one's size, sums them, and refines the sum.

    Any schedule will do: nothing here depends on the strides but the size of the logits.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        width: Channels that every map is brought to.

    Raises:
        InputError: If a number is not positive.
    """

    def __init__(
        self, backbone_channels: Sequence[int], output_channels: int, width: int = 64
    ) -> None:
        super().__init__()
        for name, value in (("output_channels", output_channels), ("width", width)):
            if value < 1:
                raise InputError(f"{name} must be positive, not {value}")
        schedule = ChannelSchedule(backbone_channels)
        self._stride = schedule.strides[0]
        self.project = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in schedule)
        self.refine = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(1, width), nn.GELU()
        )
        self.classify = nn.Conv2d(width, output_channels, 1)

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
        if len(features) != len(self.project):
            raise InputError(f"made for {len(self.project)} maps, and got {len(features)}")
        height, width = features[0].shape[-2:]
        total = self.project[0](features[0])
        for project, feature in zip(self.project[1:], features[1:], strict=True):
            total = total + _resized(project(feature), (height, width))
        if output_size is None:
            output_size = (height * self._stride, width * self._stride)
        return _resized(self.classify(self.refine(total)), output_size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
