"""Layers that components share."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from zoo_core.layers import ConvNormAct


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": 1},
        {"kernel_size": 5, "dilation": 2},
        {"stride": 2, "groups": 2},
        {"activation_layer": None},
        {"activation_layer": nn.SiLU},
        {"norm_layer": None},
        {"norm_layer": partial(nn.GroupNorm, 2)},
    ],
)
def test_it_is_torchvisions(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = ConvNormAct(4, 6, **options).eval()
    torch.manual_seed(0)
    theirs = Conv2dNormActivation(4, 6, **options).eval()
    assert [str(layer) for layer in ours] == [str(layer) for layer in theirs]
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True)
    for (name, value), (same, other) in pairs:
        assert name == same
        assert torch.equal(value, other)
    x = torch.rand(2, 4, 9, 11)
    assert torch.equal(ours(x), theirs(x))
