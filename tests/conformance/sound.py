"""Small components that keep every rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import Attention, Backbone, BaseExplainer, ChannelSchedule, Decoder
from zoo_core.explainability import explaining


class Finished:
    """Where what breaks a rule is put into the constructors that follow."""

    def finish(self) -> None:
        """Add to the finished component."""


class Net(Backbone, Finished):
    def __init__(self, in_channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.finish()

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.norm(self.first(x))
        return [first, self.second(first)]

    def get_channel_schedule(self) -> ChannelSchedule:
        width = self.first.out_channels
        return ChannelSchedule((width, 2 * width), (4, 8))


class Gate(Attention, Finished):
    def __init__(self, in_channels: int, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((in_channels, 1, 1), float(start)))
        self.norm = nn.BatchNorm2d(in_channels)
        self.finish()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.weight


class Head(Decoder, Finished):
    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__()
        schedule = ChannelSchedule(backbone_channels)
        self.layers = nn.ModuleList(nn.Conv2d(c, output_channels, 1) for c in schedule)
        self.norm = nn.BatchNorm2d(output_channels)
        self.stride = schedule.strides[0]
        self.finish()

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        size = features[0].shape[-2:]
        found = [layer(x) for layer, x in zip(self.layers, features, strict=True)]
        total = sum(F.interpolate(x, size=size, mode="bilinear") for x in found)
        height, width = output_size or (size[0] * self.stride, size[1] * self.stride)
        return F.interpolate(self.norm(total), size=(height, width), mode="bilinear")


class Slope(BaseExplainer):
    """The gradient at each pixel."""

    def explain(
        self,
        inputs: Tensor,
        model: nn.Module,
        target_class: int | Tensor | None = None,
    ) -> Tensor:
        with explaining(model) as bare:
            leaf = inputs.detach().clone().requires_grad_()
            scores = self.scores(bare, leaf, target_class)
            return torch.autograd.grad(scores.sum(), leaf)[0]

    def scores(self, model: nn.Module, x: Tensor, target: int | Tensor | None) -> Tensor:
        logits = model(x)
        if target is None:
            target = logits.argmax(1)
        classes = torch.as_tensor(target).expand(len(x))
        return logits.gather(1, classes[:, None])[:, 0]
