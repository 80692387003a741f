"""Pictures with a label and a mask."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from zoo_core.data.arguments import distinct
from zoo_core.data.base import Raw, SampleDataset, Transform
from zoo_core.data.masks import Rules
from zoo_core.data.reading import check_channels
from zoo_core.data.segmentation import class_count, found_pairs, read_pair
from zoo_core.errors import InputError


class MultitaskDataset(SampleDataset):
    """Pictures in a folder for each class, with masks in folders that are called the same.

    ``images/cat/1.jpg`` is a cat, and goes with the mask ``masks/cat/1.png``. See
    :class:`ClassificationDataset` for the folders and :class:`SegmentationDataset` for the masks.

    A sample is ``{"image": [C, H, W], "label": [], "mask": [H, W]}``; see :class:`SampleDataset`.

    Args:
        images_dir: The folder of the folders with pictures.
        masks_dir: The folder of the folders with masks.
        transform: What becomes of each picture and its mask.
        num_classes_segmentation: How many classes the masks have; where it is known, larger
            numbers in masks are errors.
        class_names: Names of the masks' classes by number; there are as many classes then.
        ignore_index: The number of pixels that belong to no class; ``None`` if all do.
        classes: The pictures' classes in the order of their numbers; needed only where there are
            no pictures of some.
        channels: 3 for RGB, 1 for grey.
        skip_unpaired: Whether pictures without a mask, and masks without a picture, are left out
            instead of being an error.

    Attributes:
        classes: Names of the pictures' classes, by number.
        class_to_idx: Number of each.
        num_classes: How many there are.
        class_names: Names of the masks' classes, by number; empty if nothing was said.
        num_classes_segmentation: How many those are; ``None`` if nothing was said.
        labels: The names for each head, as a model's ``labels`` are.
        ignore_index: The number of pixels that belong to no class.
        pairs: Paths of the pictures and their masks.
        targets: Number of each picture's class.

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
        num_classes_segmentation: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = 255,
        classes: Sequence[str] | None = None,
        channels: int = 3,
        skip_unpaired: bool = False,
    ) -> None:
        super().__init__(transform)
        check_channels(channels)
        self.pairs = found_pairs(Path(images_dir), Path(masks_dir), skip_unpaired)
        found = [found.key.partition("/")[0] for found in self.pairs if "/" in found.key]
        if len(found) < len(self.pairs):
            loose = next(found for found in self.pairs if "/" not in found.key)
            raise InputError(f"{loose.image}: it is in no class's folder; move it into one")
        self.classes = tuple(sorted(set(found)))
        if classes is not None:
            self.classes = _covering(distinct("classes", classes), self.classes)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.num_classes = len(self.classes)
        self.targets = [self.class_to_idx[name] for name in found]
        self.class_names = () if class_names is None else distinct("class_names", class_names)
        self.num_classes_segmentation = class_count(
            "num_classes_segmentation", num_classes_segmentation, self.class_names
        )
        self.labels = {"classification": self.classes}
        if self.class_names:
            self.labels["segmentation"] = self.class_names
        self.ignore_index = ignore_index
        self._rules = Rules(self.num_classes_segmentation, ignore_index)
        self._channels = channels

    def __len__(self) -> int:
        return len(self.pairs)

    def _load(self, index: int) -> Raw:
        image, mask = read_pair(self.pairs[index], self._channels, self._rules)
        return Raw(image, self.targets[index], mask)

    def _name(self, index: int) -> str:
        return self.pairs[index].image


def _covering(classes: tuple[str, ...], found: Sequence[str]) -> tuple[str, ...]:
    for name in found:
        if name not in classes:
            raise InputError(f"there is a class {name!r}, which is not one of classes")
    return classes
