"""Small classifiers that explainers are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 4


class SmallNet(nn.Module):
    """Convolutions, batch norms and ReLUs in place.

    Attributes:
        fails: Whether its forward pass fails behind the convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace=True)
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(12, CLASSES)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        """Give logits."""
        x = self.body(self.stem(x))
        if self.fails:
            raise RuntimeError("the model fails")
        return self.head(self.drop(x).mean((2, 3)))  # type: ignore[no-any-return]


class SmallTransformer(nn.Module):
    """Two blocks of self-attention over a class token and patches of 8×8 pixels.

    Attributes:
        fails: Whether its forward pass fails behind the blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.blocks = nn.ModuleList(_Block(16) for _ in range(2))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, CLASSES)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        """Give logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        if self.fails:
            raise RuntimeError("the model fails")
        return self.head(self.norm(tokens)[:, 0])  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.out = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.out(self.mlp(x))  # type: ignore[no-any-return]


def trained(kind: type[SmallNet] | type[SmallTransformer]) -> SmallNet | SmallTransformer:
    """Give a classifier as it may be amid training: with gradients, mixed modes, frozen layers."""
    torch.manual_seed(0)
    model = kind()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        model.head.weight.abs_()  # so that something speaks for every class
    with torch.no_grad():  # so that it predicts several classes
        model.head.bias.sub_(model.eval()(torch.randn(8, 3, 32, 32)).mean(0))
    model.train()(torch.randn(8, 3, 32, 32)).square().sum().backward()
    next(iter(model.children())).eval()
    next(iter(model.children())).requires_grad_(False)
    return model


NETS: tuple[type[SmallNet] | type[SmallTransformer], ...] = (SmallNet, SmallTransformer)
