"""The contract of a decoder, and what is particular to this one."""

from __future__ import annotations

import pytest
import torch
from zoo_core.errors import InputError
from zoo_core.testing import CatalogueTests, DecoderTests

from my_decoder.model import MyDecoder


class TestCatalogue(CatalogueTests):
    distribution = "my-decoder"


class TestContract(DecoderTests):
    component = "my_decoder"


def test_every_map_has_a_say() -> None:
    decoder = MyDecoder((8, 16), output_channels=3, width=4).eval()
    maps = [torch.randn(1, 8, 6, 5), torch.randn(1, 16, 3, 3)]
    logits = decoder(maps)
    assert logits.shape == (1, 3, 24, 20)
    for level in range(2):
        changed = [x + torch.randn_like(x) * (i == level) for i, x in enumerate(maps)]
        assert not torch.allclose(decoder(changed), logits)


def test_another_number_of_maps_is_refused() -> None:
    with pytest.raises(InputError, match="made for 2 maps, and got 1"):
        MyDecoder((8, 16), output_channels=3)([torch.randn(1, 8, 6, 5)])


@pytest.mark.parametrize(("output_channels", "width"), [(0, 64), (3, 0)])
def test_wrong_arguments_are_refused(output_channels: int, width: int) -> None:
    with pytest.raises(InputError, match="must be positive, not 0"):
        MyDecoder((8, 16), output_channels, width)
