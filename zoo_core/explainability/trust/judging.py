"""A model asked again and again about changed pictures, for the same classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.running import explaining
from zoo_core.explainability.targets import Classes, Region


class Judge:
    """Gives the probabilities of the classes that are explained.

    Attributes:
        inputs: The pictures ``[B, C, H, W]``.
        maps: How much each pixel matters, ``[B, H, W]``.
    """

    def __init__(self, inquiry: Inquiry, maps: Tensor) -> None:
        self._inquiry = inquiry
        self.inputs = inquiry.inputs
        self.maps = maps.to(self.inputs.device)

    def of_inputs(self) -> Tensor:
        """Give the probability of each picture as it is, ``[B]``."""
        inquiry = self._inquiry
        return inquiry.target.probability(inquiry.logits)

    def of_changed(self, count: int, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Give the probabilities ``[count, B]`` of pictures that were changed in several ways.

        Args:
            count: How many ways.
            change: Gives pictures ``[N, C, H, W]`` for their rows ``[N]`` in the batch and the
                numbers ``[N]`` of the ways; as many at once as memory has room for.
        """
        batch = len(self.inputs)
        device = self.inputs.device

        def run(chunk: slice) -> Tensor:
            index = torch.arange(chunk.start, chunk.stop, device=device)
            ways, rows = index // batch, index % batch
            return self._inquiry.scores(change(rows, ways), rows, probability=True)

        size = pictures_at_once(self.inputs, graph=False)
        parts = [part for _, part in in_chunks(count * batch, size, run)]
        return torch.cat(parts).reshape(count, batch)


@contextmanager
def judging(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes,
    task: str | None,
    region: Region,
) -> Iterator[Judge]:
    """Give a judge of maps, and leave the model as it was.

    Raises:
        InputError: If maps do not fit the pictures, or another argument cannot be.
    """
    plane = importance(maps)
    if plane.shape != (len(inputs), *inputs.shape[-2:]):
        raise InputError(
            f"maps must be [B, H, W] or [B, C, H, W] of the pictures' {list(inputs.shape)}, not "
            f"{list(maps.shape)}"
        )
    with explaining(model) as bare:
        inquiry = Inquiry(bare, inputs, target_class, task=task, region=region)
        yield Judge(inquiry, plane)


def importance(maps: Tensor) -> Tensor:
    """Give how much each pixel matters, ``[B, H, W]``: of channels, the sum of absolute values.

    Raises:
        InputError: If they are no maps, or have values that are not finite.
    """
    if not isinstance(maps, Tensor) or maps.ndim not in (3, 4) or not maps.is_floating_point():
        raise InputError("maps must be a tensor [B, H, W] or [B, C, H, W] of floating point")
    if not bool(maps.isfinite().all()):
        raise InputError("maps have values that are not finite")
    plane = maps.detach() if maps.ndim == 3 else maps.detach().abs().sum(1)
    return plane.to(torch.promote_types(plane.dtype, torch.float32))
