"""Everything that is wrong with a data set, and what is in it. Nothing here needs torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from zoo_core.data.errors import DataError
from zoo_core.data.examining import Facts, examine_all
from zoo_core.data.layout import Layout, Part
from zoo_core.data.masks import Rules


@dataclass
class Contents:
    """What is in a split.

    Attributes:
        split: Its name; empty if there are none.
        pictures: How many pictures it has, those that cannot be read among them.
        classes: Pictures of each class.
        sizes: Pictures of each width and height.
        modes: Pictures of each of Pillow's modes.
        pixels: Pixels of each number in masks.
        turned: Pictures that their EXIF orientation turns.
        repeated: Pictures that are in the same class of the split already.
        left_out: Files that are no pictures, by their suffix.
    """

    split: str
    pictures: int
    classes: Counter[str]
    left_out: Counter[str]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    turned: int = 0
    repeated: int = 0


@dataclass
class Report:
    """What a check found.

    Attributes:
        kind: ``"classification"``, ``"segmentation"`` or ``"multitask"``.
        contents: What is in each split.
        flaws: Everything that is wrong, in the order of the files' names.
    """

    kind: str
    contents: list[Contents]
    flaws: list[DataError]


def look(layout: Layout, rules: Rules, workers: int) -> Iterator[Facts]:
    """Look at every picture of a data set, in the order of its parts."""
    return examine_all([job for part in layout.parts for job in part.jobs], rules, workers)


def report(root: Path, layout: Layout, facts: Iterable[Facts], rules: Rules) -> Report:
    """Put together what was seen of a data set.

    Args:
        root: Its folder.
        layout: Its parts.
        facts: What :func:`look` saw.
        rules: Those that it was looked at by.
    """
    stream = iter(facts)
    seen: dict[bytes, _Place] = {}
    contents, flaws = [], list(layout.flaws)
    for part in layout.parts:
        found = list(islice(stream, len(part.jobs)))
        content = _contents(part, found)
        flaws += part.flaws
        flaws += [flaw for one in found for flaw in one.flaws]
        flaws += _repetitions(root, part, found, seen, content)
        contents.append(content)
    flaws += _wrong_numbers(root, layout, contents, rules)
    return Report(layout.kind, contents, sorted(flaws, key=lambda flaw: flaw.file))


def _contents(part: Part, facts: Sequence[Facts]) -> Contents:
    classes = Counter(dict.fromkeys(part.names, 0))
    classes.update(part.classes)
    content = Contents(part.name, len(part.jobs), classes, part.left_out)
    for one in facts:
        if one.size is not None:
            content.sizes[one.size] += 1
            content.modes[one.mode] += 1
            content.turned += one.turned
        content.pixels.update(one.pixels)
    return content


@dataclass(frozen=True)
class _Place:
    """Where a picture was seen first."""

    part: Part
    name: str
    file: str


def _repetitions(
    root: Path, part: Part, facts: Sequence[Facts], seen: dict[bytes, _Place], content: Contents
) -> Iterator[DataError]:
    """Give the pictures that are in another split or class already."""
    for number, (job, one) in enumerate(zip(part.jobs, facts, strict=True)):
        if one.digest is None:
            continue
        name = part.classes[number] if part.classes else ""
        first = seen.setdefault(one.digest, _Place(part, name, job.image))
        if first.file == job.image:
            continue
        where = Path(first.file).relative_to(root)
        if first.part is not part:
            yield DataError(
                job.image, f"{first.part.name} has the same picture: {where}", "keep one of them"
            )
        elif first.name != name:
            mend = "keep the one that is right"
            yield DataError(job.image, f"another class has the same picture: {where}", mend)
        else:
            content.repeated += 1


def _wrong_numbers(
    root: Path, layout: Layout, contents: Sequence[Contents], rules: Rules
) -> Iterator[DataError]:
    """Give what is wrong with the classes of a data set as a whole."""
    if layout.kind == "classification":
        found = {name for part in layout.parts for name in part.names}
        if rules.num_classes not in (None, len(found)):
            problem = f"it has {len(found)} classes, not {rules.num_classes}"
            yield DataError(root, problem, "correct the folders, or the number")
        return
    numbers = {number for content in contents for number in content.pixels}
    if numbers == {0, 255} and rules.ignore_index == 255:
        yield DataError(
            root,
            "its masks have the values 0 and 255 only, and 255 is ignored",
            "save what is to be found as 1",
        )


def to_json(root: Path, found: Report) -> dict[str, Any]:
    """Give a report for machines."""
    return {
        "path": str(root),
        "kind": found.kind,
        "splits": [
            {
                "split": content.split or None,
                "pictures": content.pictures,
                "classes": dict(content.classes),
                "sizes": [
                    {"width": width, "height": height, "pictures": count}
                    for (width, height), count in sorted(content.sizes.items())
                ],
                "modes": dict(content.modes),
                "mask_pixels": {str(key): content.pixels[key] for key in sorted(content.pixels)},
                "turned_by_exif": content.turned,
                "repeated": content.repeated,
                "left_out": dict(content.left_out),
            }
            for content in found.contents
        ],
        "problems": [
            {"file": flaw.file, "problem": flaw.problem, "mend": flaw.mend} for flaw in found.flaws
        ],
    }
