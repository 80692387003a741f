"""Schedules of every kind, and decoders for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo_core import ChannelSchedule
from zoo_smp.model import SmpDecoder

SCHEDULES = {
    "cnn": ((16, 24, 40, 48), (4, 8, 16, 32)),
    "from stride 2": ((16, 16, 24, 40, 48), (2, 4, 8, 16, 32)),
    "from stride 1": ((8, 16, 16, 24, 40, 48), (1, 2, 4, 8, 16, 32)),
    "dilated to 16": ((16, 24, 40, 48), (4, 8, 16, 16)),
    "dilated to 8": ((16, 24, 40, 48), (4, 8, 8, 8)),
    "dilated from stride 2": ((16, 16, 24, 40, 48), (2, 4, 8, 8, 8)),
    "vit 16": ((32, 32, 32, 32), (16, 16, 16, 16)),
    "vit 14": ((32, 32, 32, 32), (14, 14, 14, 14)),
    "vit 8": ((32, 32, 32, 32), (8, 8, 8, 8)),
    "vit 32": ((32, 32, 32, 32), (32, 32, 32, 32)),
    "all blocks of a vit": ((32,) * 12, (16,) * 12),
    "to stride 64": ((24, 40, 48), (16, 32, 64)),
    "no stride 4": ((38, 61, 185), (8, 16, 32)),
    "a gap": ((16, 40), (4, 16)),
    "two strides": ((40, 48), (16, 32)),
    "two maps of a vit": ((32, 32), (14, 14)),
    "one map": ((32,), (16,)),
    "one odd map": ((33,), (14,)),
    "one fine map": ((16,), (1,)),
}

# Narrow ones, to be quick.
NARROW: dict[str, dict[str, Any]] = {
    "unet": {"decoder_channels": (32, 16, 16, 16, 16)},
    "unetplusplus": {"decoder_channels": (32, 16, 16, 16, 16)},
    "manet": {"decoder_channels": (32, 16, 16, 16, 16), "decoder_pab_channels": 8},
    "linknet": {"decoder_prefinal_channels": 16},
    "fpn": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "pspnet": {"psp_out_channels": 32},
    "deeplabv3": {"decoder_channels": 32, "decoder_atrous_rates": (2, 4, 6)},
    "deeplabv3plus": {"decoder_channels": 32, "decoder_atrous_rates": (2, 4, 6)},
    "pan": {"decoder_channels": 16},
    "upernet": {"decoder_channels": 32},
    "segformer": {"decoder_segmentation_channels": 32},
    "dpt": {"decoder_intermediate_channels": (16, 24, 32, 32), "decoder_fusion_channels": 32},
}
DECODERS = tuple(NARROW)


def schedule_of(name: str) -> ChannelSchedule:
    return ChannelSchedule(*SCHEDULES[name])


def narrow(decoder: str, schedule: str, **options: Any) -> SmpDecoder:
    return SmpDecoder(schedule_of(schedule), 3, decoder, **{**NARROW[decoder], **options})


def maps_of(schedule: ChannelSchedule, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    return [
        torch.randn(batch, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]
