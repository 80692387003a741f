"""What kind of data set a folder holds, and which pictures. Nothing here needs torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zoo_core.data.errors import DataError
from zoo_core.data.examining import Job
from zoo_core.data.folders import (
    SPLITS,
    files_below,
    is_hidden,
    is_picture,
    pair,
    pictures_below,
    splits_in,
    subfolders,
)
from zoo_core.errors import InputError

_UNREAD: Final = frozenset(
    {
        ".avif", ".cr2", ".dng", ".eps", ".heic", ".heif", ".ico", ".j2k", ".jp2", ".jxl", ".nef",
        ".psd", ".svg", ".tga",
    }
)  # fmt: skip
"""How the names of pictures end that are not read."""


@dataclass
class Part:
    """A split of a data set, or all of one.

    Attributes:
        name: The split; empty if there are none.
        folder: Where its pictures lie.
        jobs: The pictures.
        classes: Each picture's class, by its folder; empty if pictures have none.
        names: All classes that have a folder.
        flaws: What is wrong before any picture is read.
        left_out: Files that are no pictures, by their suffix.
    """

    name: str
    folder: Path
    jobs: list[Job] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    flaws: list[DataError] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class Layout:
    """A data set.

    Attributes:
        kind: ``"classification"``, ``"segmentation"``, or ``"multitask"`` for both.
        parts: Its splits.
        flaws: What is wrong with it as a whole.
    """

    kind: str
    parts: list[Part]
    flaws: list[DataError]


def find_layout(root: Path) -> Layout:
    """Find out what data set a folder holds.

    Raises:
        InputError: If it holds none.
    """
    kind = "segmentation"
    if _has_masks(root):
        images, masks = root / "images", root / "masks"
        splits = [name for name in subfolders(images) if name in SPLITS]
        places = [(name, images / name, masks / name) for name in splits] or [("", images, masks)]
        parts = [_with_masks(*place) for place in places]
        flaws = _strays(images, splits) + _strays(masks, splits)
    else:
        splits = splits_in(root)
        flaws = _strays(root, splits)
        if any(_has_masks(root / name) for name in splits):
            folders = [(name, root / name) for name in splits]
            parts = [_with_masks(name, here / "images", here / "masks") for name, here in folders]
        else:
            kind = "classification"
            parts = [_with_classes(name, root / name) for name in splits or [""]]
    if not any(part.jobs for part in parts):
        raise InputError(
            f"{root}: there is no data set; there should be folders of classes with pictures, or "
            f"the folders images and masks, in it or in its folders {SPLITS[0]} and {SPLITS[2]}"
        )
    if kind == "segmentation" and all(part.classes for part in parts):
        kind = "multitask"
    if kind != "segmentation":
        flaws += _differences(parts)
    return Layout(kind, parts, flaws)


def _has_masks(folder: Path) -> bool:
    found = subfolders(folder)
    if "images" in found and "masks" not in found:
        raise InputError(
            f"{folder}: images has no folder masks beside it, where masks belong; and if images "
            f"is a class, call it something else"
        )
    return "images" in found


def _strays(root: Path, splits: list[str]) -> list[DataError]:
    """Give the folders with pictures beside splits."""
    return [
        DataError(root / name, "it is in no split, so it is left out", "move it into one, or away")
        for name in subfolders(root)
        if splits and name not in splits and pictures_below(root / name)
    ]


def _with_classes(name: str, root: Path) -> Part:
    part = Part(name, root)
    part.names = subfolders(root)
    for folder in part.names:
        pictures = _pictures(root / folder, part)
        part.jobs += map(Job, pictures)
        part.classes += [folder] * len(pictures)
        if not pictures:
            mend = "put some in, or remove the folder"
            part.flaws.append(DataError(root / folder, "the class has no pictures", mend))
    for file in sorted(root.iterdir()):
        if is_picture(file.name) and not is_hidden(file.name) and not file.is_dir():
            mend = "move it into one, or away"
            part.flaws.append(
                DataError(file, "it is in no class's folder, so it is left out", mend)
            )
    return part


def _with_masks(name: str, images: Path, masks: Path) -> Part:
    part = Part(name, images)
    for folder, what in ((images, "pictures"), (masks, "masks")):
        if not folder.is_dir():
            part.flaws.append(DataError(folder, f"there is no such folder of {what}", "add it"))
            return part
        _pictures(folder, part)
    found = pair(images, masks)
    part.flaws += found.ambiguous + found.maskless + found.pictureless
    part.jobs += [Job(pair.image, pair.mask) for pair in found.pairs]
    part.jobs += [Job(flaw.file) for flaw in found.maskless]
    places = [Path(job.image).relative_to(images).parts for job in part.jobs]
    if all(len(place) > 1 for place in places):
        part.classes = [place[0] for place in places]
        part.names = subfolders(images)
    return part


def _pictures(folder: Path, part: Part) -> list[str]:
    """Give a folder's pictures; note what else is there."""
    found = []
    for file in files_below(folder):
        suffix = Path(file).suffix.lower()
        if is_picture(file):
            found.append(file)
        elif suffix in _UNREAD:
            problem = f"{suffix} files are not read, so it is left out"
            part.flaws.append(DataError(file, problem, "save it as PNG or JPEG"))
        else:
            part.left_out[suffix] += 1
    return found


def _differences(parts: list[Part]) -> list[DataError]:
    """Give the classes that some splits lack, whose other classes then have other numbers."""
    first = {name: part for part in reversed(parts) for name in part.names}
    return [
        DataError(
            part.folder,
            f"it lacks the class {name!r}, which {first[name].name} has",
            "add a folder with pictures of it, or name all classes with classes=",
        )
        for part in parts
        for name in sorted(first.keys() - set(part.names))
    ]
