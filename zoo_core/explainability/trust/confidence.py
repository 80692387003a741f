"""What a model says when it sees only what a map shows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo_core.explainability.targets import Classes, Region
from zoo_core.explainability.trust.judging import judging


class Confidence(NamedTuple):
    """What became of the class's probability, of each picture.

    Attributes:
        drop: The share of it that was lost, ``[B]``, 0 where it grew.
        increased: Whether it grew, ``[B]``.
    """

    drop: Tensor
    increased: Tensor


def average_drop(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes = None,
    *,
    task: str | None = None,
    region: Region = None,
) -> Confidence:
    """Multiply the pictures with their maps, from 0 to 1, and see how sure the model stays.

    Average drop and increase in confidence of Chattopadhay et al. 2018
    (https://arxiv.org/abs/1710.11063), before they are averaged over pictures. Where pictures are
    normalised, what the map hides becomes the mean colour.

    Args:
        model: The model; it is left as it was.
        inputs: Pictures ``[B, C, H, W]``.
        maps: ``[B, H, W]``, or ``[B, C, H, W]`` whose absolute values are summed; scaled to 0–1.
        target_class: One class, one for each picture, or ``None`` for the predicted ones.
        task: ``classification`` or ``segmentation``, for a model with both.
        region: In segmentation, the pixels whose probabilities are averaged.

    Raises:
        InputError: If an argument cannot be.
    """
    with judging(model, inputs, maps, target_class, task, region) as judge:
        low, high = judge.maps.amin((1, 2), True), judge.maps.amax((1, 2), True)
        # A constant map hides nothing, or all.
        scale = torch.where(high > low, high - low, torch.ones_like(high))
        shown = torch.where(high > low, (judge.maps - low) / scale, (high > 0).to(low))
        before = judge.of_inputs()
        after = judge.of_changed(
            1, lambda rows, _: judge.inputs[rows] * shown[rows, None].to(judge.inputs)
        )[0]
    tiny = torch.finfo(before.dtype).tiny
    return Confidence(((before - after) / before.clamp(min=tiny)).clamp(min=0), after > before)
