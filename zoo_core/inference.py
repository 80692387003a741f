"""Running a model for its answers alone, in less time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from zoo_core.folding import Folding, JointWeights, pairs_of
from zoo_core.models.multitask import MultitaskModel


class Inference:
    """Runs a model in eval mode, with less work and the same answers.

    Convolutions do the work of the batch norms behind them, and on a CPU have their numbers in the
    order in memory that suits them; both change logits by rounding only.

    Args:
        model: The model, in eval mode.
        exact: Run it just as it is.
        mixed_precision: ``torch.float16`` or ``torch.bfloat16`` to run it in, which changes more.
    """

    def __init__(
        self,
        model: MultitaskModel,
        exact: bool = False,
        mixed_precision: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self._mixed_precision = mixed_precision
        self._pairs, self._joint = None if exact else pairs_of(model), JointWeights()
        self._device = next(model.parameters()).device
        self._channels_last = self._pairs is not None and self._device.type == "cpu"

    def logits(self, head: str, images: Tensor) -> Tensor:
        """Give the logits of one head.

        Args:
            head: ``classification`` or ``segmentation``.
            images: Prepared pictures ``[B, C, H, W]``.

        Raises:
            InputError: If the model does not take them.
        """
        images = images.to(self._device)
        asked = {name: name == head for name in ("classification", "segmentation")}
        with ExitStack() as stack:
            if self._mixed_precision is not None:  # else the caller's own autocast holds
                stack.enter_context(torch.autocast(self._device.type, self._mixed_precision))
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
