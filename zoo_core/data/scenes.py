"""Scenes of real handwritten digits on real photographs: two tasks, without a download."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from zoo_core.data.samples import Sample
from zoo_core.errors import InputError
from zoo_core.extras import require

Split = Literal["train", "val"]

_SPLITS: Final = ("train", "val")
_SMALLEST: Final = 32
_PHOTOS: Final = (
    "astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel",
    "hubble_deep_field", "immunohistochemistry", "moon", "retina", "rocket",
)  # fmt: skip
_MARGIN: Final = 10
"""Side of a digit's picture with an empty border, so that a turned digit fits."""

_FINE: Final = 4
"""How many pixels a pixel of a digit is drawn with before it is fitted into a scene."""

_EDGE: Final = 120
"""Where a stroke ends, of 255."""

_WRITTEN: Final = 8 / _MARGIN
"""Share of a digit's side, border included, that is written on."""

_TRIES: Final = 12
_INK: Final = 0.6
"""How much ink another digit may have at most, as a share of the labelled one's."""


@dataclass(frozen=True)
class _Digit:
    """A handwritten digit: its value, its finely drawn strokes, and its share of ink."""

    value: int
    strokes: Image.Image
    ink: float


class Scenes(Dataset[Sample]):
    """Scenes of two to five handwritten digits on a photograph, with a label and a mask.

    The digits are scikit-learn's (8 × 8 pixels, written by 43 people), the photographs
    scikit-image's; both come with those libraries, so nothing is downloaded. The digits of a scene
    are different from each other, and differ in size, colour, place and slant. The label is the
    largest digit, which lies on top of the others and covers more of the mask than any of them.

    A sample is a :class:`Sample` of

    - ``"image"``, float32 ``[3, H, W]`` from 0 to 1,
    - ``"label"``, int64 ``[]``, 0 to 9,
    - ``"mask"``, int64 ``[H, W]``: 0 for the background, 1 + digit for a digit.

    Samples depend on their index, ``seed``, ``split`` and ``size`` only. The splits have neither a
    handwritten digit nor a part of a photograph in common.

    Args:
        length: Number of scenes.
        size: Side, or height and width, in pixels, from 32.
        seed: Another seed gives other scenes.
        split: ``"train"`` or ``"val"``.

    Attributes:
        labels: Class names of each head, as a model's ``labels`` are.

    Raises:
        InputError: If an argument cannot be.
        MissingDistributionError: If scikit-image or scikit-learn is not installed.
    """

    labels: Final = {
        "classification": tuple(map(str, range(10))),
        "segmentation": ("background", *map(str, range(10))),
    }

    def __init__(
        self,
        length: int = 1000,
        size: int | tuple[int, int] = 96,
        seed: int = 0,
        split: Split = "train",
    ) -> None:
        _check_whole("length", length, least=1)
        _check_whole("seed", seed, least=0)
        sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
        if len(sides) != 2:
            raise InputError(f"size is one side, or height and width, not {size!r}")
        for side in sides:
            _check_whole("size", side, least=_SMALLEST)
        if split not in _SPLITS:
            raise InputError(f"split is 'train' or 'val', not {split!r}")
        require("scenes", "Scenes", skimage="scikit-image", sklearn="scikit-learn")
        self.size = sides
        self.seed = seed
        self.split = split
        self._length = length
        self._digits = _digits(split)
        self._photos = _photos(split)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Give one scene.

        Raises:
            IndexError: If there is no such scene.
        """
        index = range(self._length)[index]
        rng = np.random.default_rng((self.seed, _SPLITS.index(self.split), index))
        scene = self._background(rng)
        mask = np.zeros(self.size, np.int64)
        values = rng.permutation(10)[: rng.integers(2, 6)]
        chosen = [self._digits[value] for value in values]
        digits = [of_value[rng.integers(len(of_value))] for of_value in chosen]
        largest = min(self.size) * rng.uniform(0.5, 0.7)
        sides = [largest]
        for digit in digits[1:]:
            bound = min(0.7, math.sqrt(_INK * digits[0].ink / digit.ink))
            sides.append(largest * bound * rng.uniform(0.6, 1))
        corners = _places(sides, self.size, rng)
        for digit, side, corner in reversed(list(zip(digits, sides, corners, strict=True))):
            _draw(digit, side, corner, scene, mask, rng)
        return Sample(
            image=torch.from_numpy(np.ascontiguousarray(scene.transpose(2, 0, 1))),
            label=torch.tensor(int(values[0])),
            mask=torch.from_numpy(mask),
        )

    def _background(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Give a part of a photograph ``[H, W, 3]``."""
        photo = self._photos[rng.integers(len(self._photos))]
        height, width = self.size
        longest = min(photo.width / width, photo.height / height)
        across, down = (side * longest * rng.uniform(0.4, 0.8) for side in (width, height))
        left = rng.uniform(0, photo.width - across)
        top = rng.uniform(0, photo.height - down)
        box = (left, top, left + across, top + down)
        part = photo.resize((width, height), Image.Resampling.BILINEAR, box, 1)
        return np.asarray(part, np.float32) / np.float32(255)


