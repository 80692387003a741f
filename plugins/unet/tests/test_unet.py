"""UNetDecoder on every kind of schedule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.segmentation import deeplabv3

from zoo_core import ChannelSchedule
from zoo_core.errors import InputError, UnknownComponentError
from zoo_unet.aspp import ASPP
from zoo_unet.model import UNetDecoder

SCHEDULES = {
    "cnn": ((8, 16, 24, 32), (4, 8, 16, 32)),
    "from stride 2": ((4, 8, 16, 24, 32), (2, 4, 8, 16, 32)),
    "dilated to 16": ((8, 16, 24, 32), (4, 8, 16, 16)),
    "dilated to 8": ((8, 16, 24, 32), (4, 8, 8, 8)),
    "vit 16": ((12, 12, 12, 12), (16, 16, 16, 16)),
    "vit 14": ((12, 12, 12, 12), (14, 14, 14, 14)),
    "vit 8": ((12, 12, 12, 12), (8, 8, 8, 8)),
    "no stride 4": ((16, 24, 32), (8, 16, 32)),
    "two strides": ((16, 32), (16, 32)),
    "one map": ((16,), (16,)),
}
SIZES = [(32, 32), (97, 131), (224, 224), (45, 64)]


def maps_of(schedule: ChannelSchedule, size: tuple[int, int]) -> list[Tensor]:
    return [
        torch.randn(2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("atrous", [False, True])
def test_logits_have_the_inputs_size(name: str, size: tuple[int, int], atrous: bool) -> None:
    schedule = ChannelSchedule(*SCHEDULES[name])
    decoder = UNetDecoder(schedule, 5, decoder_channels=(16, 8), atrous=atrous).eval()
    assert decoder(maps_of(schedule, size), output_size=size).shape == (2, 5, *size)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("attention", [None, "cbam"])
def test_every_parameter_and_every_map_has_a_gradient(name: str, attention: str | None) -> None:
    torch.manual_seed(0)
    schedule = ChannelSchedule(*SCHEDULES[name])
    decoder = UNetDecoder(
        schedule, 3, decoder_channels=(64, 64), atrous=(2, 3), skip_attention=attention
    )
    maps = [m.requires_grad_() for m in maps_of(schedule, (64, 96))]
    decoder(maps, output_size=(64, 96)).square().mean().backward()
    without = [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(m.grad is not None and m.grad.any() for m in maps)


def test_a_vits_maps_become_a_pyramid_but_a_cnns_stay() -> None:
    def upsamplings(schedule: ChannelSchedule) -> int:
        decoder = UNetDecoder(schedule, 2)
        return sum(isinstance(m, torch.nn.ConvTranspose2d) for m in decoder.modules())

    assert upsamplings(ChannelSchedule(*SCHEDULES["vit 14"])) == 3
    assert upsamplings(ChannelSchedule(*SCHEDULES["cnn"])) == 0


def test_a_pyramid_is_never_finer_than_the_picture() -> None:
    schedule = ChannelSchedule([8] * 12, [16] * 12)
    decoder = UNetDecoder(schedule, 2, decoder_channels=(8,)).eval()
    shapes = [skip(torch.zeros(1, 8, 4, 4)).shape[-1] for skip in decoder.skips]
    assert max(shapes) == 64
    assert decoder(maps_of(schedule, (64, 64)), output_size=(64, 64)).shape == (2, 2, 64, 64)


def test_plain_channels_mean_strides_from_4() -> None:
    decoder = UNetDecoder([8, 16, 24, 32], 21).eval()
    maps = maps_of(ChannelSchedule([8, 16, 24, 32]), (64, 96))
    assert decoder(maps).shape == (2, 21, 64, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_channels": 0}, "output_channels of UNetDecoder must be positive, not 0"),
        (
            {"decoder_channels": ()},
            "decoder_channels of UNetDecoder must be positive whole numbers",
        ),
        ({"decoder_channels": (8, -1)}, "decoder_channels of UNetDecoder must be positive"),
        ({"skip_attention": 5}, "skip_attention of UNetDecoder must be the name of an attention"),
        ({"decoder_channels": 5}, "must be positive whole numbers, not 5$"),
        ({"decoder_channels": "64"}, "must be positive whole numbers, not '64'"),
        ({"decoder_channels": [True]}, r"must be positive whole numbers, not \[True\]"),
        ({"atrous": 3}, "must be true, false or positive dilation rates, not 3"),
        ({"atrous": [6, 0]}, r"must be true, false or positive dilation rates, not \[6, 0\]"),
        ({"atrous": "6"}, "must be true, false or positive dilation rates, not '6'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        UNetDecoder([8, 16], **{"output_channels": 2, **arguments})


def test_an_unknown_skip_attention_is_refused() -> None:
    message = "^skip_attention of UNetDecoder: unknown attention 'cbm'; did you mean cbam"
    with pytest.raises(UnknownComponentError, match=message):
        UNetDecoder([8, 16], 2, skip_attention="cbm")


def test_another_number_of_maps_is_refused() -> None:
    decoder = UNetDecoder([8, 16], 2)
    with pytest.raises(InputError, match="was made for 2 maps, and got 1"):
        decoder([torch.zeros(1, 8, 4, 4)])


def test_aspp_is_torchvisions() -> None:
    torch.manual_seed(0)
    ours = ASPP(8, (2, 3), 6).eval()
    torch.manual_seed(0)
    theirs = deeplabv3.ASPP(8, (2, 3), 6).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    x = torch.rand(2, 8, 9, 7)
    assert torch.equal(ours(x), theirs(x))
