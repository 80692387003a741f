"""Which picture sizes a model takes, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Size = tuple[int, int]

# Gives the sizes of the maps of a picture of one size; None where the model cannot take it.
MapSizes = Callable[[Size], Sequence[Size] | None]


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """How pictures are made to fit a model, and its maps to fit the pictures.

    Attributes:
        unit: What the sides of a picture are padded to a multiple of; 1 for any size.
        minimum: What the sides are padded to at least.
        fixed: The only size the model takes, to which pictures are resized; ``None`` otherwise.
        on_grid: Whether the map of stride ``s`` is exactly ``ceil(side / s)`` long without help.
    """

    unit: int = 1
    minimum: int = 1
    fixed: Size | None = None
    on_grid: bool = True

    def padded(self, size: Size) -> Size:
        """Give the size of a picture after padding."""
        height, width = (max(self.minimum, -(-side // self.unit) * self.unit) for side in size)
        return height, width


def on_grid(size: Size, strides: Sequence[int]) -> list[Size]:
    """Give the sizes that maps of these strides should have."""
    # Not by negative numbers, whose quotient ONNX rounds the other way.
    height, width = size
    return [((height + s - 1) // s, (width + s - 1) // s) for s in strides]


def find_sizing(map_sizes: MapSizes, strides: Sequence[int], native: Size) -> Sizing | None:
    """Find how a model takes pictures of any size.

    The smallest unit is preferred whose multiples give maps on the grid, then the smallest whose
    multiples run at all.

    Args:
        map_sizes: Tries one size.
        strides: Strides of the maps.
        native: The size the model was made for.

    Returns:
        ``None`` if the model takes its native size only.
    """
    runs: int | None = None
    for unit in units(strides, native):
        sizes = _samples(unit, native)
        maps = [map_sizes(size) for size in sizes]
        if maps == [on_grid(size, strides) for size in sizes]:
            return Sizing(unit=unit, minimum=_minimum(map_sizes, strides, native, unit, True))
        if runs is None and None not in maps:
            runs = unit
    if runs is None:
        return None
    minimum = _minimum(map_sizes, strides, native, runs, False)
    return Sizing(unit=runs, minimum=minimum, on_grid=False)


def units(strides: Sequence[int], native: Size) -> list[int]:
    """Give what sides may have to be multiples of: one, the deepest stride, windows of it."""
    cells = max(1, max(native) // strides[-1])
    return [1, *(strides[-1] * n for n in range(1, cells + 1) if cells % n == 0)]


def _samples(unit: int, native: Size) -> list[Size]:
    """Give sizes beyond the native one that have nothing but the unit in common."""
    cells = max(native) // unit
    steps = [(1, 2), (13, 27)] if unit == 1 else [(1, 2)]
    return [((cells + high) * unit, (cells + wide) * unit) for high, wide in steps]


def _minimum(
    map_sizes: MapSizes,
    strides: Sequence[int],
    native: Size,
    unit: int,
    exactly: bool,
) -> int:
    """Give the smallest side that the model takes, of a few."""

    def takes(size: Size) -> bool:
        maps = map_sizes(size)
        return maps == on_grid(size, strides) if exactly else maps is not None

    step = max(unit, strides[-1])
    side: int
    for side in (unit, *range(step, max(native), step)):
        if takes((side, side)) and takes((side + unit, side)):
            return side
    return -(-max(native) // unit) * unit
