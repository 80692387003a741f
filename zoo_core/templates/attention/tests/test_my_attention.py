"""The contract of an attention, and what is particular to this one."""

from __future__ import annotations

import pytest
import torch
from zoo_core.errors import InputError
from zoo_core.testing import AttentionTests, CatalogueTests

from my_attention.model import MyAttention


class TestCatalogue(CatalogueTests):
    distribution = "my-attention"


class TestContract(AttentionTests):
    component = "my_attention"


def test_each_channel_keeps_a_share_that_is_the_same_everywhere() -> None:
    x = torch.rand(2, 32, 5, 7) + 1
    shares = MyAttention(32)(x) / x
    assert ((shares > 0) & (shares < 1)).all()
    torch.testing.assert_close(shares, shares[:, :, :1, :1].expand_as(x))


def test_the_hidden_layer_never_vanishes() -> None:
    assert MyAttention(4, reduction=16).weigh[0].out_channels == 1


@pytest.mark.parametrize(("in_channels", "reduction"), [(0, 16), (32, 0)])
def test_wrong_arguments_are_refused(in_channels: int, reduction: int) -> None:
    with pytest.raises(InputError, match="must be positive, not 0"):
        MyAttention(in_channels, reduction)
