"""Learning rates: over the steps of a run, and over the layers of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo_core.contracts import Backbone
from zoo_core.errors import InputError


def cosine_schedule(
    optimizer: Optimizer, steps: int, warmup: int = 0, floor: float = 0.0
) -> LambdaLR:
    """Give a learning rate that rises in a line, then falls as a cosine does.

    Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983, without restarts.

    Args:
        optimizer: Whose learning rates.
        steps: After how many it is at its lowest; steps or epochs, as the trainer is told.
        warmup: Over how many of them it rises.
        floor: What share of the learning rate is left in the end.

    Raises:
        InputError: If the numbers do not fit each other.
    """
    if not 0 <= warmup < steps:
        raise InputError(f"warmup must be from 0 to below steps, {steps}, not {warmup}")
    if not 0 <= floor <= 1:
        raise InputError(f"floor is a share from 0 to 1, not {floor}")

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min((step - warmup) / (steps - warmup), 1)
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, share)


def layerwise(
    model: nn.Module, lr: float, decay: float = 0.75, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Give groups of parameters whose learning rate falls layer by layer towards the picture.

    Of a zoo model, what is not its backbone has the full learning rate, and the backbone's last
    layer that times ``decay``; of any other, its last layer has the full one. Biases, norms and
    other parameters of one axis have no weight decay (Bao et al. 2021,
    https://arxiv.org/abs/2106.08254).

    Args:
        model: Whose parameters; those that need no gradient are left out.
        lr: The full learning rate.
        decay: What a layer has of the next one's.
        weight_decay: That of all other parameters.

    Returns:
        Groups for an optimizer.

    Raises:
        InputError: If ``decay`` is not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise InputError(f"decay is a share above 0 and at most 1, not {decay!r}")
    backbone = getattr(model, "backbone", None)
    trunk = backbone if isinstance(backbone, Backbone) else model
    layers = list(_layers(trunk, sum(p.numel() for p in trunk.parameters())))
    depth = {p: number for number, layer in enumerate(layers) for p in layer.parameters()}
    top = len(layers) if trunk is not model else len(layers) - 1
    own = set(trunk.parameters())
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            # What no layer has, such as position embeddings, stands before the first.
            level = depth.get(parameter, 0) if parameter in own else top
            groups.setdefault((level, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * decay ** (top - level),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (level, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _layers(module: nn.Module, whole: int) -> Iterator[nn.Module]:
    """Give the parts in a row: children, and theirs where they stand in a row or are large."""
    for child in module.children():
        size = sum(parameter.numel() for parameter in child.parameters())
        is_row = isinstance(child, nn.ModuleList) or size > whole / 2
        if is_row and any(True for _ in child.children()):
            yield from _layers(child, whole)
        elif size:
            yield child
