"""Gradients along a path from a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from zoo_core.explainability.inquiry import Inquiry
from zoo_saliency.base import SampledAttribution
from zoo_saliency.baselines import Baseline, baseline_of


class IntegratedGradients(SampledAttribution):
    """The gradient's integral ``[B, C, H, W]`` along a straight path from a baseline.

    Sundararajan et al. 2017 (https://arxiv.org/abs/1703.01365). All values of a picture together
    are the change of score from the baseline to it. The integral is a Gauss-Legendre sum, which
    for a smooth model is right to many digits. A model with ReLUs bends in too many places for any
    sum of few steps; what is missing then is shared out in proportion to the values' sizes, and
    its share of the change is told in the facts as ``gap``: a large one asks for more steps.

    Args:
        model: The model to explain; optional if each call has one.
        num_steps: Places of the path where the gradient is taken.
        baseline: ``"black"`` in image space, which is the default where the model's
            preprocessing is known; ``"zero"``, the default elsewhere, which for normalised
            pictures is the mean colour; a number; or pictures that broadcast to the inputs. The
            facts tell which.
        complete: Whether what is missing is shared out.
        chunk_size: Steps that are run at once; without it, as many as fit.

    Raises:
        InputError: If an argument is out of range.
    """

    name: ClassVar[str] = "integrated_gradients"

    def __init__(
        self,
        model: nn.Module | None = None,
        num_steps: int = 50,
        baseline: Baseline = None,
        complete: bool = True,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, chunk_size=chunk_size)
        self._check_counts(num_steps=num_steps)
        self.num_steps, self.baseline, self.complete = num_steps, baseline, complete

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the integral."""
        inputs = inquiry.inputs
        name, start = baseline_of(inquiry, self.baseline)
        change = inputs - start
        nodes, weights = np.polynomial.legendre.leggauss(self.num_steps)
        places = inputs.new_tensor((nodes + 1) / 2)
        shares = inputs.new_tensor(weights / 2)

        def part(rows: Tensor, steps: list[int]) -> Tensor:
            at, share = (values[steps][:, None, None, None] for values in (places, shares))
            return share * inquiry.gradients(start[rows] + at * change[rows], rows)

        values = change * self.added_up(inquiry, self.num_steps, part, graph=True)
        rows = torch.arange(len(inputs), device=inputs.device)
        rise = inquiry.target.score(inquiry.logits) - inquiry.scores(start, rows, exact=True)
        missing = rise - values.sum((1, 2, 3))
        if self.complete:
            sizes = values.abs()
            total = sizes.sum((1, 2, 3))
            factor = missing / torch.where(total > 0, total, 1)
            values = values + sizes * factor[:, None, None, None]
        gap = (missing / torch.where(rise != 0, rise, 1)).abs()
        return values, {"baseline": name, "num_steps": self.num_steps, "gap": gap.tolist()}
