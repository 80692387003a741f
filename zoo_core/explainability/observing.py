"""Running a model once for activations and gradients of all layers that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.explainability.layers import Layer
from zoo_core.explainability.recording import recording, tensor_of, with_tensor
from zoo_core.explainability.running import in_checkpoint
from zoo_core.explainability.targets import Target, joined_targets


@dataclass
class Plan:
    """A layer, and whether the gradient there is needed beside the activation."""

    layer: Layer
    gradient: bool


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What one run of some pictures shows; activations and gradients are maps."""

    task: str
    logits: Tensor
    target: Target
    activations: Mapping[nn.Module, Tensor]
    gradients: Mapping[nn.Module, Tensor | None]
    input_gradient: Tensor | None


def observe(
    run: Callable[[Tensor], tuple[str, Tensor]],
    pictures: Tensor,
    target_of: Callable[[str, Tensor], Target],
    plans: Collection[Plan],
    *,
    at_pictures: bool,
) -> Observed:
    """Run a model forward and, if a gradient is asked for, backward.

    Unless the gradient at the pictures is, the graph begins at the first layer of the plans, so
    that no more is kept in memory than what follows it needs.

    Args:
        run: Runs the model, and gives the task and its logits.
        pictures: Pictures ``[B, C, H, W]``.
        target_of: Gives the target for a task and its logits.
        plans: The layers.
        at_pictures: Whether the gradient at the pictures is asked for.
    """
    if not at_pictures:
        with suppress(_InCheckpointError):
            observed = _observe(run, pictures, target_of, plans, at_pictures, from_input=False)
            # A model that turns gradients off for a part of itself turns off ours with them.
            if all(gradient is not None for gradient in observed.gradients.values()):
                return observed
    return _observe(run, pictures, target_of, plans, at_pictures, from_input=True)


class _InCheckpointError(Exception):
    """Where a graph was to begin, the model is run again for gradients, which would begin it."""


def _observe(
    run: Callable[[Tensor], tuple[str, Tensor]],
    pictures: Tensor,
    target_of: Callable[[str, Tensor], Target],
    plans: Collection[Plan],
    at_pictures: bool,
    *,
    from_input: bool,
) -> Observed:
    kept: dict[nn.Module, Tensor] = {}
    pictures = pictures.detach().clone().requires_grad_(from_input)
    with _keeping(plans, kept), torch.set_grad_enabled(from_input):
        task, logits = run(pictures)
    target = target_of(task, logits)
    wanted = [plan.layer for plan in plans if plan.gradient]
    leaves = [kept[layer.module] for layer in wanted] + [pictures] * at_pictures
    gradients = _gradients(target.score(logits).sum(), leaves)
    return Observed(
        task=task,
        logits=logits.detach(),
        target=target,
        activations={
            plan.layer.module: _as_map(plan.layer, kept[plan.layer.module]) for plan in plans
        },
        gradients={
            layer.module: None if gradient is None else _as_map(layer, gradient)
            for layer, gradient in zip(wanted, gradients, strict=False)
        },
        input_gradient=precise(gradients[-1])
        if at_pictures and gradients[-1] is not None
        else None,
    )


def _gradients(score: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not leaves or not score.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(score, leaves, allow_unused=True)


def _as_map(layer: Layer, tensor: Tensor) -> Tensor:
    return precise(layer.layout.to_map(tensor.detach()))


@contextmanager
def _keeping(plans: Collection[Plan], kept: dict[nn.Module, Tensor]) -> Iterator[None]:
    """Keep what layers give, and begin a graph at the first where there is none yet."""
    with_gradient = {plan.layer.module: plan.gradient for plan in plans}

    def keep(module: nn.Module, output: Any) -> Any:
        tensor = tensor_of(output)
        assert tensor is not None
        if not with_gradient[module]:
            kept[module] = tensor.detach().clone()
            return None
        if not torch.is_grad_enabled() and in_checkpoint():
            raise _InCheckpointError
        torch.set_grad_enabled(True)
        kept[module] = tensor.clone()
        if not kept[module].requires_grad:
            kept[module].requires_grad_()
        # The next layer may work in place: it gets another copy.
        return with_tensor(output, tensor, kept[module].clone())

    with recording(dict.fromkeys(with_gradient, keep)):
        yield


def joined(parts: Sequence[Observed]) -> Observed:
    """Give what is observed of a batch from that of its parts."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Observed(
        task=first.task,
        logits=torch.cat([part.logits for part in parts]),
        target=joined_targets([part.target for part in parts]),
        activations={
            module: torch.cat([part.activations[module] for part in parts])
            for module in first.activations
        },
        gradients={
            module: _together([part.gradients[module] for part in parts])
            for module in first.gradients
        },
        input_gradient=_together([part.input_gradient for part in parts]),
    )


def _together(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if len(present) == len(tensors) else None


def precise(tensor: Tensor) -> Tensor:
    """Give a tensor in float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
