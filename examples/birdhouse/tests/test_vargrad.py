"""What is particular to VarGrad."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zoo_core.errors import InputError

from birdhouse.vargrad import VarGrad


class Cubic(nn.Module):
    """Two classes, whose scores are the sums of cubed pixels, and of three times that."""

    def forward(self, x: Tensor) -> Tensor:
        total = (x**3).sum((1, 2, 3))
        return torch.stack([total, 3 * total], 1)


def test_it_is_the_variance_of_the_gradients_at_its_copies() -> None:
    explainer = VarGrad(Cubic(), num_samples=7, noise_level=0.3)
    pictures = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    found = explainer.explain(pictures, target_class=1)
    gradients = torch.stack([9 * copies**2 for copies in explainer.copies(pictures)])
    torch.testing.assert_close(found, gradients.var(0, correction=0))


def test_the_noise_has_the_level_that_is_asked_for() -> None:
    pictures = torch.stack([torch.linspace(0, 1, 300), torch.linspace(-2, 2, 300)])
    pictures = pictures.view(2, 3, 10, 10)
    copies = torch.stack(VarGrad(num_samples=50, noise_level=0.1).copies(pictures))
    deviations = (copies - pictures).std((0, 2, 3, 4))
    torch.testing.assert_close(deviations, torch.tensor([0.1, 0.4]), rtol=0.02, atol=0)


def test_another_seed_gives_other_copies() -> None:
    pictures = torch.rand(1, 3, 4, 4)
    one, other = (VarGrad(num_samples=1, seed=seed).copies(pictures)[0] for seed in (0, 1))
    assert not torch.allclose(one, other)


def test_without_noise_nothing_varies() -> None:
    pictures = torch.rand(1, 3, 4, 4)
    with pytest.warns(match="vargrad"):
        found = VarGrad(Cubic(), num_samples=3, noise_level=0).explain(pictures)
    assert not found.any()


def test_what_it_was_asked_for_is_told() -> None:
    explanation = VarGrad(Cubic(), num_samples=2).explanation(torch.rand(1, 3, 4, 4))
    assert explanation.facts.details == {
        "num_samples": 2, "noise_level": 0.15, "seed": 0, "precision": "full",
    }  # fmt: skip


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="num_samples must be a positive whole number, not 0"):
        VarGrad(num_samples=0)
    with pytest.raises(InputError, match=r"noise_level must be a number from 0, not -0\.5"):
        VarGrad(noise_level=-0.5)
