"""Data sets of whatever kind a folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo_core.data.base import SampleDataset, Transform
from zoo_core.data.classification import ClassificationDataset
from zoo_core.data.folders import SPLITS
from zoo_core.data.layout import Part, find_layout
from zoo_core.data.multitask import MultitaskDataset
from zoo_core.data.segmentation import SegmentationDataset
from zoo_core.errors import InputError


class DataFolder:
    """A folder with a data set for classification, segmentation or both, with splits or without.

    It has a folder for each class, or the folders ``images`` and ``masks``, or, in these or around
    them, folders such as ``train`` and ``val``; as for ``zoo data check``.

    Args:
        root: The folder.

    Attributes:
        kind: ``"classification"``, ``"segmentation"`` or ``"multitask"``.
        splits: Names of its splits; empty if there are none.
        classes: Names of the pictures' classes in all splits together, by number.

    Raises:
        InputError: If it holds no data set.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{self.root}: there is no such folder")
        layout = find_layout(self.root)
        self.kind = layout.kind
        self._parts = {part.name: part for part in layout.parts}
        self.splits = tuple(name for name in self._parts if name)
        names = {name for part in layout.parts for name in part.names}
        self.classes = () if self.kind == "segmentation" else tuple(sorted(names))

    def part(self, split: str | None) -> Part:
        """Give what is known of a split before its pictures are read.

        Raises:
            InputError: If there is no such split.
        """
        name = split or ""
        if name not in self._parts:
            has = f"it has {', '.join(self.splits)}" if self.splits else "it has no splits"
            asked = f"no split {split!r}" if split else "nothing beside its splits"
            raise InputError(f"{self.root} has {asked}; {has}")
        return self._parts[name]

    def first(self, *splits: str) -> str | None:
        """Give the first of some splits that there is."""
        return next((split for split in splits if split in self._parts), None)

    def training(self) -> str | None:
        """Give the split to train on; ``None`` if there are no splits.

        Raises:
            InputError: If there are splits, but not this.
        """
        if not self.splits:
            return None
        found = self.first(SPLITS[0], SPLITS[1])
        if found is None:
            raise InputError(
                f"{self.root} has {', '.join(self.splits)}, but no {SPLITS[0]} to train on"
            )
        return found

    def dataset(
        self,
        split: str | None,
        transform: Transform,
        *,
        classes: Sequence[str] | None = None,
        mask_classes: int | None = None,
        mask_names: Sequence[str] | None = None,
        ignore_index: int = 255,
        channels: int = 3,
    ) -> SampleDataset:
        """Give the data set of a split.

        Args:
            split: Which; ``None`` for a folder without splits.
            transform: What becomes of each picture, and its mask.
            classes: The pictures' classes by number; by default those of all splits.
            mask_classes: How many classes masks have.
            mask_names: Names of the masks' classes.
            ignore_index: The number of pixels that belong to no class.
            channels: 3 for RGB, 1 for grey.

        Raises:
            InputError: If there is no such split.
            DataError: If a file of it cannot be used.
        """
        images = self.part(split).folder
        classes = classes or self.classes
        if self.kind == "classification":
            return ClassificationDataset(
                images, transform=transform, classes=classes, channels=channels
            )
        masks = self._masks(images)
        if self.kind == "segmentation":
            return SegmentationDataset(
                images, masks, transform, num_classes=mask_classes, class_names=mask_names,
                ignore_index=ignore_index, channels=channels,
            )  # fmt: skip
        return MultitaskDataset(
            images, masks, transform, num_classes_segmentation=mask_classes,
            class_names=mask_names, ignore_index=ignore_index, classes=classes, channels=channels,
        )  # fmt: skip

    def _masks(self, images: Path) -> Path:
        inside = images.relative_to(self.root).parts
        place = inside.index("images")
        return self.root.joinpath(*inside[:place], "masks", *inside[place + 1 :])
