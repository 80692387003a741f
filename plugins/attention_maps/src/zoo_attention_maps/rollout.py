"""What the output attends to through all layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo_attention_maps.capture import Seen, attend, attend_gradient
from zoo_attention_maps.layers import AttentionLayer
from zoo_attention_maps.running import attention_of
from zoo_core.errors import InputError
from zoo_core.explainability.base import Attribution, ModelExplainer
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.maps import normalised, resized
from zoo_core.explainability.results import NotApplicableError


class Rollout(ModelExplainer):
    """Follows attention from the output back to the picture.

    What is followed begins at the tokens of the last layer that the score depends on: the class
    token's, or the average of all places where the model takes their average. It goes back from
    layer to layer as a vector, which gives the same as the product of all layers' matrices.
    ``explain`` gives maps ``[B, H, W]`` of the pictures' size, scaled to 0–1 for each picture;
    ``normalize=False`` leaves the shares as they are.

    It does not apply where layers do not all attend to the same tokens: in pyramids, or to
    channels.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"normalize": True})

    @abstractmethod
    def layers(self, inquiry: Inquiry) -> dict[str, AttentionLayer]:
        """Give all layers."""

    @abstractmethod
    def outputs(self, inquiry: Inquiry, last: AttentionLayer) -> Tensor:
        """Give how much of the output is each query of the last layer, ``[queries]``."""

    @abstractmethod
    def back(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Give the shares ``[B, 1, N]`` of a layer's inputs from those of its outputs."""

    @abstractmethod
    def gathered(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Give the shares ``[B, 1, N]`` of the tokens that few queries gather from theirs."""

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for nothing: attention is seen in a run of its own."""

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Follow the attention back."""
        found = list(self.layers(inquiry).values())
        pool = found.pop() if len(found) > 1 and found[-1].kind == "pooled" else None
        tokens = _check(found, pool)
        shares = self.outputs(inquiry, pool or found[-1])
        shares = shares.expand(len(inquiry.inputs), 1, -1)
        if pool is not None:
            shares = self.gathered(pool, shares)
        for layer in reversed(found):
            shares = self.back(layer, shares)
        grid, prefix = found[0].grid, found[0].prefix
        if grid is None:
            raise NotApplicableError(f"the {tokens} tokens of the model are no map of the picture")
        count = grid[0] * grid[1]
        maps = shares[:, 0, prefix : prefix + count].reshape(-1, *grid)
        maps = resized(maps, inquiry.size)
        return Attribution(
            normalised(maps) if options["normalize"] else maps,
            details={"layers": tuple(layer.name for layer in found)},
        )


class AttentionRollout(Rollout):
    """What the output attends to through all layers, ``[B, H, W]``.

    Abnar & Zuidema 2020 (https://arxiv.org/abs/2005.00928). Each layer's output is half its input
    and half what it attends to, heads averaged. It is the same for all classes.

    Args:
        model: The model to explain; optional if each call has one.
        heads: What is made of the heads: ``"mean"``, ``"max"`` or ``"min"``.

    Raises:
        InputError: If there is no such way.
    """

    name: ClassVar[str] = "attention_rollout"

    def __init__(self, model: nn.Module | None = None, heads: str = "mean") -> None:
        super().__init__(model)
        if heads not in ("mean", "max", "min"):
            raise InputError(
                f"heads of AttentionRollout must be 'mean', 'max' or 'min', not {heads!r}"
            )
        self.heads = heads

    def layers(self, inquiry: Inquiry) -> dict[str, AttentionLayer]:
        """Give all layers."""
        return attention_of(inquiry)

    def outputs(self, inquiry: Inquiry, last: AttentionLayer) -> Tensor:
        """Ask one picture's gradient which queries the score depends on."""
        try:
            one = Inquiry(inquiry.model, inquiry.inputs[:1])
            found = attention_of(one, gradients=True)
        except InputError:  # the model gives features instead of logits
            found = {}
        return _outputs(found.get(last.name), last).to(inquiry.inputs.device)

    def back(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Go through the layer for one half."""
        return (shares + shares @ layer.weights(self.heads)) / 2

    def gathered(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Share what each query gathers."""
        return shares @ layer.weights(self.heads)


class GradientRollout(Rollout):
    """What the output attends to and what speaks for a class, ``[B, H, W]``.

    Chefer et al. 2021 (https://arxiv.org/abs/2103.15679). Weights count as far as the class's
    score has a positive gradient there, and what a layer adds is added to what goes past it.
    """

    name: ClassVar[str] = "gradient_rollout"

    def layers(self, inquiry: Inquiry) -> dict[str, AttentionLayer]:
        """Give all layers with gradients."""
        return attention_of(inquiry, gradients=True)

    def outputs(self, inquiry: Inquiry, last: AttentionLayer) -> Tensor:
        """Read off the gradient which queries the score depends on."""
        return _outputs(last, last).to(inquiry.inputs.device)

    def back(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Add what goes through the layer to what goes past it."""
        return shares + shares @ layer.values(_relevance, "mean", normalize=False)

    def gathered(self, layer: AttentionLayer, shares: Tensor) -> Tensor:
        """Share what each query gathers."""
        return shares @ layer.values(_relevance, "mean", normalize=False)


def _relevance(seen: Seen) -> Tensor:
    return (attend(seen) * attend_gradient(seen)).clamp(min=0)


def _outputs(layer: AttentionLayer | None, last: AttentionLayer) -> Tensor:
    """Give the share of each query of the last layer in the output, ``[queries]``.

    Where gradients do not tell, because a head is all zeros or there is none, the first of the
    tokens that stand for no place is taken or, without such, all.
    """
    if layer is not None and layer.has_gradient:
        used = layer.gradient().abs().sum((0, 2)).gt(0).float()
        if used.any():
            return used / used.sum()
    queries = last.weights().shape[1]
    first = torch.zeros(queries)
    first[: 1 if last.prefix else queries] = 1
    return first / first.sum()


def _check(layers: list[AttentionLayer], pool: AttentionLayer | None) -> int:
    """Give how many tokens all layers attend to.

    Raises:
        NotApplicableError: If they do not attend to the same ones.
    """
    what = "a rollout follows tokens through layers that all attend to the same ones"
    reasons = {
        "channel": "attends to channels",
        "pooled": "has other queries than keys",
        "window": "has windows whose places are not known",
    }
    counts = {}
    for layer in layers:
        if layer.kind != "token" and not (layer.kind == "window" and layer.placed):
            raise NotApplicableError(f"{what}; {layer.name!r} {reasons[layer.kind]}")
        counts[layer.name] = layer.tokens
    if pool is not None:
        counts[pool.name] = pool.tokens
    first = next(iter(counts.values()))
    for name, count in counts.items():
        if count != first:
            raise NotApplicableError(
                f"{what}; {layers[0].name!r} has {first} of them and {name!r} {count}"
            )
    return first
