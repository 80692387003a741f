"""Pictures with masks."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from PIL import Image

from zoo_core.data.arguments import check_whole, distinct
from zoo_core.data.base import Raw, SampleDataset, Transform
from zoo_core.data.errors import DataError
from zoo_core.data.folders import Pair, pair
from zoo_core.data.masks import Mask, Rules, check_sizes, read_mask
from zoo_core.data.reading import check_channels, read_picture
from zoo_core.errors import InputError


class SegmentationDataset(SampleDataset):
    """Pictures with masks, which are paired by their names without suffix.

    ``images/street/1.jpg`` goes with ``masks/street/1.png``. Masks are grey or palette pictures
    (PNG, TIFF, BMP or GIF) whose values, or palette indices, are the class numbers; 0 and 1 where
    they have one bit. ``zoo data check`` finds what cannot be used.

    A sample is ``{"image": [C, H, W], "mask": [H, W]}``; see :class:`SampleDataset`.

    Args:
        images_dir: The folder of the pictures.
        masks_dir: The folder of their masks.
        transform: What becomes of each picture and its mask.
        num_classes: How many classes there are; where it is known, larger numbers in masks are
            errors.
        class_names: Names of the classes by number; there are as many classes then.
        ignore_index: The number of pixels that belong to no class; ``None`` if all do.
        channels: 3 for RGB, 1 for grey.
        skip_unpaired: Whether pictures without a mask, and masks without a picture, are left out
            instead of being an error.

    Attributes:
        num_classes: How many classes there are; ``None`` if nothing was said.
        classes: Names of the classes, by number; empty if nothing was said.
        class_to_idx: Number of each class.
        labels: ``{"segmentation": classes}``, as a model's ``labels`` are; empty without names.
        ignore_index: The number of pixels that belong to no class.
        pairs: Paths of the pictures and their masks.

    Raises:
        InputError: If a folder is missing, there are no pairs, or an argument cannot be.
        DataError: If a file has no counterpart, or two of them.
    """

    def __init__(
        self,
        images_dir: str | PathLike[str],
        masks_dir: str | PathLike[str],
        transform: Transform | None = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = 255,
        channels: int = 3,
        skip_unpaired: bool = False,
    ) -> None:
        super().__init__(transform)
        check_channels(channels)
        self.classes = () if class_names is None else distinct("class_names", class_names)
        self.num_classes = class_count("num_classes", num_classes, self.classes)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.labels = {"segmentation": self.classes} if self.classes else {}
        self.ignore_index = ignore_index
        self.pairs = found_pairs(Path(images_dir), Path(masks_dir), skip_unpaired)
        self._rules = Rules(self.num_classes, ignore_index)
        self._channels = channels

    def __len__(self) -> int:
        return len(self.pairs)

    def _load(self, index: int) -> Raw:
        image, mask = read_pair(self.pairs[index], self._channels, self._rules)
        return Raw(image, mask=mask)

    def _name(self, index: int) -> str:
        return self.pairs[index].image


def class_count(name: str, given: int | None, names: Sequence[str]) -> int | None:
    """Give the number of classes, from itself or from their names; ``None`` if neither is known.

    Raises:
        InputError: If it cannot be, or does not fit the names.
    """
    if given is None:
        return len(names) or None
    check_whole(name, given, least=1)
    if names and given != len(names):
        raise InputError(f"{name} is {given}, but class_names are {len(names)}")
    return given


def found_pairs(images: Path, masks: Path, skip_unpaired: bool) -> list[Pair]:
    """Give the pairs of two folders.

    Raises:
        InputError: If there are none, or no such folders.
        DataError: If a file has no counterpart, or two of them.
    """
    found = pair(images, masks)
    lonely = [] if skip_unpaired else found.maskless + found.pictureless
    flaws = found.ambiguous + lonely
    if flaws:
        first, more = flaws[0], len(flaws) - 1
        mend = first.mend
        if first in lonely:
            mend += ", or give skip_unpaired=True"
        if more:
            mend += f" ({more:,} more such files; 'zoo data check' lists all)"
        raise DataError(first.file, first.problem, mend)
    if not found.pairs:
        raise InputError(
            f"there are no pictures with masks in {images} and {masks}; they are paired as "
            f"{images / '1.jpg'} and {masks / '1.png'} are"
        )
    return found.pairs


def read_pair(files: Pair, channels: int, rules: Rules) -> tuple[Image.Image, Mask]:
    """Read a picture and its mask.

    Raises:
        DataError: If one cannot be used, or they do not fit each other.
    """
    image, mask = read_picture(files.image, channels), read_mask(files.mask)
    height, width = mask.shape
    check_sizes(files.image, image.size, files.mask, (width, height))
    rules.check(files.mask, mask)
    return image, mask
