"""What is particular to SRM."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_core.errors import InputError

from birdhouse.srm import SRM


def test_it_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    module = SRM(6)
    nn.init.normal_(module.cfc)
    nn.init.normal_(module.norm.weight)
    x = torch.randn(4, 6, 5, 7)
    refined = module(x)
    mean = x.sum((2, 3)) / 35
    deviation = (((x - mean[:, :, None, None]) ** 2).sum((2, 3)) / 35).sqrt()
    z = mean * module.cfc[:, 0] + deviation * module.cfc[:, 1]
    normalised = (z - z.mean(0)) / z.std(0, correction=0) * module.norm.weight + module.norm.bias
    expected = x * normalised.sigmoid()[:, :, None, None]
    torch.testing.assert_close(refined, expected, rtol=1e-3, atol=1e-4)


def test_at_first_every_channel_is_halved() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(SRM(3).eval()(x), x / 2)


def test_a_batch_of_one_can_be_trained_on() -> None:
    module = SRM(3)
    nn.init.normal_(module.cfc)
    before = module.norm.running_mean.clone()
    x = torch.randn(1, 3, 4, 4)
    refined = module(x)
    refined.sum().backward()
    assert module.cfc.grad is not None
    assert module.cfc.grad.abs().min() > 0
    assert torch.equal(module.norm.running_mean, before)
    torch.testing.assert_close(refined, module.eval()(x))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="in_channels must be a positive whole number, not 0"):
        SRM(0)
