"""Maps from what is left of the score when a channel masks the picture."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer
from zoo_core.explainability.maps import normalised
from zoo_gradcam.base import CAM


class ScoreCAM(CAM):
    """Score-CAM (Wang et al. 2019, https://arxiv.org/abs/1910.01279).

    Each channel counts by the score of the picture that it masks. It takes no gradient, and one
    forward pass for each channel.
    """

    name: ClassVar[str] = "score_cam"
    needs_gradient = False

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        activation = inquiry.activation(layer)
        batch, channels = activation.shape[:2]
        flat = activation.flatten(0, 1)
        target = inquiry.target

        def run(chunk: slice) -> Tensor:
            rows = torch.arange(chunk.start, chunk.stop, device=flat.device) // channels
            masks = F.interpolate(flat[chunk][:, None], inquiry.size, mode="bilinear")
            pictures = inquiry.inputs[rows] * normalised(masks).to(inquiry.inputs.dtype)
            return inquiry.scores(pictures, rows)

        size = pictures_at_once(inquiry.inputs, graph=False)
        scores = torch.cat([part for _, part in in_chunks(len(flat), size, run)])
        # Of a region's sum, the softmax would be all on one channel.
        scores = scores.reshape(batch, channels) / target.pixels[:, None]
        weights = scores.softmax(1)[:, :, None, None]
        return (weights * activation).sum(1).relu()
