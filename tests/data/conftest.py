"""Folders of real picture files, written by Pillow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

Put = Callable[..., Path]

ORIENTATION = 0x0112
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a picture has to be stored to be upright when shown by each EXIF orientation."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch use one core: for so small pictures and networks, more are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    """scikit-image's photograph of a cat, made smaller: 150 × 100."""
    return Image.fromarray(data.chelsea()).resize((150, 100))


@pytest.fixture
def put(tmp_path: Path, cat: Image.Image) -> Put:
    """Write a picture, the cat by default, under ``tmp_path``; turned by an orientation."""

    def save(
        name: str,
        picture: Image.Image | NDArray[np.generic] | None = None,
        orientation: int = 1,
        **options: object,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = cat if picture is None else picture
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        if orientation > 1:
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            image = image.transpose(STORED[orientation])
            options["exif"] = exif
        image.save(path, **options)
        return path

    return save


@pytest.fixture
def numbers() -> NDArray[np.uint8]:
    """A mask of the cat's size with the numbers 0 to 3."""
    rows, columns = np.mgrid[:100, :150]
    return ((rows > 30).astype(np.uint8) + 2 * (columns > 70)).astype(np.uint8)


@pytest.fixture
def classes(put: Put, cat: Image.Image, tmp_path: Path) -> Path:
    """Two classes of three different pictures each, in train and in val."""
    for split in ("train", "val"):
        for number in range(3):
            for name in ("cat", "dog"):
                place = 10 * number + 40 * (split == "val")
                part = cat.crop((place, 0, place + 60 + number, 90))
                part = part if name == "cat" else part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                put(f"classes/{split}/{name}/{number}.png", part)
    return tmp_path / "classes"
