"""Data sets as folders, made of what libraries bring: to try things with, without a download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from zoo_core.data.scenes import Scenes, Split
from zoo_core.errors import InputError
from zoo_core.extras import require

MASK_NAMES: Final = "mask-names.txt"


def check_empty(folder: Path) -> None:
    """Check that a folder can be filled.

    Raises:
        InputError: If something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already; give a new or an empty folder")


def write_scenes(folder: Path, counts: dict[Split, int], size: int, seed: int) -> Iterator[Path]:
    """Write :class:`Scenes`: pictures and masks in a folder for each label, and the masks' names.

    Args:
        folder: A new or empty folder.
        counts: How many scenes each split gets.
        size: Side in pixels.
        seed: Another seed gives other scenes.

    Yields:
        Each picture's path, when it is written.
    """
    check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = Scenes.labels["segmentation"]
    (folder / MASK_NAMES).write_text("\n".join(names) + "\n", encoding="utf-8")
    for split, count in counts.items():
        scenes = Scenes(count, size, seed, split)
        for index in range(count):
            sample = scenes[index]
            place = Path(str(int(sample["label"])), f"{index:05d}.png")
            picture = (sample["image"] * 255).round().byte().permute(1, 2, 0).numpy()
            path = _written(folder / split / "images" / place, picture)
            _written(folder / split / "masks" / place, sample["mask"].byte().numpy())
            yield path


def write_digits(folder: Path) -> Iterator[Path]:
    """Write scikit-learn's handwritten digits, 8 × 8 pixels; every fifth of a class is for ``val``.

    Args:
        folder: A new or empty folder.

    Yields:
        Each picture's path, when it is written.

    Raises:
        MissingDistributionError: If scikit-learn is not installed.
    """
    require("scenes", "the digits", sklearn="scikit-learn")
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    check_empty(folder)
    found: Any = load_digits()
    for digit in range(10):
        for number, index in enumerate(np.flatnonzero(found.target == digit).tolist()):
            split = "val" if number % 5 == 4 else "train"
            levels = (found.images[index] * (255 / 16)).round().astype(np.uint8)
            yield _written(folder / split / str(digit) / f"{number:03d}.png", levels)


def _written(path: Path, levels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return path
