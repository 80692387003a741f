"""The decoders in models, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoo_core as zoo
from zoo_core import MultitaskModel
from zoo_core.errors import OptionError

from .conftest import DECODERS

BACKBONES = [
    "resnet18",
    "timm/resnet18",  # from stride 2
    "timm/vit_tiny_patch16_224",
    "timm/test_convnext",
]


def options(decoder: str) -> dict[str, Any]:
    return {} if decoder == "linear" else {"channels": 32}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_follows_any_backbone(backbone: str, decoder: str) -> None:
    model = zoo.build(
        f"{backbone}+{decoder}",
        seed=0,
        num_classes_classification=5,
        num_classes_segmentation=3,
        decoder=options(decoder),
    )
    images = torch.randn(2, 3, 97, 65)
    logits = model(images)
    assert {task: tuple(x.shape) for task, x in logits.items()} == {
        "classification": (2, 5),
        "segmentation": (2, 3, 97, 65),
    }
    sum(x.square().mean() for x in logits.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_saved_model_gives_the_same(decoder: str, tmp_path: Path) -> None:
    model = zoo.build(
        f"resnet18+{decoder}",
        seed=0,
        num_classes_classification=0,
        num_classes_segmentation=3,
        decoder=options(decoder),
    ).eval()
    model.save_pretrained(tmp_path)
    loaded = MultitaskModel.from_pretrained(tmp_path)
    images = torch.randn(1, 3, 64, 97)
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(OptionError, match="decoder 'fpn' has no option 'dropout'; it has channels"):
        zoo.build("resnet18+fpn", decoder={"dropout": 0.1})
    with pytest.raises(OptionError, match="decoder zoo-decoders:fpn: channels of FPNDecoder must"):
        zoo.build("resnet18+fpn", decoder={"channels": 12})
