"""The contract of a backbone, and what is particular to this one."""

from __future__ import annotations

import pytest
import torch
from zoo_core.errors import InputError
from zoo_core.testing import BackboneTests, CatalogueTests

from my_backbone.model import MyBackbone


class TestCatalogue(CatalogueTests):
    distribution = "my-backbone"


class TestContract(BackboneTests):
    component = "my_backbone"


def test_the_width_doubles_from_map_to_map() -> None:
    backbone = MyBackbone(width=8, depth=1)
    assert backbone.get_channel_schedule() == (8, 16, 32, 64)
    shapes = [tuple(level.shape) for level in backbone(torch.randn(1, 3, 65, 33))]
    assert shapes == [(1, 8, 17, 9), (1, 16, 9, 5), (1, 32, 5, 3), (1, 64, 3, 2)]


def test_more_depth_is_more_blocks_of_each_stage() -> None:
    backbone = MyBackbone(width=8, depth=3)
    layers = [len(list(stage.children())) for stage in backbone.stages]
    assert layers == [4, 4, 4, 4]  # the first one halves the size


@pytest.mark.parametrize("name", ["in_channels", "width", "depth"])
def test_wrong_arguments_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be positive, not 0"):
        MyBackbone(**{name: 0})
