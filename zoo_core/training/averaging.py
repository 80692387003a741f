"""Averages of weights over steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError


class MovingAverage:
    """The exponential moving average of a model's weights; buffers are the model's own.

    It begins with the weights as they are, and moves faster at first, by at most
    ``(1 + steps) / (10 + steps)`` of itself, as in TensorFlow's.

    Args:
        model: Whose weights.
        decay: What share of itself the average keeps at a step, from 0 to below 1.

    Raises:
        InputError: If the share is another.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema is a share from 0 to below 1, such as 0.999, not {decay!r}")
        self.decay = decay
        self.steps = 0
        self._model = model
        self._parameters = dict(model.named_parameters())
        self.averages: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the weights as they are now."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(
            list(self.averages.values()), list(self._parameters.values()), 1 - keep
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the model for a while."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.copy_to_model(self.averages)
        try:
            yield
        finally:
            self.copy_to_model(own)

    @torch.no_grad()
    def copy_to_model(self, values: Mapping[str, Tensor]) -> None:
        """Give the model weights by name."""
        # After an evaluation FSDP still has the whole of what it holds in shards, and would go on
        # with that.
        for module in self._model.modules():
            if hasattr(module, "reshard"):
                module.reshard()  # type: ignore[operator]
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
