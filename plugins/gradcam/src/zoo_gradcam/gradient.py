"""Maps from a layer's activations and the score's gradients there."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer
from zoo_gradcam.base import CAM


class GradCAM(CAM):
    """Grad-CAM (Selvaraju et al. 2016, https://arxiv.org/abs/1610.02391).

    Each channel counts by its gradient's average over all places; for segmentation, where the
    score is a region's sum, that is Seg-Grad-CAM (Vinogradova et al. 2020,
    https://arxiv.org/abs/2002.11434). It costs one forward pass: gradients are taken from the
    layer on.
    """

    name: ClassVar[str] = "grad_cam"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        weights = inquiry.gradient(layer).mean((2, 3), keepdim=True)
        return (weights * inquiry.activation(layer)).sum(1).relu()


class GradCAMPlusPlus(CAM):
    """Grad-CAM++ (Chattopadhyay et al. 2017, https://arxiv.org/abs/1710.11063).

    Places with a positive gradient count by closed-form weights, so that several objects of one
    class show alike.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        gradient, activation = inquiry.gradient(layer), inquiry.activation(layer)
        # g² / (2 g² + Σa g³), divided by g², so that small gradients do not vanish.
        below = 2 + activation.sum((2, 3), keepdim=True) * gradient
        shares = torch.where(below != 0, 1 / torch.where(below != 0, below, 1), 0)
        weights = (shares * gradient.relu()).sum((2, 3), keepdim=True)
        return (weights * activation).sum(1).relu()


class LayerCAM(CAM):
    """LayerCAM (Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943).

    Each place of each channel counts by its own gradient where that is positive, so that shallow
    layers give fine maps.
    """

    name: ClassVar[str] = "layer_cam"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        return (inquiry.gradient(layer).relu() * inquiry.activation(layer)).sum(1).relu()


class HiResCAM(CAM):
    """HiResCAM (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891).

    Gradient times activation, place by place: where a linear layer reads the map, exactly what
    each place adds to the score.
    """

    name: ClassVar[str] = "hires_cam"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        return (inquiry.gradient(layer) * inquiry.activation(layer)).sum(1).relu()


class XGradCAM(CAM):
    """XGrad-CAM (Fu et al. 2020, https://arxiv.org/abs/2008.02312).

    Each channel counts by its gradients' average, weighed by its activations.
    """

    name: ClassVar[str] = "xgrad_cam"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        gradient, activation = inquiry.gradient(layer), inquiry.activation(layer)
        total = activation.sum((2, 3), keepdim=True)
        weighed = (gradient * activation).sum((2, 3), keepdim=True)
        weights = torch.where(total != 0, weighed / torch.where(total != 0, total, 1), 0)
        return (weights * activation).sum(1).relu()
