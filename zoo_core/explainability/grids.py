"""Where in a layer's output the places of the picture are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

MOST_PREFIX: Final = 64
"""So many tokens that stand for no place, such as class tokens and registers, are looked for."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the places of a picture are laid out in a tensor.

    Attributes:
        order: The dimensions: ``BCHW``, ``BHWC``, or tokens ``BNC`` or ``NBC``.
        grid: Height and width in places.
        prefix: How many tokens stand before those of the places.
    """

    order: str
    grid: tuple[int, int]
    prefix: int = 0

    def to_map(self, tensor: Tensor) -> Tensor:
        """Give a tensor of this layout as ``[B, C, h, w]``."""
        if self.order == "BCHW":
            return tensor
        if self.order == "BHWC":
            return tensor.permute(0, 3, 1, 2)
        tokens = tensor.transpose(0, 1) if self.order == "NBC" else tensor
        places = tokens[:, self.prefix : self.prefix + self.grid[0] * self.grid[1]]
        return places.transpose(1, 2).reshape(len(tokens), -1, *self.grid)

    def put_map(self, tensor: Tensor, places: Tensor) -> Tensor:
        """Give a tensor of this layout whose places are those of a map ``[B, C, h, w]``.

        What stands for no place is taken from ``tensor``, whose batch may be one.
        """
        if self.order == "BCHW":
            return places
        if self.order == "BHWC":
            return places.permute(0, 2, 3, 1)
        tokens = tensor.transpose(0, 1) if self.order == "NBC" else tensor
        changed = tokens.expand(len(places), -1, -1).clone()
        changed[:, self.prefix : self.prefix + self.grid[0] * self.grid[1]] = places.flatten(
            2
        ).transpose(1, 2)
        return changed.transpose(0, 1) if self.order == "NBC" else changed


def layout_of(
    tensor: Tensor, batch: int, size: tuple[int, int], grids: Sequence[tuple[int, int]] = ()
) -> Layout | None:
    """Find the layout of a layer's output, ``None`` if it has no places.

    Args:
        tensor: The output.
        batch: How many pictures it is of.
        size: Their height and width.
        grids: Grids of maps that the model made before, the latest last.
    """
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point() or batch not in shape[:2]:
        return None
    if len(shape) == 4 and shape[0] == batch:
        errors = {"BCHW": _misfit(shape[2:], size), "BHWC": _misfit(shape[1:3], size)}
        order = min(errors, key=errors.__getitem__)
        grid = shape[2:] if order == "BCHW" else shape[1:3]
        return Layout(order=order, grid=(grid[0], grid[1]))
    if len(shape) != 3:
        return None
    order, count = ("BNC", shape[1]) if shape[0] == batch else ("NBC", shape[0])
    found = _grid_of(count, size, grids)
    if found is None:
        return None
    return Layout(order=order, grid=found, prefix=count - found[0] * found[1])


def _misfit(grid: Sequence[int], size: tuple[int, int]) -> float:
    """Tell how far a grid's proportions are from the picture's."""
    return abs(math.log(grid[0] * size[1] / (grid[1] * size[0])))


def _grid_of(
    count: int, size: tuple[int, int], grids: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """Give the grid that some of ``count`` tokens fill, with as few as can be left over.

    A map that the model made before tells it, or else whole strides do.
    """
    known = [grid for grid in reversed(grids) if 0 <= count - grid[0] * grid[1] <= MOST_PREFIX]
    strides = range(1, max(size) + 1)
    guessed = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    fitting = [grid for grid in guessed if 0 <= count - grid[0] * grid[1] <= MOST_PREFIX]
    for candidates in (known, fitting):
        several = [grid for grid in candidates if grid[0] * grid[1] > 1]
        if several:
            return max(several, key=lambda grid: grid[0] * grid[1])
    return None
