"""Models that behave as badly as real ones do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core.models import MultitaskModel


class Unruly(nn.Module):
    """Counts its calls, draws random numbers, and works in place, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True)
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(12, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("latest", torch.zeros(1))
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.latest = torch.rand(1)
        x = self.body(self.stem(x))
        if self.fails:
            raise RuntimeError("the model fails")
        return self.head(self.drop(x).mean((2, 3)))


@pytest.fixture
def unruly() -> Unruly:
    """Trained a little, so that it has gradients, and with mixed modes and frozen parameters."""
    torch.manual_seed(0)
    model = Unruly()
    with torch.no_grad():
        model.head.weight.abs_()
    model(torch.randn(8, 3, 32, 40)).square().sum().backward()
    model.stem.eval()
    model.body[0].requires_grad_(False)
    return model


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def two_heads() -> Callable[[], MultitaskModel]:
    """Make a model with both heads, the same each time."""

    def make() -> MultitaskModel:
        model = zoo.build(
            "resnet18+cbam+unet",
            num_classes_classification=5,
            num_classes_segmentation=4,
            seed=1,
        ).eval()
        assert model.classifier is not None
        with torch.no_grad():
            model.classifier.weight.abs_()  # so that something speaks for every class
        return model

    return make
