"""smp's decoders on every kind of schedule, and against smp's own models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import ChannelSchedule
from zoo_core.errors import InputError
from zoo_core.shapes import on_meta
from zoo_smp.levels import PLACES, Keeps, Level, levels_for
from zoo_smp.model import SmpDecoder

from .conftest import DECODERS, SCHEDULES, maps_of, narrow, schedule_of


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_takes_every_schedule(name: str, schedule: str) -> None:
    with on_meta():
        decoder = narrow(name, schedule).eval()
        for size in ((97, 131), (45, 64), (1, 1)):
            maps = maps_of(schedule_of(schedule), size)
            assert decoder(maps, output_size=size).shape == (2, 3, *size)
        stride = schedule_of(schedule).strides[0]
        maps = maps_of(schedule_of(schedule), (96, 128))
        height, width = maps[0].shape[-2:]
        assert decoder(maps).shape == (2, 3, height * stride, width * stride)


@pytest.mark.parametrize("schedule", ["cnn", "from stride 2", "dilated to 8", "vit 14", "one map"])
@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_finite_at_odd_sizes(name: str, schedule: str) -> None:
    decoder = narrow(name, schedule).eval()
    logits = decoder(maps_of(schedule_of(schedule), (75, 110)), output_size=(75, 110))
    assert logits.shape == (2, 3, 75, 110)
    assert logits.isfinite().all()
    assert logits.std() > 0


def _without_gradient(decoder: SmpDecoder, schedule: ChannelSchedule) -> set[str]:
    maps = [m.requires_grad_() for m in maps_of(schedule, (96, 128))]
    decoder(maps, output_size=(96, 128)).square().mean().backward()
    named = {name: p.grad for name, p in decoder.named_parameters()}
    named |= {f"map {number}": m.grad for number, m in enumerate(maps, start=1)}
    return {name for name, grad in named.items() if grad is None or not grad.any()}


@pytest.mark.parametrize("schedule", ["cnn", "from stride 2", "dilated to 8", "vit 14", "one map"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in DECODERS),
        ("unet", {"decoder_attention_type": "scse"}),
        ("unetplusplus", {"decoder_attention_type": "scse"}),
    ],
    ids=str,
)
def test_every_parameter_learns(name: str, options: dict[str, str], schedule: str) -> None:
    # A gate of a single unit may rest for one draw of the weights, and not for all. In training
    # mode a bias before a batch norm has no effect, so running statistics are used.
    still: set[str] | None = None
    for seed in range(8):
        torch.manual_seed(seed)
        decoder = narrow(name, schedule, **options).eval()
        missing = _without_gradient(decoder, schedule_of(schedule))
        still = missing if still is None else still & missing
    decoder = narrow(name, schedule)
    levels = range(1, len(schedule_of(schedule)) + 1)
    assert still == {f"map {level}" for level in levels if not decoder.reads(level)}


@pytest.mark.parametrize(
    ("name", "schedule", "levels"),
    [
        ("unet", "from stride 2", [1, 2, 3, 4, 5]),
        ("fpn", "from stride 2", [2, 3, 4, 5]),
        ("dpt", "all blocks of a vit", [3, 6, 9, 12]),
        ("deeplabv3plus", "from stride 2", [2, 5]),
        ("deeplabv3plus", "cnn", [1, 4]),
        ("deeplabv3", "cnn", [4]),
        ("pspnet", "one map", [1]),
    ],
)
def test_maps_that_are_read(name: str, schedule: str, levels: list[int]) -> None:
    decoder = narrow(name, schedule)
    count = len(schedule_of(schedule))
    assert [level for level in range(1, count + 1) if decoder.reads(level)] == levels


@pytest.mark.parametrize("name", DECODERS)
def test_training_gives_every_parameter_a_gradient(name: str) -> None:
    decoder = narrow(name, "vit 16").train()
    maps = maps_of(schedule_of("vit 16"), (64, 96))
    decoder(maps, output_size=(64, 96)).square().mean().backward()
    assert all(p.grad is not None for p in decoder.parameters())


# Strides of the encoders of smp's own models, where they are not 2, 4, 8, 16, 32.
ENCODERS = {
    "pspnet": (2, 4, 8),
    "deeplabv3": (2, 4, 8, 8, 8),
    "deeplabv3plus": (2, 4, 8, 16, 16),
    "pan": (2, 4, 8, 16, 16),
}
# Options of smp's models and of ours, which spells two of its own in its own way.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in DECODERS if name != "dpt"),
    ("unet", {"decoder_attention_type": "scse", "decoder_interpolation": "bilinear"}),
    ("unetplusplus", {"decoder_attention_type": "scse", "decoder_use_norm": "identity"}),
    ("manet", {"decoder_channels": (64, 32, 32, 16, 8), "decoder_pab_channels": 16}),
    ("fpn", {"decoder_merge_policy": "cat", "decoder_segmentation_channels": 64}),
    ("pspnet", {"psp_out_channels": 64, "decoder_use_norm": "identity"}),
    ("deeplabv3", {"decoder_aspp_separable": True}),
    ("pan", {"decoder_interpolation": "nearest"}),
]


def _with_statistics(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)


def _take_over(decoder: SmpDecoder, model: Any) -> None:
    """Copy smp's values; what smp has and never uses is left."""
    for ours, theirs in (
        (decoder.decoder, model.decoder),
        (decoder.segmentation_head, model.segmentation_head),
    ):
        missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
        assert not missing
        assert all(".attention1." in name for name in unexpected)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_same_weights_give_smps_logits(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = smp.create_model(
        name, encoder_name="resnet18", encoder_weights=None, classes=3, **options
    ).eval()
    _with_statistics(model.decoder)
    picture = torch.randn(2, 3, 128, 192)
    with torch.no_grad():
        maps = model.encoder(picture)[1:]
        schedule = ChannelSchedule([m.shape[1] for m in maps], ENCODERS.get(name, PLACES))
        decoder = SmpDecoder(schedule, 3, name, **options).eval()
        _take_over(decoder, model)
        torch.testing.assert_close(
            decoder(maps, output_size=(128, 192)), model(picture), atol=1e-5, rtol=1e-5
        )


def test_same_weights_give_smps_dpt_on_a_vit() -> None:
    torch.manual_seed(0)
    model = smp.create_model(
        "dpt",
        encoder_name="tu-vit_tiny_patch16_224",
        encoder_weights=None,
        classes=3,
        decoder_readout="ignore",
    ).eval()
    _with_statistics(model.decoder)
    picture = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps, _ = model.encoder(picture)
        decoder = SmpDecoder(ChannelSchedule([192] * 4, [16] * 4), 3, "dpt").eval()
        _take_over(decoder, model)
        torch.testing.assert_close(decoder(maps), model(picture), atol=1e-5, rtol=1e-5)


def _padded(maps: list[Tensor], strides: tuple[int, ...], size: tuple[int, int]) -> list[Tensor]:
    return [
        F.pad(m, (0, size[1] // s - m.shape[-1], 0, size[0] // s - m.shape[-2]))
        for m, s in zip(maps, strides, strict=True)
    ]


@pytest.mark.parametrize("name", DECODERS)
def test_an_odd_picture_is_a_part_of_the_padded_one(name: str) -> None:
    torch.manual_seed(0)
    schedule = schedule_of("from stride 2")
    decoder = narrow(name, "from stride 2").eval()
    maps = maps_of(schedule, (75, 110))
    whole = decoder(_padded(maps, schedule.strides, (96, 128)), output_size=(96, 128))
    torch.testing.assert_close(decoder(maps, output_size=(75, 110)), whole[..., :75, :110])


@pytest.mark.parametrize("name", DECODERS)
def test_stride_14_is_stride_16_of_a_larger_picture(name: str) -> None:
    torch.manual_seed(0)
    decoder, other = narrow(name, "vit 14").eval(), narrow(name, "vit 16").eval()
    other.load_state_dict(decoder.state_dict())
    maps = maps_of(schedule_of("vit 14"), (70, 84))
    expected = F.interpolate(other(maps), size=(70, 84), mode="bilinear")
    torch.testing.assert_close(decoder(maps, output_size=(70, 84)), expected)


def test_logits_of_another_size_are_resized() -> None:
    decoder = narrow("unet", "cnn").eval()
    maps = maps_of(schedule_of("cnn"), (64, 96))
    expected = F.interpolate(decoder(maps), size=(128, 192), mode="bilinear")
    torch.testing.assert_close(decoder(maps, output_size=(128, 192)), expected)


def _levels(strides: tuple[int, ...], keeps: Keeps = Keeps.NONE) -> list[Level | None]:
    return levels_for(strides, PLACES, PLACES[:1], keeps)


@pytest.mark.parametrize(
    ("strides", "keeps", "expected"),
    [
        # Sources, how often doubled, strides.
        ((4, 8, 16, 32), Keeps.NONE, ((0, 0, 4), (1, 0, 8), (2, 0, 16), (3, 0, 32))),
        ((16, 16, 16, 16), Keeps.NONE, ((0, 2, 4), (1, 1, 8), (2, 0, 16), (3, -1, 32))),
        ((14, 14, 14, 14), Keeps.FINER, ((0, 2, 4), (1, 1, 8), (2, 0, 16), (3, -1, 32))),
        ((8,) * 12, Keeps.NONE, ((2, 1, 4), (5, 0, 8), (8, -1, 16), (11, -2, 32))),
        ((4, 8, 8, 8), Keeps.NONE, ((0, 0, 4), (1, 0, 8), (2, -1, 16), (3, -2, 32))),
        ((4, 8, 8, 8), Keeps.FINER, ((0, 0, 4), (1, 0, 8), (2, 0, 8), (3, 0, 8))),
        ((4, 8, 16, 16), Keeps.FINER, ((0, 0, 4), (1, 0, 8), (2, 0, 16), (3, 0, 16))),
        ((16, 32, 64), Keeps.NONE, ((0, 2, 4), (0, 1, 8), (1, 1, 16), (2, 1, 32))),
        ((16,), Keeps.NONE, ((0, 2, 4), (0, 1, 8), (0, 0, 16), (0, -1, 32))),
        ((4, 16), Keeps.NONE, ((0, 0, 4), (0, -1, 8), (1, 0, 16), (1, -1, 32))),
        ((16, 16, 16, 16), Keeps.LAST, ((0, 2, 4), (1, 1, 8), (2, 0, 16), (3, 0, 16))),
        ((4, 8, 16, 32), Keeps.ALL, ((0, 0, 4), (1, 0, 8), (2, 0, 16), (3, 0, 32))),
        ((16, 16, 16, 16), Keeps.ALL, ((0, 0, 16), (1, 0, 16), (2, 0, 16), (3, 0, 16))),
    ],
)
def test_levels(
    strides: tuple[int, ...], keeps: Keeps, expected: tuple[tuple[int, int, int], ...]
) -> None:
    assert _levels(strides, keeps) == [None, *(Level(*level) for level in expected)]


def test_a_map_of_stride_2_is_read_where_there_is_one() -> None:
    assert _levels((1, 2, 4, 8, 16, 32))[0] == Level(1, 0, 2)


def test_a_vits_pyramid_is_learnt_and_its_width_falls() -> None:
    decoder = SmpDecoder(ChannelSchedule([256] * 4, [16] * 4), 2, "upernet")
    weights = {name: tuple(p.shape) for name, p in decoder.neck.named_parameters() if p.ndim == 4}
    assert weights == {
        "0.0.weight": (64, 256, 1, 1),
        "0.1.0.weight": (64, 64, 2, 2),
        "0.1.3.weight": (64, 64, 2, 2),
        "1.0.weight": (128, 256, 1, 1),
        "1.1.0.weight": (128, 128, 2, 2),
    }


def test_a_resnet_needs_no_layer_of_ours() -> None:
    for name in DECODERS:
        assert not list(narrow(name, "cnn").neck.parameters())


@pytest.mark.parametrize("name", DECODERS)
def test_a_single_picture_trains_where_no_average_is_normalised(name: str) -> None:
    decoder = narrow(name, "cnn").train()
    maps = maps_of(schedule_of("cnn"), (96, 96), batch=1)
    if name in ("deeplabv3", "deeplabv3plus", "pan", "upernet"):
        with pytest.raises(InputError, match=f"^smp/{name} in training normalises averages of"):
            decoder(maps)
        return
    assert decoder(maps).isfinite().all()


def test_upernet_without_norms_trains_on_a_single_picture() -> None:
    decoder = narrow("upernet", "cnn", decoder_use_norm="identity").train()
    assert decoder(maps_of(schedule_of("cnn"), (96, 96), batch=1)).isfinite().all()


@pytest.mark.parametrize("name", DECODERS)
def test_half_precision_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    decoder = narrow(name, "vit 16").eval()
    maps = maps_of(schedule_of("vit 16"), (75, 110))
    expected = decoder(maps)
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder(maps)
    assert half.dtype == torch.bfloat16
    # Bfloat16 knows 8 bits.
    assert (half - expected).abs().mean() < 0.05 * expected.abs().mean()
    last = decoder.to(memory_format=torch.channels_last)(
        [m.contiguous(memory_format=torch.channels_last) for m in maps]
    )
    torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("schedule", ["cnn", pytest.param("vit 14", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("unet", "deeplabv3plus") else pytest.mark.long)
        for name in DECODERS
    ],
)
def test_it_compiles_without_a_break(name: str, schedule: str) -> None:
    decoder = narrow(name, schedule).eval()
    compiled = torch.compile(decoder, backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((64, 96), (75, 110)):
            maps = maps_of(schedule_of(schedule), size)
            expected = decoder(maps, output_size=size)
            torch.testing.assert_close(compiled(maps, output_size=size), expected)


def test_more_maps_than_said_are_refused() -> None:
    with pytest.raises(InputError, match="smp/unet was made for 4 maps, and got 3"):
        narrow("unet", "cnn")(maps_of(schedule_of("cnn"), (64, 64))[1:])


@pytest.mark.parametrize(
    ("name", "schedule", "options"),
    [
        ("unet", (16, 32), {"decoder_attention_type": "scse", "decoder_channels": [8] * 5}),
        ("unetplusplus", (8, 32), {"decoder_attention_type": "scse"}),
        ("linknet", (2, 32), {}),
    ],
)
def test_layers_without_channels_are_refused(
    name: str, schedule: tuple[int, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=f"^smp/{name} would have a layer without channels"):
        SmpDecoder(schedule, 2, name, **options)


def test_initial_values_are_smps() -> None:
    """Kaiming's for the decoder, though torch's where smp leaves them."""
    for name, spread in (("unet", math.sqrt(2)), ("deeplabv3", math.sqrt(1 / 3))):
        torch.manual_seed(0)
        decoder = SmpDecoder([64, 128, 256, 512], 3, name).decoder
        weight = next(p for p in decoder.parameters() if p.ndim == 4)
        assert weight.std().item() == pytest.approx(spread / math.sqrt(weight[0].numel()), rel=0.02)
