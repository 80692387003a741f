"""``zoo data``: what a data set holds, and what is wrong with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zoo_core.cli.options import CountType
from zoo_core.cli.tables import echo_json, echo_table

if TYPE_CHECKING:
    from zoo_core.data.checking import Contents, Report
    from zoo_core.data.examining import Facts

_SHOWN: Final = 40
"""How many of the masks' numbers are shown; a photograph as a mask would have 256."""


@click.group()
def data() -> None:
    """Look at data sets, or make one to try things with.

    \b
    Examples:
      zoo data check data/pets
      zoo data make scenes data/scenes
    """


@data.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "--classes",
    type=CountType(min=1),
    metavar="N",
    help="How many classes there should be; of the masks, where there are masks.",
)
@click.option(
    "--ignore-index",
    type=int,
    default=255,
    show_default=True,
    metavar="I",
    help="The number of a mask's pixels that belong to no class.",
)
@click.option(
    "--workers",
    type=CountType(min=1),
    metavar="N",
    help="How many processes read pictures.  [default: one a core, at most 8]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    folder: Path,
    classes: int | None,
    ignore_index: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Read all of a data set, and list everything that is wrong with it.

    DIR has a folder for each class, or the folders images and masks, whose files are called the
    same but for the suffix; or folders such as train and val that are so. Every file is read.
    The exit code is 1 if anything is wrong. Nothing is changed.

    \b
    Examples:
      zoo data check data/pets
      zoo data check data/streets --classes 19
      zoo data check data/pets --json
    """
    from zoo_core.data.checking import look, report, to_json
    from zoo_core.data.layout import find_layout
    from zoo_core.data.masks import Rules

    layout = find_layout(folder)
    rules = Rules(classes, ignore_index)
    facts: list[Facts] = []
    with click.progressbar(
        look(layout, rules, workers or min(8, os.cpu_count() or 1)),
        length=sum(len(part.jobs) for part in layout.parts),
        label="pictures",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as looking:
        facts += looking
    found = report(folder, layout, facts, rules)
    if as_json:
        echo_json(to_json(folder, found))
    else:
        _echo(folder, found, ignore_index)
    if found.flaws:
        ctx.exit(1)


@data.command()
@click.argument("what", type=click.Choice(["scenes", "digits"]))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--train",
    type=CountType(min=1),
    default=2000,
    show_default=True,
    metavar="N",
    help="Scenes to train on.",
)
@click.option(
    "--val",
    type=CountType(min=1),
    default=400,
    show_default=True,
    metavar="N",
    help="Scenes to validate on.",
)
@click.option(
    "--size",
    type=CountType(min=32),
    default=96,
    show_default=True,
    metavar="N",
    help="Side of a scene in pixels.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Another seed gives other scenes.",
)
def make(what: str, folder: Path, train: int, val: int, size: int, seed: int) -> None:
    """Write a real data set into the folder DIR, without a download.

    scenes are handwritten digits on photographs, with a label (the largest digit) and a mask of
    eleven classes. digits are scikit-learn's 1,797 handwritten digits of 8 × 8 pixels. Both need
    pip install "zoo-core[scenes]".

    \b
    Examples:
      zoo data make scenes data/scenes --train 4000 --size 128
      zoo data make digits data/digits
    """
    from zoo_core.data.making import write_digits, write_scenes

    written = (
        write_digits(folder)
        if what == "digits"
        else write_scenes(folder, {"train": train, "val": val}, size, seed)
    )
    with click.progressbar(
        written,
        length=1797 if what == "digits" else train + val,
        label=what,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as writing:
        count = sum(1 for _ in writing)
    click.echo(f"{count:,} pictures in {folder}")


def _echo(folder: Path, found: Report, ignore_index: int) -> None:
    def inside(text: str) -> str:
        return "." if text == str(folder) else text.replace(f"{folder}{os.sep}", "")

    if found.flaws:
        rows = [[inside(text) for text in (f.file, f.problem, f.mend)] for f in found.flaws]
        echo_table(["file", "problem", "what to do"], rows)
        click.echo()
    splits = [content.split or "all" for content in found.contents]
    if any(content.classes for content in found.contents):
        _echo_counts("class", splits, [content.classes for content in found.contents])
    if any(content.pixels for content in found.contents):
        _echo_shares(splits, found.contents, ignore_index)
    header = ["split", "pictures", "width × height", "modes", "turned", "repeated", "left out"]
    rows = [[split, *_row(content)] for split, content in zip(splits, found.contents, strict=True)]
    echo_table(header, rows, right="pictures turned repeated")
    click.echo()
    pictures = sum(content.pictures for content in found.contents)
    count = len(found.flaws)
    problems = f"{count:,} problem{'s' * (count > 1)}" if count else "nothing wrong"
    click.echo(f"{found.kind}, {pictures:,} pictures: {problems}")


def _echo_counts(what: str, splits: Sequence[str], counts: Sequence[Mapping[str, int]]) -> None:
    names = sorted({name for count in counts for name in count})
    rows = [[name, *(f"{count.get(name, 0):,}" for count in counts)] for name in names]
    echo_table([what, *splits], rows, right=" ".join(splits))
    click.echo()


def _echo_shares(splits: Sequence[str], contents: Sequence[Contents], ignore_index: int) -> None:
    numbers = sorted({number for content in contents for number in content.pixels})
    rows = []
    for number in numbers[:_SHOWN]:
        shares = (content.pixels[number] / max(1, content.pixels.total()) for content in contents)
        name = f"{number} (ignored)" if number == ignore_index else str(number)
        rows.append([name, *(f"{share:.2%}" for share in shares)])
    if len(numbers) > _SHOWN:
        rows.append([f"{len(numbers) - _SHOWN} more", *("…" for _ in contents)])
    echo_table(["pixels of", *splits], rows, right=" ".join(splits))
    click.echo()


def _row(content: Contents) -> Iterable[str]:
    sizes = sorted(content.sizes, key=lambda size: size[0] * size[1])
    ends = ["×".join(map(str, size)) for size in sizes[:: max(1, len(sizes) - 1)]]
    more = f" ({len(sizes)} sizes)" if len(sizes) > 2 else ""
    return (
        f"{content.pictures:,}",
        " to ".join(ends) + more if ends else "–",
        _listed(content.modes),
        f"{content.turned:,}",
        f"{content.repeated:,}",
        _listed(content.left_out),
    )


def _listed(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count:,} {name or 'without suffix'}" for name, count in counts.items()) or "–"
    )
