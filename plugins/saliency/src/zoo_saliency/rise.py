"""What pictures masked by chance still show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.inquiry import Inquiry
from zoo_saliency.base import SampledAttribution


class RISE(SampledAttribution):
    """The average probability ``[B, H, W]`` of the class when a place is not masked.

    Petsiuk et al. 2018 (https://arxiv.org/abs/1806.07421). Masks of few cells, each kept by
    chance, are enlarged smoothly and shifted by chance. The masks are the same for all pictures,
    and depend on the seed and their number only.

    Args:
        model: The model to explain; optional if each call has one.
        num_masks: Masks that are drawn; the paper takes 4,000 to 8,000.
        cells: Cells of a mask along each side.
        keep: The chance of each cell to be kept.
        seed: Changes all masks.
        chunk_size: Masks that are run at once; without it, as many as fit.

    Raises:
        InputError: If an argument is out of range.
    """

    name: ClassVar[str] = "rise"

    def __init__(
        self,
        model: nn.Module | None = None,
        num_masks: int = 1000,
        cells: int = 7,
        keep: float = 0.5,
        seed: int = 0,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, chunk_size=chunk_size)
        self._check_counts(num_masks=num_masks, cells=cells)
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep < 1:
            raise InputError(f"keep of RISE must be a number between 0 and 1, not {keep!r}")
        self.num_masks, self.cells, self.keep, self.seed = num_masks, cells, keep, seed

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the averages."""

        def part(rows: Tensor, numbers: list[int]) -> Tensor:
            masks = torch.stack([self._mask(inquiry, number) for number in numbers])
            pictures = inquiry.inputs[rows] * masks[:, None].to(inquiry.inputs.dtype)
            shares = inquiry.scores(pictures, rows, probability=True)
            return torch.stack([shares[:, None, None] * masks, masks], 1)

        weighed, shown = self.added_up(inquiry, self.num_masks, part, graph=False).unbind(1)
        details = {"num_masks": self.num_masks, "cells": self.cells, "keep": self.keep}
        # By how often a place was shown, not by how often that was to be expected: less is chance.
        return weighed / torch.where(shown > 0, shown, 1), {**details, "seed": self.seed}

    def _mask(self, inquiry: Inquiry, number: int) -> Tensor:
        """Draw a mask ``[H, W]``, 0–1."""
        device, (height, width) = inquiry.inputs.device, inquiry.size
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + number)
        kept = torch.rand(1, 1, self.cells, self.cells, generator=generator, device=device)
        cell = -(-height // self.cells), -(-width // self.cells)
        size = [(self.cells + 1) * side for side in cell]
        mask = F.interpolate((kept < self.keep).float(), size, mode="bilinear")[0, 0]
        down, across = (
            int(torch.randint(side, (), generator=generator, device=device)) for side in cell
        )
        return mask[down : down + height, across : across + width]
