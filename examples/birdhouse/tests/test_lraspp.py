"""What is particular to Lite R-ASPP."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.segmentation.lraspp import LRASPPHead
from zoo_core import ChannelSchedule
from zoo_core.errors import InputError

from birdhouse.lraspp import LRASPP


def test_the_logits_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    theirs = LRASPPHead(6, 12, 5, 8).eval()
    ours = LRASPP(ChannelSchedule((4, 6, 12), (4, 8, 16)), 5, channels=8).eval()
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(2, 4, 24, 16), torch.randn(2, 6, 12, 8), torch.randn(2, 12, 6, 4)]
    with torch.no_grad():
        found = ours(maps, output_size=(95, 63))
        expected = theirs({"low": maps[1], "high": maps[2]})
    resized = F.interpolate(expected, size=(95, 63), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, resized)


@pytest.mark.parametrize(
    ("strides", "read"),
    [
        ((4, 8, 16, 32), [2, 4]),
        ((2, 4, 8, 16, 32), [3, 5]),
        ((4, 8, 8, 8), [2, 4]),
        ((7, 7, 7, 7), [1, 4]),
        ((32, 64), [1, 2]),
        ((16,), [1]),
    ],
)
def test_it_reads_the_last_map_and_the_one_nearest_to_stride_8(
    strides: tuple[int, ...], read: list[int]
) -> None:
    decoder = LRASPP(ChannelSchedule([4] * len(strides), strides), 3)
    levels = range(1, len(strides) + 1)
    assert [level for level in levels if decoder.reads(level)] == read


def test_another_number_of_maps_is_refused() -> None:
    with pytest.raises(InputError, match="LRASPP was made for 2 maps, and got 1"):
        LRASPP((8, 16), 3)([torch.randn(1, 8, 6, 5)])


@pytest.mark.parametrize("name", ["output_channels", "channels"])
def test_wrong_arguments_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be a positive whole number, not 0"):
        LRASPP((8, 16), **{"output_channels": 3, name: 0})
