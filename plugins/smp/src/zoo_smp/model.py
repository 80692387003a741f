"""smp's decoders on the maps of any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError
from zoo_core.pyramid import resample
from zoo_smp.levels import PLACES, Keeps, Level, levels_for, power
from zoo_smp.options import OPTIONS, checked
from zoo_smp.structures import STRUCTURES, build_modules, wired


class SmpDecoder(Decoder):
    """A decoder of segmentation_models_pytorch with its segmentation head.

    Both are smp's own modules, under smp's names ``decoder`` and ``segmentation_head``, so that
    their weights are interchangeable with those of smp's models. They get a map for each of their
    strides: a backbone's maps at their places, what lies between made by ``zoo_core.pyramid``, and
    a simple feature pyramid (Li et al. 2022, https://arxiv.org/abs/2203.16527) of maps that all
    have one stride, as a plain ViT's do. Maps of pictures that the deepest stride does not divide
    are padded at the bottom and right with zeros, and the logits cropped.

    PSPNet and DeepLab v3 read the last map only, DeepLab v3+ that and the one of stride 4.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        name: ``unet``, ``unetplusplus``, ``manet``, ``linknet``, ``fpn``, ``pspnet``,
            ``deeplabv3``, ``deeplabv3plus``, ``pan``, ``upernet``, ``segformer`` or ``dpt``.
        **options: The decoder's own, as ``zoo info smp/<name>`` lists them.

    Raises:
        InputError: If there is no such decoder, or an option is unknown or has a wrong value.
    """

    def __init__(
        self,
        backbone_channels: Sequence[int],
        output_channels: int,
        name: str,
        **options: Any,
    ) -> None:
        super().__init__()
        if name not in OPTIONS:
            raise InputError(f"smp has no decoder {name!r}; it has {', '.join(OPTIONS)}")
        if output_channels < 1:
            raise InputError(
                f"output_channels of smp/{name} must be positive, not {output_channels}"
            )
        given = checked(name, options)
        schedule = ChannelSchedule(backbone_channels)
        structure = STRUCTURES[name]
        levels = levels_for(schedule.strides, structure.reads, structure.empty, structure.keeps)
        self.name = name
        self._structure = structure
        self._schedule = schedule
        self.neck = nn.ModuleList()
        self._levels: dict[int, Level] = {}
        channels = dict.fromkeys(PLACES, 0)
        for place, level in zip(structure.reads, levels, strict=True):
            if level is not None:
                layer, channels[place] = _fitted(schedule[level.source], level.step, structure.unit)
                self.neck.append(layer)
                self._levels[place] = level
        strides = [level.stride for level in self._levels.values()]
        normed = given.get("use_norm", "batchnorm") == "batchnorm"
        self._pools = structure.pools and normed
        # DPT resamples its maps itself, to strides 4, 8, 16 and 32.
        self._unit = PLACES[-1] if structure.keeps is Keeps.ALL else max(strides)
        self.decoder, self.segmentation_head = build_modules(
            structure, output_channels, given, wired(list(channels.values()), strides)
        )
        if any(parameter.numel() == 0 for parameter in self.parameters()):
            raise InputError(
                f"smp/{name} would have a layer without channels: scse needs 16 or more in every "
                f"map and step, LinkNet 4 in every map; the maps have {list(schedule)}"
            )

    def reads(self, level: int) -> bool:
        """Tell whether a level of the decoder is made of a map."""
        return level - 1 in {made.source for made in self._levels.values()}

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Give logits ``[B, output_channels, H, W]``; see :class:`zoo_core.Decoder`.

        Raises:
            InputError: If there are more or fewer maps than in the schedule, or a single picture
                is to train a decoder that normalises averages of whole maps over the batch.
        """
        if len(features) != len(self._schedule):
            raise InputError(
                f"smp/{self.name} was made for {len(self._schedule)} maps, and got {len(features)}"
            )
        stride = self._schedule.strides[0]
        covered = [side * stride for side in features[0].shape[-2:]]
        if output_size is None:
            output_size = (covered[0], covered[1])
        maps, whole = self._lay_out(features)
        logits = self.segmentation_head(self._decode(maps, whole))
        picture = [
            cast(int, torch.sym_max(torch.sym_min(wanted, side), side - stride + 1))
            for wanted, side in zip(output_size, covered, strict=True)
        ]
        logits = _laid(logits, [self._in_powers(side) for side in picture])
        return F.interpolate(logits, size=output_size, mode="bilinear", align_corners=False)

    def _lay_out(self, features: Sequence[Tensor]) -> tuple[dict[int, Tensor], list[int]]:
        """Give the maps of the levels, and the size of the picture that all of them cover."""
        levels = self._levels.values()
        maps = [
            layer(features[level.source]) for layer, level in zip(self.neck, levels, strict=True)
        ]
        stride = list(levels)[-1].stride
        unit = self._unit
        # Not -(-side // unit): ONNX would round that towards zero.
        whole = [(side * stride + unit - 1) // unit * unit for side in maps[-1].shape[-2:]]
        laid = [
            _laid(each, [side // level.stride for side in whole])
            for each, level in zip(maps, levels, strict=True)
        ]
        return dict(zip(self._levels, laid, strict=True)), whole

    def _decode(self, maps: dict[int, Tensor], whole: Sequence[int]) -> Tensor:
        last = maps[PLACES[-1]]
        if self.training and len(last) == 1 and self._pools:
            raise InputError(
                f"smp/{self.name} in training normalises averages of whole maps over the batch; "
                f"give it two pictures or more"
            )
        smallest = self._structure.smallest
        if smallest > 1:
            # The builtin would tie an exported graph to one of its branches.
            sides = [cast(int, torch.sym_max(side, smallest)) for side in last.shape[-2:]]
            maps[PLACES[-1]] = F.interpolate(last, size=sides, mode="bilinear")
        if self._structure.keeps is Keeps.ALL:
            return cast(Tensor, self.decoder(list(maps.values()), [None] * len(maps)))
        levels = [
            maps[place] if place in maps else _empty(last, [side // place for side in whole])
            for place in (1, *PLACES)
        ]
        return cast(Tensor, self.decoder(levels))

    def _in_powers(self, side: int) -> int:
        """Give a length in pixels as the decoder counts them; see :mod:`zoo_smp.levels`."""
        stride = self._schedule.strides[-1]
        if power(stride) == stride:
            return side
        return (side * power(stride) + stride // 2) // stride


def _fitted(channels: int, step: int, unit: int) -> tuple[nn.Module, int]:
    """Give the layer that brings a map to its level, and how many channels it gives.

    Each doubling halves the channels, though not below 16.
    """
    width = max(channels >> step, min(channels, 16)) if step > 0 else channels
    width = -(-width // unit) * unit
    layer = resample(width, step)
    if width != channels:
        layer = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), layer)
    return layer, width


def _laid(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad with zeros, or crop, at the bottom and right."""
    # Padding by less than nothing crops, and unlike a slice it exports for all sizes at once.
    return F.pad(x, [0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]])


def _empty(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty(like.shape[0], 0, size[0], size[1])
