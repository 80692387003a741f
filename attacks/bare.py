"""A module as huggingface-hub's guide writes it: with the mixin, and nothing else."""

from __future__ import annotations

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn


class Bare(nn.Module, PyTorchModelHubMixin):
    """A small network.

    Args:
        width: Channels of its maps.
    """

    def __init__(self, width: int = 200) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.body = nn.Conv2d(width, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Classify pictures."""
        logits: Tensor = self.head(self.norm(self.body(self.stem(images))).mean((-2, -1)))
        return logits
