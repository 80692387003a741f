"""VarGrad: how much the gradient varies where the picture is disturbed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from zoo_core.errors import InputError
from zoo_core.explainability import Attribution, Inquiry, ModelExplainer

from birdhouse.arguments import check_whole


class VarGrad(ModelExplainer):
    """The variance ``[B, C, H, W]`` of the score's gradient over noisy copies of each picture.

    After Adebayo et al. 2018 (https://arxiv.org/abs/1810.03307). Every picture gets the same noise,
    scaled to its own range and drawn from a generator of its own; so a picture's result is the
    same every time, whatever else is in the batch.

    Args:
        model: The model to explain; optional if each call has one.
        num_samples: Noisy copies of each picture.
        noise_level: The noise's standard deviation, as a share of the picture's range.
        seed: Changes all noise.

    Raises:
        InputError: If an argument is out of range.
    """

    name: ClassVar[str] = "vargrad"

    def __init__(
        self,
        model: nn.Module | None = None,
        num_samples: int = 25,
        noise_level: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        check_whole(num_samples=num_samples)
        if not isinstance(noise_level, int | float) or not 0 <= noise_level < float("inf"):
            raise InputError(f"noise_level must be a number from 0, not {noise_level!r}")
        self.num_samples, self.noise_level, self.seed = num_samples, noise_level, seed

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for nothing but the scores of the pictures; their copies are run later."""

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give the variance."""
        pictures = inquiry.inputs
        rows = torch.arange(len(pictures), device=pictures.device)
        mean, deviations = torch.zeros_like(pictures), torch.zeros_like(pictures)
        for number, copies in enumerate(self.copies(pictures), 1):
            gradient = inquiry.gradients(copies, rows)
            before = gradient - mean
            mean += before / number
            deviations += before * (gradient - mean)  # Welford: no difference of large numbers
        details = {
            "num_samples": self.num_samples,
            "noise_level": self.noise_level,
            "seed": self.seed,
            "precision": inquiry.sampling.name,
        }
        return Attribution(deviations / self.num_samples, details=details)

    def copies(self, pictures: Tensor) -> list[Tensor]:
        """Give noisy copies of pictures ``[B, C, H, W]``."""
        flat = pictures.flatten(1)
        scale = self.noise_level * (flat.amax(1) - flat.amin(1))[:, None, None, None]
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.num_samples, *pictures.shape[1:])
        noise = torch.randn(shape, generator=generator, dtype=pictures.dtype).to(pictures.device)
        return [pictures + one * scale for one in noise]
