"""Pictures and masks as tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo_core.data.masks import numbers_of
from zoo_core.data.reading import ScaleError, to_channels
from zoo_core.errors import InputError


def image_tensor(picture: Image.Image | Tensor) -> Tensor:
    """Give a picture, Pillow's or a tensor, as ``[C, H, W]`` of uint8 or floating point.

    Raises:
        InputError: If it is something else.
    """
    if isinstance(picture, Image.Image):
        if picture.mode not in ("L", "RGB"):
            grey = picture.mode == "1" or picture.mode.startswith("I;16")
            try:
                picture = to_channels(picture, 1 if grey else 3)
            except ScaleError as error:
                raise InputError(str(error)) from error
        values = torch.from_numpy(np.array(picture))
        return values[None] if values.dim() == 2 else values.permute(2, 0, 1)
    fits = isinstance(picture, Tensor) and picture.dim() == 3
    if not fits or not (picture.dtype == torch.uint8 or picture.is_floating_point()):
        raise InputError(
            f"a picture is Pillow's, or a tensor [C, H, W] of uint8 or floating point, not "
            f"{_form(picture)}"
        )
    return picture.as_subclass(Tensor)


def mask_tensor(mask: Image.Image | Tensor, image: Tensor) -> Tensor:
    """Give a picture's mask, Pillow's or a tensor, as ``[H, W]`` of whole numbers.

    Raises:
        InputError: If it is something else, or not as large as the picture.
    """
    if isinstance(mask, Image.Image):
        found = numbers_of(mask)
        numbers = None if found is None else torch.from_numpy(found)
    else:
        whole = isinstance(mask, Tensor) and not mask.is_floating_point() and mask.dim() == 2
        numbers = mask.as_subclass(Tensor) if whole else None
    if numbers is None:
        raise InputError(
            f"a mask is a grey or palette picture, or a tensor [H, W] of whole numbers, not "
            f"{_form(mask)}"
        )
    if numbers.shape != image.shape[-2:]:
        sizes = (
            "×".join(map(str, tuple(shape)[::-1])) for shape in (image.shape[1:], numbers.shape)
        )
        raise InputError("the picture has {} pixels, but the mask {}".format(*sizes))
    return numbers


def _form(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} of {value.dtype}"
    return f"{value.mode} picture" if isinstance(value, Image.Image) else type(value).__name__
