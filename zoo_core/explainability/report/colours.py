"""From values to colours: one scale for what only speaks for a class, one for both signs."""

from __future__ import annotations

from typing import Final, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

_SHARE: Final = 0.99
"""Beyond this quantile values are not told apart; what is left of a map is mostly noise."""


class Indexed(NamedTuple):
    """A map as numbers of colours.

    Attributes:
        levels: ``[H, W]``, from 0 to 255.
        signed: Whether 128 is nothing, instead of 0.
    """

    levels: NDArray[np.uint8]
    signed: bool


def indexed(plane: NDArray[np.floating]) -> Indexed:
    """Give the colours' numbers of a map ``[H, W]``; values that are not finite are nothing.

    With both signs zero keeps its colour; otherwise the least value is nothing.
    """
    values = np.nan_to_num(plane.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    signed = bool(values.min() < 0)
    values = values if signed else values - values.min()
    size = np.abs(values)
    scale = float(np.quantile(size, _SHARE)) or float(size.max()) or 1.0
    shares = np.clip(values / scale, -1, 1)
    levels = 128 + 127 * shares if signed else 255 * shares
    return Indexed(levels.round().astype(np.uint8), signed)


def colours(*, signed: bool) -> NDArray[np.uint8]:
    """Give the 256 colours ``[256, 4]`` of a scale; what is nothing is transparent."""
    name = "RdBu_r" if signed else "inferno"
    places = np.linspace(0, 1, 256)
    strength = np.abs(np.arange(256) - 128).clip(0, 127) / 127 if signed else places
    if not signed:
        places = 0.15 + 0.85 * places  # its darkest colours would only dim the picture
    rgba = matplotlib.colormaps[name](places)
    rgba[:, 3] = np.clip(1.4 * strength, 0, 1)
    table: NDArray[np.uint8] = (255 * rgba).round().astype(np.uint8)
    return table
