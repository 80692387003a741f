"""Running many changed pictures in lower precision, where that changes no map to speak of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.hardware import has_units

Precision = Literal["full", "bfloat16", "auto", "exact"]

LEAST: Final = 0.99
"""The rank correlation with full precision that ``auto`` asks of lower precision."""


def check_precision(precision: object) -> None:
    """Check that a precision is one.

    Raises:
        InputError: If it is not.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(map(repr, get_args(Precision)))
        raise InputError(f"precision must be one of {choices}, not {precision!r}")


class Sampling:
    """Which precision the runs of changed pictures have; ``auto`` is settled by the first of them.

    Args:
        precision: ``"full"`` and ``"exact"`` are that of the model and of the caller; ``"auto"`` is
            bfloat16 where the device has units for it and the first runs, done in both, agree.
        possible: Whether there is anything to lower: a model in float32 without autocast.
        device: Where the model runs.

    Attributes:
        tries: Whether runs may be lowered.
        lowered: Whether runs are lowered, by what they are for; what is not there is not settled.
    """

    def __init__(self, precision: Precision, possible: bool, device: torch.device) -> None:
        self.tries = possible and (
            precision == "bfloat16" or (precision == "auto" and has_units(device))
        )
        self._settles = precision == "auto"
        self.lowered: dict[str, bool] = {}

    def run(self, what: str, rows: Tensor, run: Callable[[bool], Tensor]) -> Tensor:
        """Run changed pictures.

        Args:
            what: What the runs are for, such as ``"gradients"``: each is settled for itself.
            rows: ``[N]``, the picture that each comes from.
            run: Gives a value for each, ``[N, …]``, in lower precision or not.
        """
        if self.tries and self._settles and what not in self.lowered:
            low, full = run(True), run(False)
            self.lowered[what] = agreement(low, full, rows) >= LEAST
            return low if self.lowered[what] else full
        return run(self.lowered.setdefault(what, self.tries))

    @property
    def name(self) -> str:
        """The precision of all runs so far."""
        return "bfloat16" if any(self.lowered.values()) else "full"


def agreement(low: Tensor, full: Tensor, rows: Tensor) -> float:
    """Give the least rank correlation (Spearman) of two series of values of some pictures.

    Values of many pixels are first added up over the changed pictures of one picture, as its map
    is made of them; single ones are ranked among these.

    Args:
        low: ``[N, …]``.
        full: ``[N, …]``.
        rows: ``[N]``, the picture that each comes from.
    """
    found = []
    for row in set(rows.tolist()):
        one, other = (
            values[rows == row].sum(0).flatten() if values.ndim > 1 else values[rows == row]
            for values in (low, full)
        )
        ranks = torch.stack([one, other]).argsort(1).argsort(1).double()
        # Of two values any order says little.
        found.append(float(torch.corrcoef(ranks)[0, 1]) if ranks.shape[1] > 2 else -1.0)
    return min(found)
