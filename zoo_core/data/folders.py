"""Which files of a folder make a data set. Nothing here needs torch, or reads a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zoo_core.data.errors import DataError
from zoo_core.errors import InputError

SUFFIXES: Final = frozenset(
    {
        ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
        ".webp",
    }
)  # fmt: skip
"""How the names of pictures end, in small letters."""

SPLITS: Final = ("train", "training", "val", "valid", "validation", "test", "testing")
"""What folders are called that hold a part of a data set each."""

_SYSTEMS: Final = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})


def is_picture(name: str) -> bool:
    """Tell whether a file is a picture by its name."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - Path takes far longer


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is the system's rather than the user's."""
    return name.startswith(".") or name in _SYSTEMS


def subfolders(folder: Path) -> list[str]:
    """Give the names of a folder's folders, links to such among them, sorted.

    Raises:
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    return sorted(
        item.name for item in folder.iterdir() if item.is_dir() and not is_hidden(item.name)
    )


def files_below(folder: Path) -> list[str]:
    """Give the files in a folder and in its folders, in the order of their names.

    Links are followed, but each folder is entered only once.
    """
    found: list[str] = []
    entered: set[Path] = set()
    for where, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(where).resolve()
        if here in entered:
            folders.clear()
            continue
        entered.add(here)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += [f"{where}{os.sep}{name}" for name in sorted(names) if not is_hidden(name)]
    return found


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: the folder cannot be read: {error.strerror}") from error


def pictures_below(folder: Path) -> list[str]:
    """Give the pictures, by their names, in a folder and in its folders."""
    return list(filter(is_picture, files_below(folder)))


def splits_in(root: Path) -> list[str]:
    """Give the folders that are called as splits are and hold folders; a class holds pictures."""
    return [name for name in subfolders(root) if name in SPLITS and subfolders(root / name)]


def split_folder(root: Path, split: str | None) -> Path:
    """Give the folder of a split, which is ``root`` itself if that has no splits.

    Raises:
        InputError: If there is no such split, or one has to be named.
    """
    splits = splits_in(root)
    if split is None:
        if splits:
            raise InputError(
                f"{root} holds the splits {', '.join(splits)}, not classes: give "
                f"split={splits[0]!r}, or the folder {root / splits[0]}"
            )
        return root
    inside = root / split
    if inside.is_dir() and subfolders(inside):
        return inside
    if splits:
        raise InputError(f"{root} has no split {split!r}; it has {', '.join(splits)}")
    if root.name in SPLITS and root.name != split:
        raise InputError(f"{root} is the split {root.name!r}, and has no {split!r} in it")
    return root


def class_pictures(root: Path, classes: Sequence[str] | None) -> dict[str, list[str]]:
    """Give the pictures of each class, a folder of ``root`` each, in the classes' order.

    Args:
        root: The folder.
        classes: The classes, where some may have no folder; ``None`` for all folders, sorted.

    Raises:
        InputError: If there are no classes, or one that is not in ``classes``.
        DataError: If a class that is not named in ``classes`` has no pictures.
    """
    folders = subfolders(root)
    if classes is not None:
        unknown = [name for name in folders if name not in classes and pictures_below(root / name)]
        if unknown:
            raise InputError(f"{root} has the class {unknown[0]!r}, which is not one of classes")
        return {name: pictures_below(root / name) if name in folders else [] for name in classes}
    found = {name: pictures_below(root / name) for name in folders}
    if not any(found.values()):
        raise InputError(
            f"{root}: there are no pictures in folders of classes, such as {root / 'cat' / '1.jpg'}"
        )
    for name, pictures in found.items():
        if not pictures:
            mend = "put some in, remove the folder, or name all classes with classes="
            raise DataError(root / name, "the class has no pictures", mend)
    return found


@dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Attributes:
        key: Their path in their folders, without its suffix, with slashes.
        image: The picture.
        mask: The mask.
    """

    key: str
    image: str
    mask: str


@dataclass(frozen=True)
class Pairing:
    """What came of pairing pictures with masks.

    Attributes:
        pairs: The pairs, sorted by key.
        maskless: Pictures without a mask.
        pictureless: Masks without a picture.
        ambiguous: Files that differ from another by their suffix only.
    """

    pairs: list[Pair]
    maskless: list[DataError]
    pictureless: list[DataError]
    ambiguous: list[DataError]


def pair(images: Path, masks: Path) -> Pairing:
    """Pair pictures with masks by their paths without suffix.

    Args:
        images: The folder of the pictures.
        masks: The folder of their masks.

    Raises:
        InputError: If there is no such folder, or both are one.
    """
    left, right = _by_key(images), _by_key(masks)
    if images.resolve() == masks.resolve():
        raise InputError(f"{images}: pictures and masks need a folder each")
    found = Pairing([], [], [], [])
    for key in sorted(left.keys() | right.keys()):
        ours, theirs = left.get(key, []), right.get(key, [])
        if len(ours) == len(theirs) == 1:
            found.pairs.append(Pair(key, ours[0], theirs[0]))
        if not theirs:
            found.maskless.append(_lonely(ours[0], "mask", masks / key))
        if not ours:
            found.pictureless.append(_lonely(theirs[0], "picture", images / key))
        for first, *others in filter(None, (ours, theirs)):
            for other in others:
                problem = f"{Path(first).name} beside it is called the same but for the suffix"
                found.ambiguous.append(DataError(other, problem, "keep one of them"))
    return found


def _lonely(file: str, what: str, missing: Path) -> DataError:
    return DataError(file, f"it has no {what}", f"add {missing}.png, or remove this")


def _by_key(folder: Path) -> dict[str, list[str]]:
    subfolders(folder)  # It has to be there.
    files: dict[str, list[str]] = {}
    start = len(str(folder)) + 1
    for file in pictures_below(folder):
        key = os.path.splitext(file[start:])[0]  # noqa: PTH122 - Path takes far longer
        files.setdefault(key.replace(os.sep, "/"), []).append(file)
    return files
