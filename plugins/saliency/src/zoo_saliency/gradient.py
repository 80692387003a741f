"""Attributions from one gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from zoo_core.explainability.inquiry import Inquiry
from zoo_saliency.base import PixelAttribution


class VanillaSaliency(PixelAttribution):
    """The score's gradient at the pictures ``[B, C, H, W]``.

    Simonyan et al. 2013 (https://arxiv.org/abs/1312.6034), who take its size:
    ``absolute=True``.
    """

    name: ClassVar[str] = "saliency"

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for the gradient."""
        inquiry.plan_input_gradient()

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the gradient."""
        return inquiry.input_gradient.clone(), {}


class InputXGradient(VanillaSaliency):
    """The gradient times the pictures ``[B, C, H, W]``, as the model takes them.

    Shrikumar et al. 2016 (https://arxiv.org/abs/1605.01713). Of a linear model, what each value
    adds to the score.
    """

    name: ClassVar[str] = "input_x_gradient"

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the product."""
        return inquiry.input_gradient * inquiry.inputs, {}
