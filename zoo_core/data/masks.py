"""Masks as their files have them: a class number for each pixel. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo_core.data.errors import DataError
from zoo_core.data.reading import opened, upright
from zoo_core.errors import InputError

Mask = NDArray[np.uint8] | NDArray[np.int32]

_EXACT: Final = ("BMP", "GIF", "PNG", "TIFF")
"""Formats that keep numbers as they are: PPM scales them, JPEG and WebP only come near them."""

_SCALED: Final = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies grey of fewer than 8 bits with, so that white becomes 255."""

_AS_NUMBERS: Final = "save the class numbers as a grey or palette PNG"


def read_mask(file: str | Path) -> Mask:
    """Read a mask ``[H, W]``: the grey values, or a palette's indices, are the class numbers.

    It is turned upright if it has an EXIF orientation itself.

    Raises:
        DataError: If it is no mask or cannot be read.
    """
    with opened(file) as stored:
        return mask_of(file, stored)


def mask_of(file: str | Path, stored: Image.Image) -> Mask:
    """Give the class numbers of an opened mask; see :func:`read_mask`."""
    if stored.format not in _EXACT:
        problem = f"it is a {stored.format} file, which does not keep class numbers exactly"
        raise DataError(file, problem, _AS_NUMBERS)
    scale = _SCALED.get(_raw_mode(stored), 1)
    numbers = numbers_of(upright(stored))
    if numbers is None:
        raise DataError(file, f"it has colours ({stored.mode}), not class numbers", _AS_NUMBERS)
    return numbers if scale == 1 else numbers // scale


def numbers_of(picture: Image.Image) -> Mask | None:
    """Give a picture's values as numbers ``[H, W]``; ``None`` if it has colours instead."""
    if picture.mode in ("1", "L", "P"):
        return np.array(picture).astype(np.uint8, copy=False)
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.int32)
    return None


def _raw_mode(picture: Image.Image) -> str:
    tiles: Sequence[Any] = getattr(picture, "tile", ())
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


@dataclass(frozen=True)
class Rules:
    """What may be in a mask.

    Attributes:
        num_classes: Class numbers are below this; ``None`` if it is not known.
        ignore_index: The number of pixels that do not count; ``None`` for none.
    """

    num_classes: int | None = None
    ignore_index: int | None = 255

    def __post_init__(self) -> None:
        if self.ignore_index is not None and type(self.ignore_index) is not int:
            raise InputError(
                f"ignore_index must be a whole number or None, not {self.ignore_index!r}"
            )

    def check(self, file: str | Path, mask: Mask) -> None:
        """Check a mask's numbers.

        Raises:
            DataError: If there are others than may be.
        """
        classes = self.num_classes
        if classes is None or (mask.max() < classes and mask.min() >= 0):
            return
        wrong = mask[(mask < 0) | (mask >= classes)]
        strange = [number for number in np.unique(wrong).tolist() if number != self.ignore_index]
        if strange:
            shown = ", ".join(map(str, strange[:5])) + (", …" if len(strange) > 5 else "")
            allowed = f"classes are 0 to {classes - 1}"
            if self.ignore_index is not None:
                allowed += f", and {self.ignore_index} is ignored"
            mend = "correct it, or the number of classes"
            values = "value" if len(strange) == 1 else "values"
            raise DataError(file, f"it has the {values} {shown}, but {allowed}", mend)


def check_sizes(
    image: str | Path, size: tuple[int, int], mask: str | Path, mask_size: tuple[int, int]
) -> None:
    """Check that a picture and its mask have the same width and height.

    Raises:
        DataError: If they do not; it names both.
    """
    if size == mask_size:
        return
    turned = size == mask_size[::-1]
    raise DataError(
        mask,
        f"it has {mask_size[0]}×{mask_size[1]} pixels, but its picture {image} {size[0]}×{size[1]}",
        "turn one of them: pictures are shown as their EXIF orientation says"
        if turned
        else "make it anew for this picture, or resize it with nearest neighbours",
    )
