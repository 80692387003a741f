"""Turning pictures, and their masks with them, into a model's inputs."""

from __future__ import annotations

import math
from typing import Any, Final, Protocol, Self, overload, runtime_checkable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from zoo_core.data.arguments import height_and_width
from zoo_core.data.tensors import image_tensor, mask_tensor
from zoo_core.errors import InputError
from zoo_core.manifest import CROP_MODES, Preprocessing

# Nearest as Pillow has it: torch's "nearest" takes pixels that lie half a pixel off.
_MODES: Final = {
    "nearest": InterpolationMode.NEAREST_EXACT,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
}

NARROWEST: Final = 100
"""How many times longer than wide a picture may be that keeps its proportions."""


@runtime_checkable
class Prepared(Protocol):
    """A model that knows how pictures become its inputs."""

    preprocessing: Preprocessing | None


class Transforms:
    """Resizes, flips, jitters the colours and normalises; each step can be left out.

    Called with a picture, it gives float32 ``[C, H, W]``. Called with a picture and its mask, it
    gives the mask too, int64 ``[H, W]``, resized and flipped in the same way, by nearest
    neighbours. Pictures are Pillow's or tensors ``[C, H, W]``, uint8 or floating point from 0 to
    1; masks are Pillow's or tensors ``[H, W]`` of whole numbers. Neither is changed.

    What is random is drawn from torch's generator, as in torchvision; see ``set_epoch`` of the
    data sets.

    Args:
        resize: Side of the square, or height and width, to resize to; ``None`` to leave it.
        augment: Whether to flip and jitter.
        normalize: Whether to normalise, with ImageNet's mean and deviation; or the model, or its
            ``preprocessing``, to take them from. Grey pictures take the average of three channels'
            values, as models for grey do. Without it values are from 0 to 1.
        crop_mode: How sizes come to fit: ``"squash"`` gives up the proportions; ``"center"`` keeps
            them, covers the size and cuts out the middle; ``"border"`` keeps them and fits all of
            the picture in, with the mean colour around it.
        crop: Share of the resized picture's shorter side that is kept, its middle.
        interpolation: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``; masks are always nearest.
        flip: How probable a flip of left and right is, when augmenting.
        jitter: How much brightness, contrast, saturation and hue change, when augmenting; one
            number is for the first three. As in ``torchvision.transforms.v2.ColorJitter``.
        ignore_index: What a mask has beside the picture of ``"border"``.

    Raises:
        InputError: If an argument cannot be.
    """

    def __init__(
        self,
        resize: int | tuple[int, int] | None = 224,
        augment: bool = False,
        normalize: bool | Preprocessing | Prepared = True,
        *,
        crop_mode: str = "squash",
        crop: float = 1.0,
        interpolation: str = "bilinear",
        flip: float = 0.5,
        jitter: float | tuple[float, float, float, float] = 0.2,
        ignore_index: int = 255,
    ) -> None:
        self.resize = None if resize is None else height_and_width("resize", resize)
        self.augment = augment
        self.normalize = normalize is not False
        for name, value, choices in (
            ("crop_mode", crop_mode, CROP_MODES),
            ("interpolation", interpolation, tuple(_MODES)),
        ):
            if value not in choices:
                raise InputError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        for name, share, least in (("crop", crop, 0.01), ("flip", flip, 0.0)):
            if not isinstance(share, int | float) or not least <= share <= 1:
                raise InputError(f"{name} must be a number from {least:g} to 1, not {share!r}")
        self.crop_mode = crop_mode
        self.crop = crop
        self.interpolation = _MODES[interpolation]
        self.flip = flip
        self.ignore_index = ignore_index
        self._jitter = _jitter(jitter)
        known = Preprocessing() if isinstance(normalize, bool) else _preprocessing(normalize)
        self.mean, self.std = known.mean, known.std
        self._statistics = _statistics(known)

    @classmethod
    def like(cls, known: Preprocessing | Prepared, augment: bool = False, **options: Any) -> Self:
        """Give the transforms that prepare pictures as a model was made for.

        Without ``augment`` they give what ``zoo predict`` gives a classifier, but for rounding.

        Args:
            known: The model, or its ``preprocessing``.
            augment: Whether to flip and jitter.
            **options: Those of the class, where they are to differ.

        Raises:
            InputError: If the model does not know, or an option cannot be.
        """
        wanted = _preprocessing(known)
        as_known: dict[str, Any] = {
            "resize": wanted.size,
            "normalize": wanted,
            "crop_mode": wanted.crop_mode,
            "crop": wanted.crop,
            "interpolation": wanted.interpolation,
        }
        return cls(augment=augment, **(as_known | options))

    @overload
    def __call__(self, picture: Image.Image | Tensor) -> Tensor: ...

    @overload
    def __call__(
        self, picture: Image.Image | Tensor, mask: Image.Image | Tensor
    ) -> tuple[Tensor, Tensor]: ...

    def __call__(
        self, picture: Image.Image | Tensor, mask: Image.Image | Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Prepare a picture, or a picture and its mask; see the class.

        Raises:
            InputError: If they are not of the form that the class says, or the picture is too
                narrow to keep its proportions.
        """
        image = image_tensor(picture)
        numbers = None if mask is None else mask_tensor(mask, image)
        if self.resize is not None:
            image, numbers = self._resized(image, numbers, self.resize)
        if self.augment and self.flip and torch.rand(1) < self.flip:
            image = image.flip(-1)
            numbers = None if numbers is None else numbers.flip(-1)
        values = self._valued(image)
        return values if numbers is None else (values, numbers.to(torch.int64, copy=True))

    def _resized(
        self, image: Tensor, mask: Tensor | None, target: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        size = self._covering(image.shape[-2], image.shape[-1], target)
        image = F.resize(image, size, self.interpolation, antialias=True)
        short = max(0, target[0] - size[0]), max(0, target[1] - size[1])
        padding = [short[1] // 2, short[0] // 2, (short[1] + 1) // 2, (short[0] + 1) // 2]
        if any(padding):
            image = F.pad(image, padding, fill=self._fill(image))
        image = F.center_crop(image, list(target))
        if mask is None:
            return image, None
        mask = F.resize(mask[None], size, _MODES["nearest"])
        if any(padding):
            mask = F.pad(mask.long(), padding, fill=self.ignore_index)
        return image, F.center_crop(mask, list(target))[0]

    def _covering(self, height: int, width: int, target: tuple[int, int]) -> list[int]:
        """Give the size to resize to, rounded as timm rounds it; see ``zoo_core.pictures``."""
        wanted = [math.floor(side / self.crop) for side in target]
        if self.crop_mode == "squash":
            return wanted
        if max(height, width) > NARROWEST * min(height, width):
            raise InputError(
                f"a picture of {width}×{height} pixels is too narrow to keep its proportions; one "
                f"side may be at most {NARROWEST} times the other"
            )
        if self.crop_mode == "center" and wanted[0] == wanted[1]:
            shorter = min(height, width)
            return [int(wanted[0] * side / shorter) for side in (height, width)]
        choose = max if self.crop_mode == "border" else min
        ratio = choose(height / wanted[0], width / wanted[1])
        return [max(1, round(height / ratio)), max(1, round(width / ratio))]

    def _fill(self, image: Tensor) -> list[float]:
        """Give the mean colour in a picture's own values."""
        mean = self._of_channels(image)[0].flatten()
        return mean.tolist() if image.is_floating_point() else (255 * mean).round().tolist()

    def _valued(self, image: Tensor) -> Tensor:
        """Turn values into floating point, jittered and normalised."""
        scale = 1.0 if image.is_floating_point() else 1 / 255
        values = image.contiguous().to(torch.float32, copy=True)
        if self.augment and self._jitter is not None:
            if len(values) not in (1, 3):
                raise InputError(
                    f"jitter is for 1 or 3 channels, not {len(values)}; jitter=0 leaves it out"
                )
            values = self._jitter(values.mul_(scale))
            scale = 1.0
        if not self.normalize:
            return values.mul_(scale)
        mean, std = self._of_channels(image)
        return values.mul_(scale / std).sub_(mean / std)

    def _of_channels(self, image: Tensor) -> tuple[Tensor, Tensor]:
        channels = image.shape[0]
        if channels not in self._statistics:
            raise InputError(
                f"the picture has {channels} channels, but the mean {len(self.mean)} numbers; give "
                f"normalize=Preprocessing(mean=…, std=…), or False"
            )
        return self._statistics[channels]


def _jitter(amount: float | tuple[float, float, float, float]) -> v2.ColorJitter | None:
    amounts = (amount, amount, amount, 0.0) if isinstance(amount, int | float) else amount
    try:
        brightness, contrast, saturation, hue = amounts
        jitter = v2.ColorJitter(brightness, contrast, saturation, hue)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"jitter is one number, or four for brightness, contrast, saturation and hue (at most "
            f"0.5), all from 0, not {amount!r}"
        ) from error
    return jitter if any(amounts) else None


def _preprocessing(known: object) -> Preprocessing:
    found = known.preprocessing if isinstance(known, Prepared) else known
    if found is None:
        raise InputError("the model does not know its preprocessing; set model.preprocessing")
    if not isinstance(found, Preprocessing):
        raise InputError(
            f"normalize is True, False, a model with a preprocessing or a Preprocessing, not "
            f"{type(known).__name__}"
        )
    return found


def _statistics(known: Preprocessing) -> dict[int, tuple[Tensor, Tensor]]:
    """Give mean and deviation ``[C, 1, 1]`` by the number of channels that they are for."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
        for values in (known.mean, known.std)
    )
    grey = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return {1: grey, len(mean): (mean, std)}
