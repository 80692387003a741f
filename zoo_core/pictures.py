"""Reading pictures, preparing them for a model, and painting masks over them."""

from __future__ import annotations

import colorsys
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.manifest import Preprocessing

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# By content, whatever a file is called: Pillow would hand a PostScript file to Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

LARGEST = 89_478_485
"""Pixels of a picture that is made for a model: as many as Pillow reads unless told otherwise."""

NARROWEST = 100


def read_picture(path: Path, channels: int = 3) -> Image.Image:
    """Read a picture upright, in grey for one channel and in RGB for three.

    Raises:
        InputError: If the file is no picture of :data:`FORMATS`, is damaged, or has more pixels
            than Pillow thinks safe; or if pictures have no such number of channels.
    """
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise InputError(f"the model takes {channels} channels; pictures give 1 or 3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if path.exists() and not path.is_dir() and not path.is_file():
                raise ValueError("it is a pipe or a device")  # opening one may wait for ever
            with Image.open(path, formats=FORMATS) as picture:
                upright = ImageOps.exif_transpose(picture)
                return _to_eight_bits(upright).convert(modes[channels])
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: this is no picture that can be read") from None
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise InputError(f"{path}: the picture cannot be read: {error}") from error


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would cut off at 255, to 8 bits."""
    if picture.mode in ("F", "I"):
        raise ValueError(
            "floating-point and 32-bit values have no agreed scale; save it with 8 or 16 bits"
        )
    if not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture).astype(np.float64) / 257
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def resize(picture: Image.Image, preprocessing: Preprocessing, crop: float) -> Image.Image:
    """Resize a picture as its crop mode says, for an input that is ``crop`` of the result.

    Sizes are rounded as timm rounds them: one pixel more would shift the centre that is cut out.

    Raises:
        InputError: If the picture would become huge: it is very narrow, or the model wants it so.
    """
    if max(picture.size) > NARROWEST * min(picture.size):
        raise InputError(
            f"a picture of {picture.width}×{picture.height} pixels is too narrow; one side may be "
            f"at most {NARROWEST} times the other"
        )
    height, width = (math.floor(side / crop) for side in preprocessing.size)
    size = [height]
    if preprocessing.crop_mode == "squash":
        size = [height, width]
    elif preprocessing.crop_mode == "border" or height != width:
        choose = max if preprocessing.crop_mode == "border" else min
        ratio = choose(picture.height / height, picture.width / width)
        size = [round(picture.height / ratio), round(picture.width / ratio)]
    whole = size if len(size) == 2 else [side * height / min(picture.size) for side in picture.size]
    if math.prod(whole) > LARGEST:
        raise InputError(
            f"the model wants pictures of {preprocessing.size[0]}×{preprocessing.size[1]} pixels, "
            f"so that this one would have {math.prod(whole):,.0f}; at most {LARGEST:,} are made"
        )
    if len(size) == 1:  # the shorter side, and the other in proportion
        size = [int(side * height / min(picture.size)) for side in (picture.height, picture.width)]
    return picture.resize((size[1], size[0]), _FILTERS[preprocessing.interpolation])


def to_tensor(picture: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Give a picture as a normalised tensor ``[C, H, W]``."""
    values = torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1)
    mean, std = (torch.tensor(of)[:, None, None] for of in (preprocessing.mean, preprocessing.std))
    scaled = values.permute(2, 0, 1).to(torch.float32).mul_(1 / 255)
    return scaled.sub_(mean).div_(std)


def to_picture(values: Tensor) -> Image.Image:
    """Give a picture of values ``[C, H, W]`` from 0 to 1, of one channel or three."""
    levels = (values * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def prepare(picture: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Give the centre of a picture as classifiers take it: ``[C, H, W]``."""
    resized = _bordered(resize(picture, preprocessing, preprocessing.crop), preprocessing)
    height, width = preprocessing.size
    top, left = round((resized.height - height) / 2), round((resized.width - width) / 2)
    return to_tensor(resized.crop((left, top, left + width, top + height)), preprocessing)


def _bordered(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Surround a picture that is smaller than the input with the mean colour."""
    height, width = preprocessing.size
    down, across = max(0, height - picture.height), max(0, width - picture.width)
    if not down and not across:
        return picture
    padding = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
    fill = tuple(round(255 * mean) for mean in preprocessing.mean)
    return ImageOps.expand(picture, padding, fill if len(fill) > 1 else fill[0])


def prepare_whole(picture: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Give all of a picture, in its proportions, for segmentation: ``[C, H, W]``."""
    return to_tensor(
        resize(picture, replace(preprocessing, crop_mode="center"), 1.0), preprocessing
    )


def paint(picture: Image.Image, mask: NDArray[np.integer], opacity: float = 0.5) -> Image.Image:
    """Paint classes over a picture in colours that stay the same from picture to picture.

    Args:
        picture: The picture, in any mode.
        mask: Class of each pixel, ``[H, W]`` of the picture's size.
        opacity: Share of the colour, 0 to 1.
    """
    colours = np.array([class_colour(index) for index in range(int(mask.max()) + 1)])
    painted = Image.fromarray(colours[mask].astype(np.uint8))
    return Image.blend(picture.convert("RGB"), painted, opacity)


def class_colour(index: int) -> tuple[int, int, int]:
    """Give the colour of a class: hues a golden angle apart, black for class 0."""
    if index == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
