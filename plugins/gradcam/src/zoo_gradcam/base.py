"""What class-activation maps have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from zoo_core.explainability.base import Attribution, ModelExplainer
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer, named_layer
from zoo_core.explainability.maps import normalised, resized
from zoo_core.explainability.running import unwrapped


class CAM(ModelExplainer):
    """A map of the places whose activations speak for a class, ``[B, H, W]``.

    ``explain`` gives maps of the pictures' size, scaled to 0–1 for each picture; where all of a
    map is the same, zeros. With ``normalize=False`` they are as the method has them: never
    negative, except for Eigen-CAM of no scale. Classifiers and segmentation models, CNNs and
    transformers are all explained.

    Args:
        model: The model to explain; optional if each call has one.
        target_layer: The layer, or its dotted name; without it, the last layer whose places the
            score depends on and, for segmentation, the encoder's last of the lowest resolution.

    Raises:
        InputError: If the model has no such layer.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"normalize": True})
    needs_gradient: ClassVar[bool] = True

    def __init__(
        self, model: nn.Module | None = None, target_layer: nn.Module | str | None = None
    ) -> None:
        super().__init__(model)
        self.target_layer = target_layer
        if self.model is not None and target_layer is not None:
            named_layer(unwrapped(self.model), target_layer)

    @abstractmethod
    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps ``[B, h, w]`` of a layer, as large as its activation."""

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for the layer's activation, and for its gradient if the method takes that."""
        inquiry.plan_layer(self.target_layer, gradient=self.needs_gradient)

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give the maps at the pictures' size."""
        layer = inquiry.plan_layer(self.target_layer, gradient=self.needs_gradient)
        maps = resized(self.maps(inquiry, layer), inquiry.size)
        return Attribution(normalised(maps) if options["normalize"] else maps, layer)
