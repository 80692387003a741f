"""Maps from what the score loses without a channel."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer
from zoo_gradcam.base import CAM


class AblationCAM(CAM):
    """Ablation-CAM (Desai and Ramaswamy 2020, https://doi.org/10.1109/WACV45572.2020.9093360).

    Each channel counts by the share of the score that is lost when it is zero. Where pooling and
    a linear layer follow, all losses are known from one gradient; elsewhere what follows the layer
    is run for each channel. A negative score's share is taken of its size, so that what speaks
    for the class still counts for it.
    """

    name: ClassVar[str] = "ablation_cam"

    def maps(self, inquiry: Inquiry, layer: Layer) -> Tensor:
        """Give the maps of a layer."""
        activation = inquiry.activation(layer)
        score = inquiry.target.score(inquiry.logits)
        losses = (inquiry.gradient(layer) * activation).sum((2, 3))
        if not _is_linear(inquiry, layer, score, losses):
            rows = range(len(activation))
            losses = torch.stack([_losses(inquiry, layer, row, score[row]) for row in rows])
        weights = losses / torch.where(score != 0, score.abs(), 1)[:, None]
        return (weights[:, :, None, None] * activation).sum(1).relu()


def _is_linear(inquiry: Inquiry, layer: Layer, score: Tensor, losses: Tensor) -> bool:
    """Tell whether the score of the first picture is linear in the activation.

    It is asked of several halves of the channels: layers that bend would bend for one of them.
    """
    activation = inquiry.activation(layer)[:1]
    channels = torch.arange(activation.shape[1], device=activation.device)
    kept = torch.stack([(channels // 2**bit) % 2 == side for bit in range(4) for side in (0, 1)])
    places = activation * kept[:, :, None, None]
    found = inquiry.scores_from(layer, 0, places)
    expected = score[0] - (losses[0] * ~kept).sum(1)
    scale = score[0].abs() + losses[0].abs().sum()
    return bool(((found - expected).abs() <= 1e-5 * scale).all())


def _losses(inquiry: Inquiry, layer: Layer, row: int, score: Tensor) -> Tensor:
    """Give what the score of one picture loses without each channel, ``[C]``."""
    activation = inquiry.activation(layer)[row]
    channels = torch.arange(len(activation), device=activation.device)

    def run(chunk: slice) -> Tensor:
        kept = channels[chunk, None] != channels
        return inquiry.scores_from(layer, row, activation * kept[:, :, None, None])

    size = pictures_at_once(inquiry.inputs, graph=False)
    return score - torch.cat([part for _, part in in_chunks(len(channels), size, run)])
