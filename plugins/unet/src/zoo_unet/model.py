"""The U-Net decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError, UnknownComponentError
from zoo_core.layers import ConvNormAct
from zoo_core.pyramid import resample, resampling_steps
from zoo_unet.aspp import ASPP


class UNetDecoder(Decoder):
    """Upsamples the deepest map step by step, joining a shallower map at each step.

    After Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597), made light: every map is
    first brought to the width of its step by a 1×1 convolution. Where all maps have one stride,
    as a plain ViT's do, a simple feature pyramid (Li et al. 2022,
    https://arxiv.org/abs/2203.16527) is made of them first.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        decoder_channels: Width of each step, deep to shallow; the last one serves all that
            follow.
        atrous: An atrous spatial pyramid (Chen et al. 2017, https://arxiv.org/abs/1706.05587) on
            the deepest map; ``True`` for rates 6, 12 and 18, or the rates.
        skip_attention: Name of an attention of the catalogue that refines every skip.

    Raises:
        InputError: If an argument is out of range.
        UnknownComponentError: If there is no such attention.
    """

    def __init__(
        self,
        backbone_channels: Sequence[int],
        output_channels: int,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        atrous: bool | Sequence[int] = False,
        skip_attention: str | None = None,
    ) -> None:
        super().__init__()
        schedule = ChannelSchedule(backbone_channels)
        widths = _widths(decoder_channels, len(schedule))
        if output_channels < 1:
            raise InputError(
                f"output_channels of UNetDecoder must be positive, not {output_channels}"
            )
        steps = resampling_steps(schedule)
        self.bottleneck = nn.Sequential(
            _bottleneck(schedule[-1], widths[0], _rates(atrous)), resample(widths[0], steps[-1])
        )
        self.skips = nn.ModuleList()
        self.fuses = nn.ModuleList()
        previous = widths[0]
        skipped = zip(schedule[-2::-1], steps[-2::-1], widths, strict=False)
        for channels, step, width in skipped:
            self.skips.append(_skip(channels, width, step, skip_attention))
            self.fuses.append(_fuse(previous + width, width))
            previous = width
        self.refine: nn.Module | None = None
        if schedule.strides[0] / 2 ** steps[0] > 2:
            self.refine = ConvNormAct(previous, widths[-1], 3)
            previous = widths[-1]
        self.head = nn.Conv2d(previous, output_channels, 3, padding=1)
        self._stride = schedule.strides[0]

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Give logits ``[B, output_channels, H, W]``; see :class:`zoo_core.Decoder`."""
        if len(features) != len(self.skips) + 1:
            raise InputError(
                f"UNetDecoder was made for {len(self.skips) + 1} maps, and got {len(features)}"
            )
        if output_size is None:
            height, width = features[0].shape[-2:]
            output_size = (height * self._stride, width * self._stride)
        x = self.bottleneck(features[-1])
        for skip, fuse, feature in zip(self.skips, self.fuses, features[-2::-1], strict=True):
            shallow = skip(feature)
            x = fuse(torch.cat([_resized(x, shallow.shape[-2:]), shallow], 1))
        if self.refine is not None:
            x = self.refine(_resized(x, (x.shape[-2] * 2, x.shape[-1] * 2)))
        return _resized(self.head(x), output_size)


def _widths(given: object, levels: int) -> list[int]:
    """Give a width for each skip and for the last refinement."""
    if not (_are_whole(given) and given):
        raise InputError(
            f"decoder_channels of UNetDecoder must be positive whole numbers, not {given!r}"
        )
    widths = [*given, *[given[-1]] * levels]
    return widths[:levels]


def _rates(atrous: object) -> list[int]:
    """Give the dilation rates of the atrous pyramid; none if there is to be none."""
    if isinstance(atrous, bool):
        return [6, 12, 18] if atrous else []
    if not _are_whole(atrous):
        raise InputError(
            f"atrous of UNetDecoder must be true, false or positive dilation rates, not {atrous!r}"
        )
    return list(atrous)


def _are_whole(given: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(given, list | tuple) and all(
        isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in given
    )


def _bottleneck(channels: int, width: int, rates: list[int]) -> nn.Module:
    layer: nn.Module
    layer = ASPP(channels, rates, width) if rates else ConvNormAct(channels, width, 1)
    return layer


def _skip(channels: int, width: int, step: int, attention: str | None) -> nn.Sequential:
    layers: list[nn.Module] = [ConvNormAct(channels, width, 1), resample(width, step)]
    if attention is not None:
        layers.append(_attention(attention, width))
    return nn.Sequential(*layers)


def _attention(name: object, width: int) -> nn.Module:
    from zoo_core import registry
    from zoo_core.targets import construct

    if not isinstance(name, str):
        raise InputError(
            f"skip_attention of UNetDecoder must be the name of an attention, not {name!r}"
        )
    try:
        spec = registry.attention[name]
    except UnknownComponentError as error:
        raise UnknownComponentError(f"skip_attention of UNetDecoder: {error}") from error
    made: nn.Module = construct(spec, {}, in_channels=width)
    return made


def _fuse(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(channels, width, 3), ConvNormAct(width, width, 3))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=(size[0], size[1]), mode="bilinear", align_corners=False)
