"""What attributions to pixels have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.base import Attribution, ModelExplainer
from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.maps import normalised


class PixelAttribution(ModelExplainer):
    """An attribution to pixels: signed, and on the score's own scale.

    ``explain`` takes ``absolute=True`` to leave signs away, and ``normalize=True`` to scale each
    picture's values to 0–1; where all are the same, to zeros.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"normalize": False, "absolute": False})

    @abstractmethod
    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the attribution ``[B, …]``, and what else is to be told."""

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for nothing but the scores of the pictures."""

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give the attribution on the scale that is asked for."""
        values, details = self.values(inquiry)
        if options["absolute"]:
            values = values.abs()
        if options["normalize"]:
            values = normalised(values)
        return Attribution(values, details=details)


class SampledAttribution(PixelAttribution):
    """An attribution that runs the model for many changed copies of each picture.

    Copies are run in chunks that fit into memory, and fewer at once where it is short; neither
    chunks nor what else is in the batch change the result.

    Args:
        model: The model to explain; optional if each call has one.
        chunk_size: Copies that are run at once; without it, as many as have the pixels of 17
            pictures of 224×224 with gradients on a CPU, and four times as many on a GPU, and
            without gradients.

    Raises:
        InputError: If it is not positive.
    """

    def __init__(self, model: nn.Module | None = None, *, chunk_size: int | None = None) -> None:
        super().__init__(model)
        if chunk_size is not None:
            self._check_counts(chunk_size=chunk_size)
        self.chunk_size = chunk_size

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give the attribution on the scale that is asked for, and tell its precision."""
        found = super().attribute(inquiry, options)
        return found._replace(details={**found.details, "precision": inquiry.sampling.name})

    def _check_counts(self, **counts: object) -> None:
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(
                    f"{name} of {type(self).__name__} must be a positive whole number, not "
                    f"{count!r}"
                )

    def added_up(
        self,
        inquiry: Inquiry,
        copies: int,
        part: Callable[[Tensor, list[int]], Tensor],
        *,
        graph: bool,
    ) -> Tensor:
        """Give the sum over all copies of each picture, ``[B, …]``.

        Args:
            inquiry: Model, pictures and target.
            copies: How many copies there are of each picture.
            part: Gives what is summed, ``[N, …]``, for ``N`` pictures, ``[N]``, and the numbers
                of their copies.
            graph: Whether it takes gradients.
        """
        device = inquiry.inputs.device

        def run(chunk: slice) -> tuple[Tensor, Tensor]:
            pairs = range(chunk.start, chunk.stop)
            rows = torch.tensor([pair // copies for pair in pairs], device=device)
            return rows, part(rows, [pair % copies for pair in pairs])

        batch = len(inquiry.inputs)
        size = self.chunk_size or pictures_at_once(inquiry.inputs, graph=graph)
        total: Tensor | None = None
        for _, (rows, values) in in_chunks(batch * copies, size, run):
            if total is None:
                total = values.new_zeros(batch, *values.shape[1:])
            total.index_add_(0, rows, values)
        assert total is not None
        return total
