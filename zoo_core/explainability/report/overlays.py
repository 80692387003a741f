"""Maps drawn in colours, small enough for a page, and painted over the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from zoo_core.explainability.report.colours import colours, indexed
from zoo_core.pictures import class_colour

_OPACITY: Final = 0.8
_SIDE: Final = 224
"""No map in a page is longer than this; browsers enlarge it smoothly."""

_FINE: Final = 112
"""Nor are pixels' own values, of which neighbours are averaged, or nobody would see them."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A map in colours.

    Attributes:
        index: Number of each pixel's colour, ``[H, W]``.
        table: Red, green, blue and opacity of each number, ``[256, 4]``.
        scale: ``heat``, ``signed`` or ``classes``.
    """

    index: NDArray[np.uint8]
    table: NDArray[np.uint8]
    scale: str

    def png(self) -> bytes:
        """Give the map alone as a PNG file of at most 224 pixels a side."""
        picture = Image.fromarray(self.index)
        factor = _SIDE / max(picture.size)
        if factor < 1:
            width, height = (max(1, round(side * factor)) for side in picture.size)
            smooth = Image.Resampling.NEAREST if self.scale == "classes" else Image.Resampling.BOX
            picture = picture.resize((width, height), smooth)
        palette = picture.convert("P")
        palette.putpalette(self.table[:, :3].tobytes())
        file = io.BytesIO()
        palette.save(file, "PNG", transparency=self.table[:, 3].tobytes(), optimize=True)
        return file.getvalue()

    def over(self, picture: Image.Image) -> Image.Image:
        """Give the map painted over the picture, in RGB and of the picture's size."""
        painted = Image.fromarray(self.table[self.index]).resize(
            picture.size, Image.Resampling.BILINEAR
        )
        painted.putalpha(painted.getchannel("A").point(lambda value: round(_OPACITY * value)))
        return Image.alpha_composite(picture.convert("RGBA"), painted).convert("RGB")


def is_map(values: object) -> TypeGuard[Tensor]:
    """Tell whether a method's values are maps: ``[B, H, W]`` or ``[B, C, H, W]``."""
    if not isinstance(values, Tensor) or values.ndim not in (3, 4) or 0 in values.shape:
        return False
    return values.is_floating_point()


def drawn(values: object) -> Drawn | None:
    """Draw a method's values for one picture, ``[1, H, W]`` or ``[1, C, H, W]``.

    Channels are added up with their signs, and neighbouring pixels averaged to at most 112 a side.
    What else a method gives is no map: ``None``.
    """
    if not is_map(values):
        return None
    plane = values[0].detach().float().cpu()
    if plane.ndim == 3:
        height, width = plane.shape[1:]
        factor = min(1.0, _FINE / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        plane = adaptive_avg_pool2d(plane.sum(0)[None], size)[0]
    found = indexed(plane.numpy())
    return Drawn(
        index=found.levels,
        table=colours(signed=found.signed),
        scale="signed" if found.signed else "heat",
    )


def drawn_mask(mask: NDArray[np.integer]) -> Drawn:
    """Draw the class of each pixel, ``[H, W]``, in the classes' colours."""
    table = np.array([(*class_colour(number), 255) for number in range(256)], dtype=np.uint8)
    return Drawn(index=(mask % 256).astype(np.uint8), table=table, scale="classes")
