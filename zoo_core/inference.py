"""Running a model for its answers alone, in less time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor

from zoo_core.folding import Folding, JointWeights, pairs_of
from zoo_core.hardware import has_units
from zoo_core.models.multitask import MultitaskModel

TOLERANCE: Final = 0.01
"""How far bfloat16 may move a probability, and the share of pixels whose class it may change."""


class Inference:
    """Runs a model in eval mode, with less work and the same answers.

    Convolutions do the work of the batch norms behind them, and on a CPU have their numbers in the
    order in memory that suits them; both change logits by rounding only. Where the processor has
    units for bfloat16, a model in float32 is run in it, if the first pictures' answers stay within
    :data:`TOLERANCE`, which takes one more run of these.

    Args:
        model: The model, in eval mode.
        exact: Run it just as it is.
    """

    def __init__(self, model: MultitaskModel, exact: bool = False) -> None:
        self.model = model
        self._pairs, self._joint = None if exact else pairs_of(model), JointWeights()
        parameter = next(model.parameters())
        self._device = parameter.device
        self._channels_last = self._pairs is not None and self._device.type == "cpu"
        lowerable = parameter.dtype == torch.float32 and not exact
        self._tries_bfloat16 = lowerable and has_units(self._device)
        self._lowered: dict[str, bool] = {}
        self._first: dict[str, tuple[Tensor, Tensor]] = {}

    def logits(self, head: str, images: Tensor) -> Tensor:
        """Give the logits of one head.

        Args:
            head: ``classification`` or ``segmentation``.
            images: Prepared pictures ``[B, C, H, W]``.

        Raises:
            InputError: If the model does not take them.
        """
        images = images.to(self._device)
        if self._tries_bfloat16 and head not in self._lowered and head in self._first:
            before, full = self._first.pop(head)
            self._lowered[head] = agree(full, self._run(head, before, True))
        logits = self._run(head, images, self._lowered.get(head, False))
        if self._tries_bfloat16 and head not in self._lowered:
            self._first[head] = images, logits  # settled when there are more, for whom it pays
        return logits

    def _run(self, head: str, images: Tensor, low: bool) -> Tensor:
        asked = {name: name == head for name in ("classification", "segmentation")}
        with ExitStack() as stack:
            if low:  # else the caller's own autocast holds
                stack.enter_context(torch.autocast(self._device.type, torch.bfloat16))
            if self._pairs is not None:
                stack.enter_context(Folding(self._pairs, self._joint))
            if self._channels_last:
                try:
                    ordered = images.contiguous(memory_format=torch.channels_last)
                    return self._called(ordered, asked).float()
                except RuntimeError as error:
                    if "view size is not compatible" not in str(error):
                        raise
                    self._channels_last = False  # the model counts on the other order
            return self._called(images, asked).float()

    def _called(self, images: Tensor, asked: dict[str, bool]) -> Tensor:
        logits: Any = self.model.run(images, **asked)
        return logits  # type: ignore[no-any-return]


def agree(one: Tensor, other: Tensor) -> bool:
    """Tell whether logits ``[B, classes, …]`` of the same pictures mean the same answers.

    The likeliest class is the same everywhere, or for maps nearly everywhere, and no probability
    differs by more than :data:`TOLERANCE`, of maps on average over the pixels.
    """
    changed = (one.argmax(1) != other.argmax(1)).float().mean()
    moved = (one.softmax(1) - other.softmax(1)).abs()
    if one.dim() > 2:
        return bool(changed <= TOLERANCE and moved.flatten(2).mean(2).max() <= TOLERANCE)
    return bool(changed == 0 and moved.max() <= TOLERANCE)
