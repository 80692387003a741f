"""What can be set of each decoder: as smp has it, and nothing else."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

import zoo_core as zoo
from zoo_core import MultitaskModel
from zoo_core.errors import InputError, OptionError
from zoo_smp.model import SmpDecoder
from zoo_smp.options import OPTIONS
from zoo_smp.structures import STRUCTURES, wired

from .conftest import DECODERS, maps_of, narrow, schedule_of

MODELS: dict[str, Any] = smp.MODEL_ARCHITECTURES_MAPPING
# DPT's prefix tokens are no maps.
LEFT_OUT = {"decoder_readout"}
OF_A_MODEL = re.compile("(decoder|psp)_")


def test_every_architecture_of_smp_is_there() -> None:
    assert set(OPTIONS) == set(MODELS) == set(STRUCTURES) == set(DECODERS)


@pytest.mark.parametrize("name", DECODERS)
def test_the_catalogue_lists_every_parameter_of_smps_decoder(name: str) -> None:
    parameters = set(inspect.signature(STRUCTURES[name].decoder_class).parameters)
    listed = {option.parameter for option in OPTIONS[name].values()}
    assert listed == parameters - set(wired([16] * 5, [4]))


@pytest.mark.parametrize("name", DECODERS)
def test_names_and_defaults_are_those_of_smps_model(name: str) -> None:
    model = {
        parameter.name: parameter.default
        for parameter in inspect.signature(MODELS[name].__init__).parameters.values()
        if OF_A_MODEL.match(parameter.name) and parameter.name not in LEFT_OUT
    }
    decoder = inspect.signature(STRUCTURES[name].decoder_class).parameters
    for spelling, option in OPTIONS[name].items():
        if spelling in model:
            assert option.default == model.pop(spelling)
        else:
            assert spelling == f"decoder_{option.parameter}"
            assert option.default == decoder[option.parameter].default
    assert not model


def _some(default: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, tuple):
        return [32] * len(default)
    return 64 if isinstance(default, int) else 0.1


@pytest.mark.parametrize("name", DECODERS)
def test_every_option_reaches_smp(name: str) -> None:
    """Each one alone changes the modules, or what they compute."""

    def described(options: dict[str, Any]) -> tuple[str, torch.Tensor]:
        torch.manual_seed(0)
        decoder = narrow(name, "cnn", **options).eval()
        torch.manual_seed(0)
        with torch.no_grad():
            return str(decoder), decoder(maps_of(schedule_of("cnn"), (256, 256)))

    plain = described({})
    for spelling, option in OPTIONS[name].items():
        words = re.split(r", | or ", option.wanted)
        is_choice = option.default is None or isinstance(option.default, str)
        value = words[1] if is_choice else _some(option.default)
        modules, logits = described({spelling: value})
        assert modules != plain[0] or not torch.equal(logits, plain[1]), spelling


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"decoder_attention_type": "typo"}, "must be null or scse, not 'typo'"),
        ("unet", {"decoder_atention_type": "scse"}, "did you mean 'decoder_attention_type'?"),
        ("unet", {"decoder_channels": (256, 128)}, "must be 5 positive whole numbers, not"),
        ("unet", {"decoder_channels": (64, 32, 16, 8, 0)}, "must be 5 positive whole numbers"),
        ("unet", {"decoder_channels": 64}, "must be 5 positive whole numbers, not 64"),
        ("unet", {"decoder_use_norm": "layernorm"}, "batchnorm, identity or instancenorm, not"),
        ("unet", {"decoder_add_center_block": 1}, "must be true or false, not 1"),
        ("unet", {"decoder_interpolation": "linear"}, "must be nearest, bilinear, bicubic, area"),
        ("unet", {"decoder_interpolation": ["area"]}, "must be nearest, bilinear, bicubic, area"),
        ("upernet", {"decoder_use_norm": "instancenorm"}, "must be batchnorm or identity, not"),
        ("upernet", {"decoder_attention_type": "scse"}, "it has decoder_channels, decoder_use"),
        ("fpn", {"decoder_segmentation_channels": 48}, "must be a positive multiple of 32, not 48"),
        ("fpn", {"decoder_merge_policy": "sum"}, "must be add or cat, not 'sum'"),
        ("fpn", {"decoder_dropout": 1.0}, "must be a number from 0 to below 1, not 1.0"),
        ("fpn", {"decoder_dropout": True}, "must be a number from 0 to below 1, not True"),
        ("pspnet", {"psp_out_channels": 1.5}, "must be a positive whole number, not 1.5"),
        ("deeplabv3", {"decoder_atrous_rates": [6, 12]}, "must be 3 positive whole numbers"),
        ("dpt", {"decoder_readout": "cat"}, "smp/dpt has no option 'decoder_readout'"),
        ("segformer", {"decoder_segmentation_channels": True}, "must be a positive whole number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        SmpDecoder([8, 16, 24, 32], 2, name, **options)
    assert message in str(caught.value)
    assert f"smp/{name}" in str(caught.value)


def test_wrong_decoders_and_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^smp has no decoder 'unett'; it has unet, unetplus"):
        SmpDecoder([8, 16], 2, "unett")
    with pytest.raises(InputError, match="output_channels of smp/unet must be positive, not 0"):
        SmpDecoder([8, 16], 0, "unet")


def test_a_recipe_refuses_an_option_before_it_builds() -> None:
    with pytest.raises(OptionError, match="did you mean 'decoder_attention_type'"):
        zoo.build("resnet18+smp/unet", decoder={"decoder_atention_type": "scse"})
    with pytest.raises(OptionError, match="'name' is what makes it 'smp/unet'"):
        zoo.build("resnet18+smp/unet", decoder={"name": "fpn"})


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        (name, norm)
        for name in DECODERS
        for norm in ("identity", "instancenorm")
        if "decoder_use_norm" in OPTIONS[name] and OPTIONS[name]["decoder_use_norm"].fits(norm)
    ],
)
def test_other_norms_run(name: str, norm: str) -> None:
    # A gate of a few units may rest for one draw of the weights, and not for all.
    resting: set[str] | None = None
    for seed in range(4):
        torch.manual_seed(seed)
        decoder = narrow(name, "cnn", decoder_use_norm=norm).train()
        decoder(maps_of(schedule_of("cnn"), (192, 256))).square().mean().backward()
        found = {n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.any()}
        resting = found if resting is None else resting & found
    assert not resting


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("resnet18+smp/unetplusplus", {"decoder_attention_type": "scse"}),
        ("resnet18+cbam+smp/fpn", {"decoder_merge_policy": "cat"}),
        ("timm/vit_tiny_patch16_224+smp/dpt", {}),
        ("timm/vit_tiny_patch16_224+smp/unet", {"decoder_channels": [64, 32, 16, 16, 16]}),
    ],
)
def test_a_saved_model_gives_the_same_logits(
    recipe: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = zoo.build(
        recipe, num_classes_classification=0, num_classes_segmentation=4, decoder=options, seed=0
    ).eval()
    model.save_pretrained(tmp_path)
    loaded = MultitaskModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded.decoder, SmpDecoder)
    assert loaded.decoder.constructor_arguments == model.decoder.constructor_arguments
    picture = torch.randn(1, 3, 75, 110)
    with torch.no_grad():
        logits = loaded(picture)
        assert torch.equal(logits, model(picture))
    assert logits.shape == (1, 4, 75, 110)


def test_a_decoder_made_by_hand_is_saved_too(tmp_path: Path) -> None:
    backbone = zoo.build("resnet18", seed=0).backbone
    decoder = SmpDecoder(backbone.get_channel_schedule(), 3, "linknet")
    model = MultitaskModel(backbone, decoder=decoder, num_classes_segmentation=3).eval()
    model.save_pretrained(tmp_path)
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(MultitaskModel.from_pretrained(tmp_path).eval()(picture), model(picture))
