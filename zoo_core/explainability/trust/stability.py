"""How much an explanation changes when the picture hardly does."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_core.contracts import BaseExplainer
from zoo_core.errors import InputError


def sensitivity(
    explainer: BaseExplainer,
    inputs: Tensor,
    model: nn.Module | None = None,
    target_class: int | Tensor | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    **options: object,
) -> Tensor:
    """Give the largest relative change of the maps under noise, ``[B]``: 0 is most stable.

    The maximum sensitivity of Yeh et al. 2019 (https://arxiv.org/abs/1901.09392): the norm of the
    difference over the norm of the map itself.

    Args:
        explainer: Whose maps.
        inputs: Pictures ``[B, C, H, W]``.
        model: The model, unless the explainer has one.
        target_class: One class, or one for each picture. ``None`` would explain another class where
            noise changes the prediction.
        radius: How much each value of a picture may change, either way.
        samples: How often noise is drawn.
        seed: Of the noise, drawn for each picture.
        options: Those of the explainer.

    Raises:
        InputError: If an argument cannot be, or the explainer gives no maps.
    """
    if target_class is None:
        raise InputError("target_class must be given: noise may change what is predicted")
    if samples < 1 or not radius > 0:
        raise InputError("samples must be a positive whole number, and radius above 0")

    def mapped(pictures: Tensor) -> Tensor:
        values = explainer.explain(pictures, model, target_class, **options)
        if not isinstance(values, Tensor):
            raise InputError(f"{type(explainer).__name__} gives no maps to compare")
        return values.detach().flatten(1)

    plain = mapped(inputs)
    norm = plain.norm(dim=1)
    worst = torch.zeros_like(norm)
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(inputs))]
    for _ in range(samples):
        noise = torch.stack([torch.rand(inputs.shape[1:], generator=g) for g in generators])
        changed = mapped(inputs + (2 * noise.to(inputs) - 1) * radius)
        worst = torch.maximum(worst, (changed - plain).norm(dim=1))
    return torch.where(norm > 0, worst / norm, torch.full_like(norm, math.nan))
