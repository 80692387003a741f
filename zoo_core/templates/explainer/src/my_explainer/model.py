"""An explainer: it says what in a picture speaks for a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import nn
from zoo_core.errors import InputError
from zoo_core.explainability import Attribution, Inquiry, ModelExplainer


class MyExplainer(ModelExplainer):
    """The length of the score's gradient at each pixel, averaged over what is around it.

    It gives a map ``[B, H, W]`` that is nowhere negative. The base class runs the model, chooses
    the class, and leaves the model as it was.

    Args:
        model: The model to explain; optional if each call has one.
        window: Pixels, along each side, that are averaged over; an odd number.

    Raises:
        InputError: If ``window`` is not odd, or not positive.
    """

    name: ClassVar[str] = "my_explainer"

    def __init__(self, model: nn.Module | None = None, window: int = 7) -> None:
        super().__init__(model)
        if window < 1 or window % 2 == 0:
            raise InputError(f"window must be odd and positive, not {window}")
        self.window = window

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for the gradient of the score at the pictures."""
        inquiry.plan_input_gradient()

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give the map."""
        length = inquiry.input_gradient.norm(dim=1, keepdim=True)
        smooth = F.avg_pool2d(
            length, self.window, stride=1, padding=self.window // 2, count_include_pad=False
        )
        return Attribution(smooth[:, 0])
