"""What is particular to ConvMixer."""

from __future__ import annotations

import pytest
import timm.models.convmixer
import torch
from zoo_core.errors import InputError

from birdhouse.convmixer import ConvMixer


def test_the_last_map_is_that_of_timm() -> None:
    torch.manual_seed(0)
    sizes = {"depth": 5, "kernel_size": 5, "patch_size": 7}
    theirs = timm.models.convmixer.ConvMixer(dim=16, num_classes=0, **sizes).eval()
    ours = ConvMixer(width=16, **sizes).eval()
    ours.load_state_dict(theirs.state_dict())
    pictures = torch.randn(2, 3, 70, 42)
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures)[-1], theirs.forward_features(pictures))


def test_pictures_are_padded_at_the_right_and_bottom() -> None:
    backbone = ConvMixer(width=8, depth=4, kernel_size=3).eval()
    pictures = torch.randn(1, 3, 30, 20)
    padded = torch.zeros(1, 3, 35, 21)
    padded[..., :30, :20] = pictures
    for one, other in zip(backbone(pictures), backbone(padded), strict=True):
        assert one.shape == (1, 8, 5, 3)
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("depth", "ends"), [(1, [1]), (3, [1, 2, 3]), (10, [2, 5, 7, 10])])
def test_the_maps_are_those_after_each_quarter_of_the_blocks(depth: int, ends: list[int]) -> None:
    backbone = ConvMixer(width=4, depth=depth, patch_size=4, kernel_size=3).eval()
    x = torch.randn(1, 3, 16, 16)
    maps = backbone(x)
    assert backbone.get_channel_schedule() == (4,) * len(ends)
    x = backbone.stem(x)
    after = [x := block(x) for block in backbone.blocks]
    for one, end in zip(maps, ends, strict=True):
        torch.testing.assert_close(one, after[end - 1])


@pytest.mark.parametrize("name", ["in_channels", "width", "depth", "patch_size", "kernel_size"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_wrong_arguments_are_refused(name: str, value: int) -> None:
    message = f"{name} must be a positive whole number, not {value!r}"
    with pytest.raises(InputError, match=message):
        ConvMixer(**{name: value})


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(InputError, match="kernel_size must be odd, not 4"):
        ConvMixer(kernel_size=4)
