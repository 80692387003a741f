"""Every decoder on every kind of schedule."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import zoo_decoders
from zoo_core import ChannelSchedule, Decoder
from zoo_core.errors import InputError
from zoo_core.pyramid import spread_steps
from zoo_core.targets import component_class
from zoo_decoders.deeplabv3plus import DeepLabV3PlusDecoder
from zoo_decoders.dpt import DPTDecoder
from zoo_decoders.fpn import FPNDecoder
from zoo_decoders.linear import LinearDecoder
from zoo_decoders.segformer import SegFormerDecoder
from zoo_decoders.upernet import UPerNetDecoder

from .conftest import DECODERS, PYRAMIDS, SCHEDULES, make, maps_of, schedule_of

CLASSES: list[type[Decoder]] = [
    FPNDecoder,
    DeepLabV3PlusDecoder,
    SegFormerDecoder,
    UPerNetDecoder,
    DPTDecoder,
    LinearDecoder,
]
every_decoder = pytest.mark.parametrize("decoder", DECODERS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_decoder
@every_schedule
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (97, 65)])
def test_logits_have_the_inputs_size(decoder: str, name: str, size: tuple[int, int]) -> None:
    schedule = schedule_of(name)
    logits = make(decoder, schedule, 5).eval()(maps_of(schedule, size, 1), output_size=size)
    assert logits.shape == (1, 5, *size)
    assert logits.isfinite().all()


@every_decoder
@every_schedule
@pytest.mark.parametrize("batch", [1, 2])
def test_every_parameter_has_a_gradient(decoder: str, name: str, batch: int) -> None:
    torch.manual_seed(0)
    schedule = schedule_of(name)
    made = make(decoder, schedule).double()
    maps = [m.double().requires_grad_() for m in maps_of(schedule, (97, 65), batch)]
    made(maps, output_size=(97, 65)).square().mean().backward()
    # What a norm takes away leaves rounding errors of some 1e-17.
    weak = [n for n, p in made.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12]
    assert not weak
    if decoder in PYRAMIDS:
        assert all(m.grad is not None and m.grad.any() for m in maps)


@every_decoder
@every_schedule
def test_in_eval_mode_pictures_do_not_touch_each_other(decoder: str, name: str) -> None:
    torch.manual_seed(0)
    schedule = schedule_of(name)
    made = make(decoder, schedule).eval()
    maps = maps_of(schedule, (97, 65), 3)
    with torch.no_grad():
        together = made(maps)
        assert torch.equal(together, made(maps))
        alone = torch.cat([made([m[i : i + 1] for m in maps]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@every_decoder
@pytest.mark.parametrize(
    ("name", "size"), [("cnn", (64, 96)), ("vit 14", (70, 98)), ("two strides", (64, 96))]
)
def test_without_a_size_logits_are_of_the_shallowest_maps(
    decoder: str, name: str, size: tuple[int, int]
) -> None:
    schedule = schedule_of(name)
    made = make(decoder, schedule).eval()
    maps = maps_of(schedule, size)
    assert torch.equal(made(maps), made(maps, output_size=size))


@every_decoder
def test_plain_channels_mean_strides_from_4(decoder: str) -> None:
    made = make(decoder, [8, 16, 24, 32]).eval()
    assert made(maps_of(schedule_of("cnn"), (64, 96))).shape == (2, 3, 64, 96)


@every_decoder
def test_another_number_of_maps_is_refused(decoder: str) -> None:
    made = make(decoder, [8, 16])
    message = f"^{type(made).__name__} was made for 2 maps, and got 1$"
    with pytest.raises(InputError, match=message):
        made([torch.zeros(1, 8, 4, 4)])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3"])
def test_wrong_output_channels_are_refused(cls: Callable[..., Decoder], value: Any) -> None:
    message = f"output_channels of {cls.__name__} must be a positive whole number, not {value!r}"
    with pytest.raises(InputError, match=message):
        cls([8, 16], value)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (FPNDecoder, {"channels": 12}, "must be a positive multiple of 8, not 12"),
        (SegFormerDecoder, {"channels": 0}, "channels of SegFormerDecoder must be a positive"),
        (UPerNetDecoder, {"channels": "8"}, "must be a positive whole number, not '8'"),
        (DPTDecoder, {"channels": 1.5}, "must be a positive whole number, not 1.5"),
        (DPTDecoder, {"dropout": 1}, "dropout of DPTDecoder must be from 0 to below 1, not 1"),
        (SegFormerDecoder, {"dropout": -0.1}, "must be from 0 to below 1, not -0.1"),
        (DeepLabV3PlusDecoder, {"dropout": "no"}, "must be from 0 to below 1, not 'no'"),
        (DeepLabV3PlusDecoder, {"atrous_rates": ()}, "must be whole numbers, not \\(\\)"),
        (DeepLabV3PlusDecoder, {"atrous_rates": 6}, "must be whole numbers, not 6"),
        (DeepLabV3PlusDecoder, {"atrous_rates": "6"}, "must be whole numbers, not '6'"),
        (
            DeepLabV3PlusDecoder,
            {"atrous_rates": [6, 0]},
            "each of atrous_rates of DeepLabV3PlusDecoder must be a positive whole number, not 0",
        ),
        (LinearDecoder, {"maps": 0}, "maps of LinearDecoder must be a positive whole number"),
        (LinearDecoder, {"maps": 3}, "must be at most 2, as many as the backbone gives, not 3"),
    ],
)
def test_wrong_options_are_refused(
    cls: Callable[..., Decoder], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cls([8, 16], 2, **arguments)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("cnn", [4, 8, 16, 32]),
        ("from stride 2", [4, 8, 16, 32]),
        ("from stride 1", [4, 8]),
        ("fine only", [2]),
        ("dilated to 8", [4, 8, 8, 8]),
        ("vit 16", [4, 8, 16, 32]),
        ("vit 14", [3.5, 7, 14, 28]),
        ("vit 8", [4, 8, 16, 32]),
        ("vit 32", [4, 8, 16, 32]),
        ("vit 2", [4, 8, 16, 32]),
        ("two maps of a vit", [4, 32]),
        ("all blocks of a vit", [4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32]),
        ("no stride 4", [8, 16, 32]),
        ("one map", [16]),
    ],
)
def test_a_pyramid_goes_from_stride_4_to_32(name: str, strides: list[float]) -> None:
    assert FPNDecoder(schedule_of(name), 2).strides == strides


def test_maps_of_several_strides_are_not_resampled() -> None:
    assert spread_steps(ChannelSchedule([8, 8, 8], [8, 16, 16])) == [0, 0, 0]
    assert spread_steps(ChannelSchedule([8, 8, 8], [16, 16, 16])) == [2, 0, -1]


@pytest.mark.parametrize(
    ("name", "read", "upsamplings", "rates"),
    [
        ("cnn", {0, 3}, 0, [3, 6, 9]),
        ("from stride 2", {1, 4}, 0, [3, 6, 9]),
        ("dilated to 16", {0, 3}, 0, [6, 12, 18]),
        ("dilated to 8", {0, 3}, 0, [12, 24, 36]),
        ("no stride 4", {0, 2}, 0, [3, 6, 9]),
        ("vit 16", {0, 3}, 2, [6, 12, 18]),
        ("vit 14", {0, 3}, 2, [7, 14, 21]),
        ("vit 8", {0, 3}, 1, [12, 24, 36]),
        ("vit 32", {0, 3}, 3, [3, 6, 9]),
        ("one map", {0}, 2, [6, 12, 18]),
    ],
)
def test_deeplab_chooses_two_maps_and_rates(
    name: str, read: set[int], upsamplings: int, rates: list[int]
) -> None:
    schedule = schedule_of(name)
    decoder = DeepLabV3PlusDecoder(schedule, 2, channels=16)
    maps = [m.requires_grad_() for m in maps_of(schedule, (64, 96))]
    decoder(maps).sum().backward()
    assert {level for level, m in enumerate(maps) if m.grad is not None} == read
    modules = list(decoder.modules())
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in modules) == upsamplings
    assert [m.dilation[0] for m in modules if isinstance(m, nn.Conv2d) and m.dilation[0] > 1] == [
        rate for rate in rates if rate > 1
    ]


def test_rates_can_be_given() -> None:
    decoder = DeepLabV3PlusDecoder([8, 16], 2, channels=16, atrous_rates=[2, 5])
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation[0] for conv in convs if conv.dilation[0] > 1] == [2, 5]


def test_the_linear_probe_is_linear_and_reads_the_last_maps() -> None:
    schedule = schedule_of("cnn")
    maps = maps_of(schedule, (64, 96))
    one = LinearDecoder(schedule, 5).eval()
    expected = nn.functional.linear(
        maps[-1].movedim(1, -1) / (1 + 1e-5) ** 0.5, one.head.weight[:, :, 0, 0], one.head.bias
    ).movedim(-1, 1)
    torch.testing.assert_close(one(maps, output_size=(2, 3)), expected)

    two = LinearDecoder(schedule, 5, maps=2).eval()
    assert two.head.in_channels == 24 + 32
    assert two.decode(maps).shape == (2, 5, 4, 6)
    assert not torch.equal(two(maps), two([*maps[:2], maps[2] + 1, maps[3]]))


def test_a_batch_of_one_learns_from_the_average_of_the_picture() -> None:
    torch.manual_seed(0)
    decoder = DeepLabV3PlusDecoder([8, 16], 2, channels=16)
    maps = maps_of(ChannelSchedule([8, 16]), (64, 64), 1)
    before = decoder.deep[0](maps[1])
    with torch.no_grad():
        decoder.deep[0].average[0].weight.mul_(-3)
    assert (decoder.deep[0](maps[1]) - before).abs().max() > 1e-3


def test_the_catalogue_tells_every_option_and_imports_nothing_heavy() -> None:
    for spec in zoo_decoders.zoo_specs():
        parameters = list(inspect.signature(component_class(spec)).parameters)
        assert parameters[:2] == ["backbone_channels", "output_channels"]
        assert list(spec.options or {}) == parameters[2:]
    code = (
        "import sys, zoo_decoders\n"
        "assert len(zoo_decoders.zoo_specs()) == 6\n"
        "print(sorted({'torch', 'numpy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
