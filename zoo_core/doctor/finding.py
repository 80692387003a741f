"""What the doctor says of one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``note`` for what works otherwise than one may expect; ``problem`` for what
            does not work.
        about: What was looked at, in a word or two.
        found: What was found, in one line.
        remedy: The command that mends it, or what to do where no command does; empty where there
            is nothing to mend.
    """

    level: Level
    about: str
    found: str
    remedy: str = ""


def ok(about: str, found: str) -> Finding:
    """Give a finding of what is as it should be."""
    return Finding("ok", about, found)


def note(about: str, found: str, remedy: str = "") -> Finding:
    """Give a finding of what works otherwise than one may expect."""
    return Finding("note", about, found, remedy)


def problem(about: str, found: str, remedy: str) -> Finding:
    """Give a finding of what does not work."""
    return Finding("problem", about, found, remedy)


def summary(findings: Iterable[Finding]) -> str:
    """Give the number of problems and notes in words: "1 problem, 2 notes"."""
    counts = Counter(finding.level for finding in findings)
    levels: tuple[Level, ...] = ("problem", "note")
    return ", ".join(f"{counts[one] or 'no'} {one}{'s' * (counts[one] != 1)}" for one in levels)
