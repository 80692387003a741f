"""Whether an explanation depends on what the model has learnt at all."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo_core.contracts import BaseExplainer
from zoo_core.errors import InputError, ZooWarning
from zoo_core.explainability.running import unwrapped


@dataclass(frozen=True)
class Sanity:
    """How like the maps are while a model is randomised layer by layer.

    Attributes:
        layers: The last of each group of layers; all from there to the model's end are random.
        similarity: Rank correlation with the model's own maps, ``[layers, B]``, -1 to 1.
    """

    layers: list[str]
    similarity: Tensor

    @property
    def passed(self) -> bool:
        """Whether the maps of the wholly random model have little in common with its own."""
        return bool(self.similarity[-1].abs().mean() < 0.5)


def randomisation_check(
    explainer: BaseExplainer,
    model: nn.Module,
    inputs: Tensor,
    target_class: int | Tensor | None = None,
    *,
    steps: int = 8,
    seed: int = 0,
    **options: object,
) -> Sanity:
    """Randomise a copy of a model from its last layer to its first, and compare the maps.

    The cascading randomisation of Adebayo et al. 2018 (https://arxiv.org/abs/1810.03292), compared
    by Spearman's rank correlation of absolute values. A method whose maps stay alike draws edges
    rather than explaining the model.

    Args:
        explainer: Whose maps; it must take the model in :meth:`explain`.
        model: The model; it is not changed.
        inputs: Pictures ``[B, C, H, W]``.
        target_class: One class, or one for each picture; needed, for a random model predicts
            others.
        steps: In how many groups the layers are randomised.
        seed: Of the random weights.
        options: Those of the explainer.

    Raises:
        InputError: If an argument cannot be, or the explainer gives no maps.
    """
    if target_class is None:
        raise InputError("target_class must be given: a random model predicts another class")
    if steps < 1:
        raise InputError(f"steps must be a positive whole number, not {steps!r}")

    def mapped(of: nn.Module) -> Tensor:
        values = explainer.explain(inputs, of, target_class, **options)
        if not isinstance(values, Tensor):
            raise InputError(f"{type(explainer).__name__} gives no maps to compare")
        return values.detach().abs().flatten(1).double()

    own = unwrapped(model)
    before = mapped(own)
    changed = copy.deepcopy(own)
    layers = [(name, layer) for name, layer in changed.named_modules() if _has_own(layer)]
    groups = _grouped(layers[::-1], steps)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for group in groups:
        for _, layer in group:
            _randomise(layer, generator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZooWarning)  # a random model's map may well be empty
            found.append(_rank_correlation(before, mapped(changed)))
    return Sanity([group[-1][0] for group in groups], torch.stack(found))


def _has_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _grouped(layers: list[tuple[str, nn.Module]], steps: int) -> list[list[tuple[str, nn.Module]]]:
    count = min(steps, len(layers))
    edges = [round(index * len(layers) / count) for index in range(count + 1)]
    return [layers[begin:end] for begin, end in pairwise(edges)]


@torch.no_grad()
def _randomise(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw a layer's weights anew, as widely spread as they are; biases and norms are shuffled."""
    for parameter in layer.parameters(recurse=False):
        if parameter.ndim > 1:
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(drawn * parameter.std())
        else:
            order = torch.randperm(parameter.numel(), generator=generator)
            parameter.copy_(parameter[order.to(parameter.device)])


def _rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Give Spearman's correlation of each row, 0 where a row is constant."""
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(1, True), second - second.mean(1, True)
    scale = first.norm(dim=1) * second.norm(dim=1)
    product = (first * second).sum(1)
    return torch.where(scale > 0, product / scale.clamp(min=1e-12), torch.zeros_like(scale))


def _ranks(values: Tensor) -> Tensor:
    """Give ranks, the mean one where values are equal."""
    return torch.stack([_mean_ranks(row) for row in values])


def _mean_ranks(row: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(row, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    mean: Tensor = last - (counts.double() - 1) / 2
    return mean[inverse]
