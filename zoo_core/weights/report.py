"""What became of every tensor when weights were loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fate:
    """One tensor: its name, its number of elements, and why it was treated as it was."""

    name: str
    elements: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The account of loading one file; nothing is left out of it.

    Attributes:
        source: Where the weights came from.
        loaded: Tensors of the model that have the file's values.
        adapted: Tensors of the model that have the file's values, changed to fit.
        random: Tensors of the model that keep their initial values.
        dropped: Tensors of the file that the model does not use.
    """

    source: str
    loaded: tuple[Fate, ...] = ()
    adapted: tuple[Fate, ...] = ()
    random: tuple[Fate, ...] = ()
    dropped: tuple[Fate, ...] = ()

    @property
    def share(self) -> float:
        """Share of the model's elements, 0 to 1, that come from the file."""
        filled = _elements(self.loaded) + _elements(self.adapted)
        return filled / max(1, filled + _elements(self.random))

    def lines(self) -> list[str]:
        """Give the report for reading, a line for each outcome and for each reason."""
        lines = [f"{self.share:.1%} of the model's values come from {self.source}"]
        for outcome in ("loaded", "adapted", "random", "dropped"):
            by_reason: dict[str, list[Fate]] = {}
            for fate in getattr(self, outcome):
                by_reason.setdefault(fate.reason, []).append(fate)
            for reason, fates in by_reason.items():
                names = f"{len(fates)} tensors" if len(fates) > 2 else _names(fates)
                why = f" ({reason})" if reason else ""
                lines.append(f"{outcome}: {names}, {_elements(tuple(fates)):,} values{why}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain lists and numbers."""
        outcomes = {
            outcome: [vars(fate) for fate in getattr(self, outcome)]
            for outcome in ("loaded", "adapted", "random", "dropped")
        }
        return {"source": self.source, "share": self.share, **outcomes}


def _elements(fates: tuple[Fate, ...]) -> int:
    return sum(fate.elements for fate in fates)


def _names(fates: list[Fate]) -> str:
    return " and ".join(fate.name for fate in fates)
