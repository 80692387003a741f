"""The shipped registry.yaml says what timm's own configuration says, and invents nothing."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg

import zoo_core as zoo
from zoo_core.grammar import parse
from zoo_core.manifest import WeightsEntry, read_manifest, shipped_manifest

SHIPPED = read_manifest(shipped_manifest())
NON_COMMERCIAL = {"zoo-vit:vit_base.mae", "zoo-vit:vit_large.mae"}
TAGS = {
    "zoo-resnet:resnet18": ["a1_in1k", "tv_in1k"],
    "zoo-resnet:resnet34": ["a1_in1k", "tv_in1k"],
    "zoo-resnet:resnet50": ["a1_in1k", "tv_in1k", "a1h_in1k", "tv2_in1k"],
    "zoo-resnet:resnet101": ["a1h_in1k", "tv_in1k", "a1_in1k", "tv2_in1k"],
    "zoo-resnet:resnet152": ["a1h_in1k", "tv_in1k", "a1_in1k", "tv2_in1k"],
    "zoo-vit:vit_tiny": ["augreg_in21k_ft_in1k", "augreg_in21k"],
    "zoo-vit:vit_small": ["augreg_in21k_ft_in1k", "augreg_in21k"],
    "zoo-vit:vit_base": ["augreg_in21k_ft_in1k", "augreg_in21k", "orig_in21k", "mae"],
    "zoo-vit:vit_large": ["augreg_in21k_ft_in1k", "augreg_in21k", "mae"],
    "zoo-vit:dinov2_small": ["lvd142m"],
    "zoo-vit:dinov2_base": ["lvd142m"],
    "zoo-vit:clip_vit_base": ["openai", "laion2b"],
    "zoo-timm:timm/efficientnet_lite0": ["ra_in1k"],
}


def configuration(entry: WeightsEntry) -> PretrainedCfg:
    owner, name = entry.repository.split("/")
    config = get_pretrained_cfg(name)
    assert owner == "timm"
    assert config is not None, name
    return config


def test_every_component_has_its_tags_the_default_first() -> None:
    found: dict[str, list[str]] = {}
    for entry in SHIPPED.weights:
        found.setdefault(entry.component, []).append(entry.tag)
    assert found == TAGS


@pytest.mark.parametrize("entry", SHIPPED.weights, ids=lambda entry: entry.name)
def test_an_entry_agrees_with_timm(entry: WeightsEntry) -> None:
    config = configuration(entry)
    assert entry.tag == config.tag
    assert entry.repository == config.hf_hub_id
    assert entry.filename == (config.hf_hub_filename or "model.safetensors")
    assert entry.layout == "timm"
    shown = entry.preprocessing
    # Weights trained on pictures of 176 pixels are evaluated on 224 (torchvision's own preset too).
    size, crop = config.input_size, config.crop_pct
    if min(size[1:]) < 224:
        assert config.test_input_size is not None
        size, crop = config.test_input_size, config.test_crop_pct
    assert (3, *shown.size) == size
    assert (shown.crop, shown.crop_mode) == (crop, config.crop_mode)
    assert shown.interpolation == config.interpolation
    assert (shown.mean, shown.std) == (config.mean, config.std)
    # timm keeps CLIP's projection as a classifier of 512 classes, which it is not.
    projects = entry.component == "zoo-vit:clip_vit_base"
    assert entry.classes == (None if projects else config.num_classes or None)
    assert entry.licence == config.license
    assert entry.source.startswith("timm 1.")
    assert (entry.licence == "cc-by-nc-4.0") == (entry.name in NON_COMMERCIAL)


@pytest.mark.parametrize("entry", SHIPPED.weights, ids=lambda entry: entry.name)
def test_class_names_are_said_of_thousand_classes_alone(entry: WeightsEntry) -> None:
    assert (entry.labels == "imagenet-1k") == (entry.classes == 1000)


def test_what_the_layout_does_not_tell_agrees_with_timm() -> None:
    told = {entry.name: entry for entry in SHIPPED.weights if entry.activation or entry.eps}
    assert set(told) == {e.name for e in SHIPPED.weights if e.component.startswith("zoo-vit:")}
    for entry in told.values():
        architecture = entry.repository.removeprefix("timm/").partition(".")[0]
        if entry.tag == "openai":
            # timm keeps two architectures for one file of weights: GELU or QuickGELU decides.
            architecture = "vit_base_patch16_clip_quickgelu_224"
        with torch.device("meta"):
            block = timm.create_model(architecture).blocks[0]
        activations = {"GELU": "gelu", "QuickGELU": "quick_gelu"}
        assert entry.activation == activations[type(block.mlp.act).__name__]
        assert entry.eps == block.norm1.eps
        assert get_pretrained_cfg(f"{architecture}.{entry.tag}").hf_hub_id == entry.repository


def test_nothing_is_pinned_that_nobody_has_read() -> None:
    for entry in SHIPPED.weights:
        if not entry.pinned:
            assert (entry.revision, entry.sha256, entry.size) == (None, None, None)


def test_the_named_models_are_right_and_say_the_same_whatever_is_installed() -> None:
    models = {model.name: model for model in SHIPPED.models}
    assert list(models) == ["multitask-small", "multitask-base"]
    for model in models.values():
        assert parse(model.recipe, zoo.registry).canonical == model.recipe
        assert model.summary
    assert {name: model.recipe for name, model in zoo.registry.models.items()}.items() >= {
        ("multitask-small", "zoo-resnet:resnet18.a1_in1k+zoo-cbam:cbam+zoo-unet:unet"),
        ("multitask-base", "zoo-resnet:resnet50.a1_in1k+zoo-cbam:cbam+zoo-unet:unet"),
    }
