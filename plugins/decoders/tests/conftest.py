"""Schedules of every kind, and decoders for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo_core import ChannelSchedule, Decoder, registry
from zoo_core.targets import construct

DECODERS = ("fpn", "deeplabv3plus", "segformer", "upernet", "dpt", "linear")
PYRAMIDS = ("fpn", "segformer", "upernet", "dpt")

SCHEDULES = {
    "cnn": ((8, 16, 24, 32), (4, 8, 16, 32)),
    "from stride 2": ((4, 8, 16, 24, 32), (2, 4, 8, 16, 32)),
    "from stride 1": ((4, 4, 8, 16), (1, 2, 4, 8)),
    "dilated to 16": ((8, 16, 24, 32), (4, 8, 16, 16)),
    "dilated to 8": ((8, 16, 24, 32), (4, 8, 8, 8)),
    "vit 16": ((12, 12, 12, 12), (16, 16, 16, 16)),
    "vit 14": ((12, 12, 12, 12), (14, 14, 14, 14)),
    "vit 8": ((12, 12, 12, 12), (8, 8, 8, 8)),
    "vit 32": ((12, 12, 12, 12), (32, 32, 32, 32)),
    "vit 2": ((12, 12, 12, 12), (2, 2, 2, 2)),
    "all blocks of a vit": ((12,) * 12, (16,) * 12),
    "two maps of a vit": ((12, 12), (16, 16)),
    "no stride 4": ((16, 24, 32), (8, 16, 32)),
    "two strides": ((16, 32), (16, 32)),
    "fine only": ((8, 8), (1, 2)),
    "one map": ((16,), (16,)),
    "one deep map": ((16,), (32,)),
}


def schedule_of(name: str) -> ChannelSchedule:
    return ChannelSchedule(*SCHEDULES[name])


def make(decoder: str, schedule: Sequence[int], output_channels: int = 3) -> Decoder:
    """A decoder of the catalogue, a narrow one."""
    options: dict[str, Any] = {} if decoder == "linear" else {"channels": 32}
    made: Decoder = construct(
        registry.decoders[decoder],
        options,
        backbone_channels=schedule,
        output_channels=output_channels,
    )
    return made


def maps_of(schedule: ChannelSchedule, size: tuple[int, int], batch: int = 2) -> list[Tensor]:
    return [
        torch.randn(batch, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]
