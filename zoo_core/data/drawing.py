"""What synthetic pictures are made of: patterns, colours and rectangles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zoo_core.data.arguments import check_whole
from zoo_core.data.chance import mixed

_CELLS: Final = 4
"""A pattern has so many patches along each side."""

_PATTERNS: Final = 20_240_229
"""Seed of the patterns, which are the same in every data set."""

_MOST: Final = 3
"""Most rectangles in a mask."""


@dataclass(frozen=True)
class Form:
    """How many pictures a data set has, and of what size."""

    num_samples: int
    size: tuple[int, int]
    channels: int
    seed: int

    def __post_init__(self) -> None:
        check_whole("num_samples", self.num_samples, least=1)
        check_whole("channels", self.channels, least=1)
        check_whole("seed", self.seed, least=0)

    def generator(self, index: int) -> torch.Generator:
        """Give a sample's generator."""
        return torch.Generator().manual_seed(mixed(self.seed, index))

    def noise(self, generator: torch.Generator) -> Tensor:
        """Give noise ``[C, H, W]`` of unit deviation."""
        return torch.randn(self.channels, *self.size, generator=generator)


def patterns_of(classes: int, channels: int) -> Tensor:
    """Give each class's patches, ``[classes, C, 4, 4]`` from 0 to 1."""
    generator = torch.Generator().manual_seed(_PATTERNS)
    each = [torch.rand(channels, _CELLS, _CELLS, generator=generator) for _ in range(classes)]
    return torch.stack(each)


def spread(pattern: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread patches ``[C, 4, 4]`` over a picture ``[C, H, W]``."""
    rows, columns = (torch.arange(side) * _CELLS // side for side in size)
    return pattern[:, rows[:, None], columns]


def colours_of(classes: int, channels: int) -> Tensor:
    """Give each class's colour, ``[classes, C]``: grey for class 0, the others far apart.

    They are points of a sequence that fills the cube evenly (Roberts, "The unreasonable
    effectiveness of quasirandom sequences", 2018).
    """
    root = 1.5
    for _ in range(50):  # nears the root of x ** (channels + 1) = x + 1
        root = (1 + root) ** (1 / (channels + 1))
    powers = -torch.arange(1, channels + 1, dtype=torch.float64)
    colours = (0.5 + torch.arange(classes)[:, None] * root**powers) % 1
    return colours.float()


def rectangles(
    index: int, classes: int, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Give a mask ``[H, W]`` with one to three rectangles, of classes from 1.

    The last one is seen whole; the classes take turns for it.
    """
    mask = torch.zeros(size, dtype=torch.int64)
    if classes == 1:
        return mask
    count = int(torch.randint(1, _MOST + 1, (), generator=generator))
    for left in reversed(range(count)):
        label = int(torch.randint(1, classes, (), generator=generator))
        rows, columns = (_stretch(side, generator) for side in size)
        mask[rows, columns] = label if left else 1 + index % (classes - 1)
    return mask


def _stretch(side: int, generator: torch.Generator) -> slice:
    """Give a fifth to a half of a side."""
    share, place = torch.rand(2, generator=generator).tolist()
    length = max(1, round(side * (0.2 + 0.3 * share)))
    start = int(place * (side - length + 1))
    return slice(start, start + length)
