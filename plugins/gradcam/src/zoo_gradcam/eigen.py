"""Maps from a layer's activations alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer
from zoo_gradcam.base import CAM


class EigenCAM(CAM):
    """Eigen-CAM (Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299).

    The places' activations along the direction in which they differ most: what the model sees,
    whatever the class. Its sign, which the decomposition leaves open, is that for which the
    stronger activations count.
    """

    name: ClassVar[str] = "eigen_cam"
    needs_gradient = False

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        activation = inquiry.activation(layer)
        # In float64, as the square of small differences is what is decomposed.
        places = activation.flatten(2).transpose(1, 2).double()
        centred = places - places.mean(1, keepdim=True)
        if centred.shape[1] <= centred.shape[2]:
            # Far fewer places than channels: the small matrix has the same main direction.
            values, vectors = torch.linalg.eigh(centred @ centred.mT)
            along = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
        else:
            _, vectors = torch.linalg.eigh(centred.mT @ centred)
            along = (centred @ vectors[..., -1:])[..., 0]
        strength = places.abs().sum(2)
        strength = strength - strength.mean(1, keepdim=True)
        sign = torch.where((along * strength).sum(1, keepdim=True) < 0, -1.0, 1.0)
        maps: Tensor = (along * sign).relu().reshape(-1, *activation.shape[2:])
        return maps.to(activation.dtype)
