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

_TRIAL: Final = 2
"""For so many changed pictures gradients are taken both ways to settle ``auto``."""


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

    A deep model's gradients change with its activations: rounded to bfloat16, they put rectifiers
    on their other side. Rounding on the way back alone changes them by a hundredth or so. So
    ``auto`` lowers no more of a gradient than that.

    Args:
        precision: ``"full"`` and ``"exact"`` are that of the model and of the caller;
            ``"bfloat16"`` is just that; ``"auto"`` is bfloat16 for scores, and for the way back of
            gradients, where the device has units for it and the first runs, done in both, agree.
        possible: Whether there is anything to lower: a model in float32 without autocast.
        device: Where the model runs.

    Attributes:
        tries: Whether runs may be lowered.
        lowered: Whether runs are lowered, by what they are for; what is not there is not settled.
        backward_only: Whether of a gradient the way back alone is lowered.
    """

    def __init__(self, precision: Precision, possible: bool, device: torch.device) -> None:
        self.tries = possible and (
            precision == "bfloat16" or (precision == "auto" and has_units(device))
        )
        self._settles = self.backward_only = precision == "auto"
        self.lowered: dict[str, bool] = {}

    def scores(self, rows: Tensor, run: Callable[[bool], Tensor]) -> Tensor:
        """Give the scores ``[N]`` of changed pictures.

        Args:
            rows: ``[N]``, the picture that each comes from.
            run: Gives the scores, in lower precision or not.
        """
        if self._is_open("scores"):
            low, full = run(True), run(False)
            self.lowered["scores"] = agreement(low, full, rows) >= LEAST
            return low if self.lowered["scores"] else full
        return run(self.lowered.setdefault("scores", self.tries))

    def gradients(self, rows: Tensor, run: Callable[[slice, bool], Tensor]) -> Tensor:
        """Give the gradients ``[N, …]`` at changed pictures.

        Args:
            rows: ``[N]``, the picture that each comes from.
            run: Gives the gradients at some of them, in lower precision or not.
        """
        if self._is_open("gradients"):
            few = slice(_TRIAL)
            found = agreement(run(few, True), run(few, False), rows[few])
            # The runs themselves may have shown that there is nothing to lower.
            self.lowered.setdefault("gradients", found >= LEAST)
        return run(slice(None), self.lowered.setdefault("gradients", self.tries))

    def _is_open(self, what: str) -> bool:
        return self.tries and self._settles and what not in self.lowered

    @property
    def name(self) -> str:
        """The precision of all runs so far."""
        if self.lowered.get("gradients") and self.backward_only:
            return "bfloat16 backward"
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
