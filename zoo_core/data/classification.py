"""Pictures in a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from zoo_core.data.arguments import distinct
from zoo_core.data.base import Raw, SampleDataset, Transform
from zoo_core.data.folders import class_pictures, split_folder
from zoo_core.data.reading import check_channels, read_picture


class ClassificationDataset(SampleDataset):
    """Pictures with labels: each class is a folder, named after it, of pictures.

    Classes are numbered in the order of their names. Pictures lie in the class's folder or in
    folders below it; files whose names do not end as pictures' do, and hidden ones, are left out.
    Pictures are read upright, in 8 bits; ``zoo data check`` finds those that cannot be read.

    A sample is ``{"image": [C, H, W], "label": []}``; see :class:`SampleDataset`.

    Args:
        root: The folder of the classes' folders.
        split: A folder of ``root`` to take them from, such as ``"train"``. Where ``root`` has no
            such folders, it is taken to be that split itself.
        transform: What becomes of each picture.
        classes: The classes in the order of their numbers. Needed only where a folder lacks some:
            ``ClassificationDataset("data/val", classes=train.classes)``.
        channels: 3 for RGB, 1 for grey.

    Attributes:
        root: The folder that the classes' folders lie in.
        classes: Names of the classes, by number.
        class_to_idx: Number of each class.
        num_classes: How many there are.
        labels: ``{"classification": classes}``, as a model's ``labels`` are.
        files: Path of each picture.
        targets: Number of each picture's class.

    Raises:
        InputError: If there is no such folder or split, there are no classes, or ``root`` has a
            class that is not one of ``classes``.
        DataError: If a class has no pictures.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        split: str | None = None,
        transform: Transform | None = None,
        *,
        classes: Sequence[str] | None = None,
        channels: int = 3,
    ) -> None:
        super().__init__(transform)
        check_channels(channels)
        self.root = split_folder(Path(root), split)
        found = class_pictures(self.root, None if classes is None else distinct("classes", classes))
        self.classes = tuple(found)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.num_classes = len(self.classes)
        self.labels = {"classification": self.classes}
        self.files = [file for files in found.values() for file in files]
        self.targets = [
            number for number, files in enumerate(found.values()) for _ in range(len(files))
        ]
        self._channels = channels

    def __len__(self) -> int:
        return len(self.files)

    def _load(self, index: int) -> Raw:
        return Raw(read_picture(self.files[index], self._channels), self.targets[index])

    def _name(self, index: int) -> str:
        return self.files[index]
