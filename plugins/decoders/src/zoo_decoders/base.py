"""What the decoders have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError
from zoo_core.pyramid import spread_steps


class Head(Decoder):
    """Checks what it is given, and brings the logits to the size asked for.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__()
        schedule = ChannelSchedule(backbone_channels)
        self.check_whole("output_channels", output_channels)
        self._levels = len(schedule)
        self._stride = schedule.strides[0]

    @abstractmethod
    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Give logits of any resolution."""

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Give logits ``[B, output_channels, H, W]``; see :class:`zoo_core.Decoder`.

        Raises:
            InputError: If there are more or fewer maps than in the schedule.
        """
        if len(features) != self._levels:
            raise InputError(
                f"{type(self).__name__} was made for {self._levels} maps, and got {len(features)}"
            )
        if output_size is None:
            height, width = features[0].shape[-2:]
            output_size = (height * self._stride, width * self._stride)
        return resized(self.decode(features), output_size)

    def check_whole(self, name: str, value: object, multiple: int = 1) -> None:
        """Refuse what is no positive whole number, or not a multiple."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % multiple:
            wanted = "whole number" if multiple == 1 else f"multiple of {multiple}"
            raise InputError(
                f"{name} of {type(self).__name__} must be a positive {wanted}, not {value!r}"
            )

    def check_dropout(self, value: object) -> None:
        """Refuse what is no share below one."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise InputError(
                f"dropout of {type(self).__name__} must be from 0 to below 1, not {value!r}"
            )


class PyramidHead(Head):
    """A head that reads a pyramid from stride 4 to 32, or as near to it as the maps are.

    Maps of stride 1 and 2 are joined to the next deeper one, at its size, because the layers
    after them would cost too much at theirs. Maps that all have one stride, as a plain ViT's do,
    are spread over the pyramid.

    Attributes:
        channels: Channels of each level before it is resampled, shallow to deep.
        steps: How often to double (positive) or halve each level's resolution.
        strides: Strides of the levels after that.
    """

    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__(backbone_channels, output_channels)
        schedule = ChannelSchedule(backbone_channels)
        given = schedule.strides
        fine = 0
        if len(set(given)) > 1:
            fine = min(sum(stride <= 2 for stride in given), len(given) - 1)
        self._joined = fine + 1
        self.channels = [sum(schedule[: self._joined]), *schedule[self._joined :]]
        self.steps = spread_steps(ChannelSchedule(self.channels, given[fine:]))
        self.strides = [
            stride / 2**step for stride, step in zip(given[fine:], self.steps, strict=True)
        ]

    @abstractmethod
    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Give logits of any resolution from one map a level."""

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Give logits of any resolution."""
        *fine, base = features[: self._joined]
        if fine:
            base = torch.cat([*(resized(x, base.shape[-2:]) for x in fine), base], 1)
        return self.fuse([base, *features[self._joined :]])


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``[B, C, H, W]`` bilinearly."""
    return F.interpolate(x, size=(size[0], size[1]), mode="bilinear", align_corners=False)


def doubled(x: Tensor) -> Tensor:
    """Double height and width bilinearly."""
    return resized(x, (x.shape[-2] * 2, x.shape[-1] * 2))
