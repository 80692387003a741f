"""An attack, what becomes of it, and how that is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attacks.running import Ended, run
from attacks.stage import LIBRARIES, Stage, Trial
from zoo_core.testing import LoopbackHub

Mount = Callable[[Stage], Trial]

LONGEST: Final = 600
"""Characters of a message that counts as one line."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack on every library that it can be mounted on.

    Attributes:
        name: What tests call it.
        title: What the table calls it.
        mounts: How it is mounted, by library; libraries that have no such place are left out.
        seconds: How long a call may take before it counts as hanging.
    """

    name: str
    title: str
    mounts: Mapping[str, Mount]
    seconds: float = 40.0

    @property
    def waits(self) -> bool:
        """Whether most of its time is spent waiting."""
        return self.seconds != 40.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an attack.

    Attributes:
        kind: ``executed``, ``accepted``, ``exhausted``, ``crashed``, ``hung``, ``harmless`` or
            ``refused``.
        detail: The harm, or the message that refuses.
        error: The type of the error that refuses.
        own: Whether that is one of the zoo's own errors, in one line that can be printed.
    """

    kind: str
    detail: str = ""
    error: str = ""
    own: bool = False


def everywhere(mount: Mount, *without: str) -> dict[str, Mount]:
    """Mount an attack on every library, or all but some."""
    return {library: mount for library in LIBRARIES if library not in without}


def mounted(
    attack: Attack, victim: str, folder: Path, patience: float | None = None
) -> tuple[Outcome, Ended]:
    """Mount an attack on a library and give what becomes of it.

    Args:
        attack: The attack.
        victim: The library that is attacked.
        folder: A new folder for all that it needs.
        patience: Seconds that the zoo waits for a silent server, if not as many as it always does.
    """
    with ExitStack() as stack:
        hub = stack.enter_context(LoopbackHub())
        stage = Stage(victim=victim, folder=folder, hub=hub, stack=stack, patience=patience)
        trial = attack.mounts[victim](stage)
        ended = run(trial.call, stage.home, attack.seconds)
        return judged(stage, trial, ended), ended


def judged(stage: Stage, trial: Trial, ended: Ended) -> Outcome:
    """Tell what became of an attack: the harm first, then what was said."""
    if stage.executed():
        return Outcome(kind="executed")
    harm = trial.harm(ended)
    if harm:
        return Outcome(kind="accepted", detail=harm)
    if ended.limit:
        kind = "hung" if ended.limit == "time" else "exhausted"
        return Outcome(kind=kind, detail="" if kind == "hung" else ended.limit)
    if ended.report is None:
        return Outcome(kind="crashed", detail=f"signal {ended.signal}")
    report = ended.report
    if not report.error:
        return Outcome(kind="harmless" if trial.harmless(report.value) else "accepted")
    told = [*report.warnings, report.message]
    message = "; then: ".join(shown(line, stage) for line in told)
    printable = all(line.isprintable() and len(line) <= LONGEST for line in told)
    return Outcome(kind="refused", detail=message, error=report.error, own=report.own and printable)


def shown(message: str, stage: Stage) -> str:
    """Give the first line of a message without what differs from run to run.

    A line that ends with a colon takes the next one with it.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    first = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    first = re.sub(rf"{re.escape(str(stage.folder))}[^\s:,;)'\"]*/", "…/", first)
    first = first.replace(str(stage.folder), "…")
    first = re.sub(r"\b(127\.0\.0\.1|0\.0\.0\.0):\d+", "hub", first)
    first = re.sub(r"\b[0-9a-f]{64}\b", "‹sha256›", first)
    first = re.sub(r"\b[0-9a-f]{40}\b", "‹commit›", first)
    first = re.sub(r"\b\d{4}-\d\d-\d\d\b", "‹day›", first)
    first = re.sub(r"(?<=within )\d+(?= s\b)", "‹some›", first)
    first = re.sub(r"(?<=room for )[\d,]+", "‹bytes›", first)
    return "".join(char if char.isprintable() else "�" for char in first)
