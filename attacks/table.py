"""Mounting every attack and writing down what became of it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from attacks.attack import Attack, Outcome, mounted
from attacks.catalogue import CONTROL, GROUPS
from attacks.stage import LIBRARIES, ZOO

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "attacks.md"
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"
AT_ONCE: Final = 2
WAITING_AT_ONCE: Final = 12
SHORT: Final = 60

Results = Mapping[tuple[str, str], Outcome]

# Of the other libraries' messages, and the same whatever went wrong.
_PREFIX: Final = re.compile(
    r"^(Error while deserializing header: |Error\(s\) in loading state_dict for \w+: )"
)
_SHOWN: Final = {
    "executed": "**executed**",
    "accepted": "**accepted**",
    "exhausted": "**exhausted**",
    "crashed": "**crashed**",
    "hung": "**hung**",
    "harmless": "no harm",
    "refused": "refused",
}


def run_all() -> Results:
    """Mount every attack on every library, two at a time; those that wait, more at a time.

    Raises:
        RuntimeError: If a library does not load honest weights here.
    """
    with TemporaryDirectory() as folder:
        for library in CONTROL.mounts:
            outcome = _mount(CONTROL, library, Path(folder))
            if outcome.kind != "harmless":
                raise RuntimeError(f"{library} does not load honest weights: {outcome}")
        with (
            ThreadPoolExecutor(WAITING_AT_ONCE) as waiting,
            ThreadPoolExecutor(AT_ONCE) as working,
        ):
            jobs = {
                (attack.name, library): (waiting if attack.waits else working).submit(
                    _mount, attack, library, Path(folder)
                )
                for attack in everything()
                for library in attack.mounts
            }
            return {key: job.result() for key, job in jobs.items()}


def everything() -> Iterator[Attack]:
    """Give all attacks in the table's order."""
    for attacks in GROUPS.values():
        yield from attacks


def _mount(attack: Attack, library: str, folder: Path) -> Outcome:
    place = folder / f"{attack.name}-{library.split()[0]}"
    outcome, _ = mounted(attack, library, place)
    print(f"{attack.name:20} {library:12} {outcome.kind} {outcome.detail}", file=sys.stderr)
    return outcome


def cell(library: str, outcome: Outcome | None) -> str:
    """Give what the table shows of an attack on a library."""
    if outcome is None:
        return "–"
    shown = _SHOWN[outcome.kind]
    if not outcome.detail or (outcome.kind == "refused" and library == ZOO):
        return shown
    return f"{shown}: {plain(shortened(_PREFIX.sub('', outcome.detail) or outcome.error))}"


def shortened(text: str) -> str:
    """Give the beginning of a text."""
    return text if len(text) <= SHORT else f"{text[: SHORT - 1].rstrip()}…"


def plain(text: str) -> str:
    """Give a text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def row(attack: Attack, results: Results) -> str:
    """Give an attack's row of the table."""
    cells = [cell(library, results.get((attack.name, library))) for library in LIBRARIES]
    return f"| {' | '.join([attack.title, *cells])} |"


def message(attack: Attack, outcome: Outcome) -> str:
    """Give the line that shows how the zoo refuses an attack."""
    return f"- {attack.title}:<br>{plain(outcome.detail)}"


def versions() -> str:
    """Tell which versions were attacked."""
    names = ("zoo-core", "timm", "torchvision", "huggingface-hub", "safetensors", "torch", "pillow")
    return ", ".join(f"{name} {version(name)}" for name in names)


def counts(results: Results) -> Iterator[str]:
    """Give a row for each library: how many attacks came to what."""
    yield f"| | {' | '.join(_SHOWN)} | all |"
    yield f"| --- |{' --: |' * (len(_SHOWN) + 1)}"
    for library in LIBRARIES:
        kinds = Counter(outcome.kind for (_, name), outcome in results.items() if name == library)
        cells = [str(kinds[kind] or "–") for kind in _SHOWN]
        yield f"| {library} | {' | '.join(cells)} | {kinds.total()} |"


def table(results: Results) -> Iterator[str]:
    """Give the lines between the document's markers."""
    yield f"Mounted on {versions()}."
    yield ""
    yield from counts(results)
    for group, attacks in GROUPS.items():
        yield from ("", f"### {group}", "")
        yield f"| attack | {' | '.join(LIBRARIES)} |"
        yield f"| --- |{' --- |' * len(LIBRARIES)}"
        for attack in attacks:
            yield row(attack, results)
    yield from ("", "## What the zoo says")
    for group, attacks in GROUPS.items():
        yield from ("", f"### {group}", "")
        for attack in attacks:
            yield message(attack, results[attack.name, ZOO])


def main() -> None:
    """Write the table into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    lines = "\n".join(table(run_all()))
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{lines}\n\n{END}{tail}", encoding="utf-8")
