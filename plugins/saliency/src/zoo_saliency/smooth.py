"""Gradients of noisy copies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.inquiry import Inquiry
from zoo_saliency.base import SampledAttribution


class SmoothGrad(SampledAttribution):
    """The average gradient ``[B, C, H, W]`` of noisy copies of each picture.

    Smilkov et al. 2017 (https://arxiv.org/abs/1706.03825). Each copy's noise is drawn from a
    generator of its own, seeded by the picture and the copy's number; so a picture's result is the
    same every time on one kind of device, whatever else is in the batch.

    Args:
        model: The model to explain; optional if each call has one.
        num_samples: Noisy copies of each picture.
        noise_level: The noise's standard deviation, as a share of the picture's range.
        seed: Changes all noise.
        chunk_size: Copies that are run at once; without it, as many as fit.

    Raises:
        InputError: If an argument is out of range.
    """

    name: ClassVar[str] = "smoothgrad"

    def __init__(
        self,
        model: nn.Module | None = None,
        num_samples: int = 50,
        noise_level: float = 0.15,
        seed: int = 0,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, chunk_size=chunk_size)
        self._check_counts(num_samples=num_samples)
        if not isinstance(noise_level, int | float) or not 0 <= noise_level < float("inf"):
            raise InputError(
                f"noise_level of SmoothGrad must be a number from 0, not {noise_level!r}"
            )
        self.num_samples, self.noise_level, self.seed = num_samples, noise_level, seed

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the average gradient."""
        inputs = inquiry.inputs
        flat = inputs.flatten(1)
        deviations = self.noise_level * (flat.amax(1) - flat.amin(1))
        prints = fingerprints(inputs)

        def part(rows: Tensor, copies: list[int]) -> Tensor:
            pairs = zip(rows.tolist(), copies, strict=True)
            noise = torch.stack([self._noise(inputs[0], prints[row], copy) for row, copy in pairs])
            return inquiry.gradients(
                inputs[rows] + noise * deviations[rows, None, None, None], rows
            )

        total = self.added_up(inquiry, self.num_samples, part, graph=True)
        details = {"num_samples": self.num_samples, "noise_level": self.noise_level}
        return total / self.num_samples, {**details, "seed": self.seed}

    def _noise(self, like: Tensor, print_: int, copy: int) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}:{print_}:{copy}".encode()).digest()
        generator = torch.Generator(like.device)
        generator.manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def fingerprints(pictures: Tensor) -> list[int]:
    """Give a number for each picture that depends on all its values, and on nothing else."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[pictures.element_size()]
    bits = pictures.flatten(1).contiguous().view(whole).long()
    # Sums of whole numbers wrap around: they are the same in any order, so on any device.
    places = torch.arange(bits.shape[1], device=bits.device)
    weights = (places * 2 + 1) * 0x9E3779B97F4A7C1
    numbers: list[int] = (bits * weights).sum(1).tolist()
    return numbers