def _places(
    sides: Sequence[float], size: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Give the top left corners of digits, apart from each other as far as a few tries find."""
    placed: list[tuple[int, int]] = []
    for number, side in enumerate(sides):
        room = np.subtract(size, math.ceil(side)) + 1
        for top, left in (rng.random((_TRIES, 2)) * room).astype(int).tolist():
            apart = all(
                max(abs(top + side / 2 - y - other / 2), abs(left + side / 2 - x - other / 2))
                > (side + other) / 2 * _WRITTEN
                for (y, x), other in zip(placed, sides[:number], strict=True)
            )
            if apart:
                break
        placed.append((top, left))
    return placed


def _draw(
    digit: _Digit,
    side: float,
    corner: tuple[int, int],
    scene: NDArray[np.float32],
    mask: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Draw a digit into scene and mask, in a colour that is seen there."""
    strokes = _turned(digit.strokes, side, math.radians(rng.uniform(-15, 15)))
    top, left = corner
    place = (slice(top, top + len(strokes)), slice(left, left + len(strokes)))
    under = scene[place]
    colour = rng.random(3, np.float32) * 0.45
    if under.mean() < 0.5:
        colour = 1 - colour
    scene[place] = under + strokes[:, :, None] * (colour - under)
    mask[place][strokes > 0.5] = digit.value + 1


def _turned(strokes: Image.Image, side: float, angle: float) -> NDArray[np.float32]:
    """Give strokes turned, of a size, with sharp borders: 1 where they are, 0 elsewhere."""
    pixels = math.ceil(side)
    scale = strokes.width / side
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    middle, centre = strokes.width / 2, pixels / 2
    affine = (
        cosine, sine, middle - (cosine + sine) * centre,
        -sine, cosine, middle - (cosine - sine) * centre,
    )  # fmt: skip
    turned = strokes.transform(
        (pixels, pixels), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    return ((np.asarray(turned).astype(np.float32) - _EDGE) / 50 + 0.5).clip(0, 1)


@cache
def _digits(split: Split) -> tuple[tuple[_Digit, ...], ...]:
    """Give the handwritten digits of a split by their value: of each fifth for validation."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    found: Any = load_digits()
    digits: list[tuple[_Digit, ...]] = []
    for value in range(10):
        of_value = np.flatnonzero(found.target == value)
        is_val = np.arange(len(of_value)) % 5 == 4
        chosen = of_value[is_val if split == "val" else ~is_val]
        digits.append(tuple(_digit(value, found.images[number]) for number in chosen))
    return tuple(digits)


def _digit(value: int, picture: NDArray[np.float64]) -> _Digit:
    """Draw a digit of 8 × 8 pixels from 0 to 16 finely, with a border."""
    border = (_MARGIN - len(picture)) // 2
    levels = np.pad(picture * (255 / 16), border).round().astype(np.uint8)
    fine = (_MARGIN * _FINE, _MARGIN * _FINE)
    strokes = Image.fromarray(levels).resize(fine, Image.Resampling.BICUBIC)
    return _Digit(value, strokes, float((np.asarray(strokes) > _EDGE).mean()))


@cache
def _photos(split: Split) -> tuple[Image.Image, ...]:
    """Give the photographs of a split: their left two thirds to train on, the rest to validate."""
    from skimage import data

    photos = []
    for name in _PHOTOS:
        whole = Image.fromarray(getattr(data, name)()).convert("RGB")
        border = whole.width * 2 // 3
        left, right = (0, border) if split == "train" else (border, whole.width)
        photos.append(whole.crop((left, 0, right, whole.height)))
    return tuple(photos)


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number from {least}, not {value!r}")
