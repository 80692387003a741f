"""What stands for a picture that shows nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.explainability.inquiry import Inquiry

Baseline = str | float | Tensor | None


def baseline_of(inquiry: Inquiry, baseline: Baseline) -> tuple[str, Tensor]:
    """Give a baseline's name and its pictures ``[B, C, H, W]``.

    Args:
        inquiry: Model and pictures.
        baseline: ``"black"``, which takes a model that knows how pictures are normalised;
            ``"zero"``, which after normalisation is the mean colour; a number for all values; or
            pictures that broadcast to the inputs. ``None`` is black where that is known, and
            else zero.

    Raises:
        InputError: If it is none of these.
    """
    inputs = inquiry.inputs
    if baseline is None or (isinstance(baseline, str) and baseline == "black"):
        black = _black(inquiry)
        if black is not None:
            return "black", black.expand_as(inputs)
        if baseline is not None:
            raise InputError(
                "baseline='black' takes a model whose preprocessing is known for its channels; "
                "give the black picture's values as a tensor [C, 1, 1]"
            )
        baseline = "zero"
    if isinstance(baseline, str):
        if baseline != "zero":
            raise InputError(
                f"baseline must be 'black', 'zero', a number or pictures, not {baseline!r}"
            )
        return "zero", torch.zeros_like(inputs)
    if isinstance(baseline, Tensor):
        try:
            return "given", baseline.detach().to(inputs).expand_as(inputs)
        except RuntimeError:
            raise InputError(
                f"a baseline of {list(baseline.shape)} does not broadcast to {list(inputs.shape)}"
            ) from None
    if isinstance(baseline, bool) or not isinstance(baseline, int | float):
        raise InputError(
            f"baseline must be 'black', 'zero', a number or pictures, not {baseline!r}"
        )
    return f"{baseline:g}", torch.full_like(inputs, baseline)


def _black(inquiry: Inquiry) -> Tensor | None:
    """Give black as the model sees it, ``[C, 1, 1]``, if that is known."""
    known: Any = getattr(inquiry.model, "preprocessing", None)
    mean, std = getattr(known, "mean", None), getattr(known, "std", None)
    if mean is None or std is None or not len(mean) == len(std) == inquiry.inputs.shape[1]:
        return None
    values = [-centre / spread for centre, spread in zip(mean, std, strict=True)]
    return inquiry.inputs.new_tensor(values)[:, None, None]
