"""Saved models: a folder that builds the same model again, or is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import Attention, ChannelSchedule, MultitaskModel
from zoo_core.errors import SavedModelError
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import CNNBackbone, TimmBackbone
from zoo_core.models.encoder_decoder import UNetDecoder
from zoo_core.testing import LoopbackHub

IMAGES = torch.randn(1, 3, 64, 97, generator=torch.Generator().manual_seed(0))


def outputs(model: MultitaskModel) -> list[Tensor]:
    with torch.no_grad():
        result = model.eval()(IMAGES)
    return list(result.values()) if isinstance(result, dict) else [result]


def round_trip(model: MultitaskModel, folder: Path) -> MultitaskModel:
    model.save_pretrained(folder)
    loaded = MultitaskModel.from_pretrained(folder)
    assert not loaded.training
    assert all(map(torch.equal, outputs(loaded), outputs(model)))
    return loaded


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("resnet18", {}),
        ("resnet18+cbam@all+unet", {"cbam": {"reduction": 8}, "num_classes_segmentation": 3}),
        ("resnet18+unet", {"num_classes_classification": 0, "unet": {"atrous": [2, 4]}}),
        ("resnet18+unet", {"num_classes_segmentation": 0}),
        ("resnet18+cbam@2+cbam+unet", {"attention": [{"reduction": 4}, {"reduction": 2}]}),
        (
            "resnet18+unet",
            {"backbone": {"output_stride": 8}, "decoder": {"skip_attention": "cbam"}},
        ),
        ("timm/resnet18+cbam+unet", {}),
        ("timm/vit_tiny_patch16_224+unet", {"image_size": (64, 96)}),
    ],
)
def test_a_recipe_survives_with_its_options_and_values(
    recipe: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = zoo.build(recipe, seed=0, **options)
    loaded = round_trip(model, tmp_path / "a")
    again = round_trip(loaded, tmp_path / "b")
    for other in (loaded, again):
        assert other.num_classes_classification == model.num_classes_classification
        assert other.num_classes_segmentation == model.num_classes_segmentation
        assert other.preprocessing == model.preprocessing
    first, second = ((tmp_path / name / "config.json").read_text() for name in "ab")
    assert first == second


def test_a_model_put_together_by_hand_survives(tmp_path: Path) -> None:
    backbone = CNNBackbone(depth=18, output_stride=16)
    model = MultitaskModel(
        backbone,
        attention={2: CBAM(128, 4), 4: [CBAM(512), CBAM(512, reduction=8)]},
        decoder=UNetDecoder(backbone.get_channel_schedule(), 5, decoder_channels=[32, 16]),
        num_classes_classification=10,
        num_classes_segmentation=5,
    )
    loaded = round_trip(model, tmp_path)
    assert loaded.recipe is not None
    assert loaded.recipe.canonical == (
        "zoo-resnet:resnet18+zoo-cbam:cbam@2+zoo-cbam:cbam+zoo-cbam:cbam+zoo-unet:unet"
    )


@pytest.mark.parametrize("attention", [None, 320])
def test_a_timm_backbone_put_in_by_hand_survives(attention: int | None, tmp_path: Path) -> None:
    model = MultitaskModel(
        TimmBackbone("efficientnet_lite0"),
        attention=CBAM(attention) if attention else None,
        num_classes_classification=3,
    )
    loaded = round_trip(model, tmp_path)
    assert loaded.backbone.constructor_arguments["pooled"]


def test_strides_that_a_decoder_was_only_told_survive(tmp_path: Path) -> None:
    backbone = CNNBackbone(18, output_stride=8)
    decoder = UNetDecoder(list(backbone.get_channel_schedule()), 4)
    round_trip(MultitaskModel(backbone, None, decoder, None, 4), tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["options"]["decoder"]["backbone_channels"] == [64, 128, 256, 512]


def test_the_folder_says_what_it_is(tmp_path: Path) -> None:
    zoo.build("resnet18+unet", seed=0, num_classes_classification=2).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md", "config.json", "model.safetensors",
    }  # fmt: skip
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["recipe"] == "zoo-resnet:resnet18+zoo-unet:unet"
    assert saved["plugins"] == {"zoo-resnet": "0.1.0", "zoo-unet": "0.1.0"}
    assert saved["classes"] == {"classification": 2, "segmentation": 21}
    card = (tmp_path / "README.md").read_text()
    assert "zoo-resnet:resnet18+zoo-unet:unet" in card
    assert "library_name: zoo-core" in card
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == (
        (tmp_path / "config.json").stat().st_mode & 0o777
    )


class Foreign(Attention):
    """A component that no plugin gives."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (nn.Identity(), "the attention Identity is not a zoo component, so it cannot be saved by "
         "value; save the state dict yourself, or make it a plugin"),
        (Foreign(512), "is given by no installed plugin, so it cannot be saved by value"),
    ],
)  # fmt: skip
def test_a_foreign_module_is_refused_before_anything_is_written(
    attention: nn.Module, message: str, tmp_path: Path
) -> None:
    model = MultitaskModel(CNNBackbone(18), attention, num_classes_classification=2)
    with pytest.raises(SavedModelError) as caught:
        model.save_pretrained(tmp_path / "saved")
    assert message in str(caught.value)
    assert not (tmp_path / "saved").exists()


def test_a_part_that_was_changed_is_refused(tmp_path: Path) -> None:
    model = MultitaskModel(CNNBackbone(18), num_classes_classification=2)
    model.classifier = nn.Linear(512, 7)
    with pytest.raises(SavedModelError) as caught:
        model.save_pretrained(tmp_path / "saved")
    assert "a part was changed after it was constructed" in str(caught.value)
    assert "classifier." in str(caught.value)
    assert not (tmp_path / "saved").exists()


def test_what_has_no_values_or_no_folder_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = zoo.build("resnet18")
    with pytest.raises(SavedModelError, match="is on the meta device and has no values to save"):
        empty.save_pretrained(tmp_path / "saved")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SavedModelError, match="is a file; a model is saved to a folder"):
        zoo.build("resnet18").save_pretrained(file)
    assert list(tmp_path.iterdir()) == [file]


def test_unknown_options_of_loading_are_refused(saved: Path) -> None:
    with pytest.raises(SavedModelError, match="has no option 'num_classes_classification'"):
        MultitaskModel.from_pretrained(saved, num_classes_classification=7)
    with pytest.raises(SavedModelError, match=r"config\.json is a file; a saved model is a folder"):
        MultitaskModel.from_pretrained(saved / "config.json")
    with pytest.raises(SavedModelError, match="an empty path: there is no such folder"):
        MultitaskModel.from_pretrained("")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    zoo.build("resnet18", seed=0, num_classes_classification=2).save_pretrained(tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(SavedModelError) as caught:
        MultitaskModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "is of format 2; zoo-core 0.1.0 reads 1"),
        ({"recipe": "zoo-gone:net"}, "unknown backbone 'zoo-gone:net' at character 1 of "
         "'zoo-gone:net'; 'zoo list' shows what there is (saved with zoo-resnet 0.1.0)"),
        ({"options": {}}, "config.json is damaged: KeyError: 'attention'"),
        ({"classes": {"classification": 3, "segmentation": 0}}, "does not fit the model"),
        ({"labels": {"classification": ["a"]}}, "1 labels for 2 classes of classification"),
        ({"picture": {"channels": 3, "size": [1, 2, 3]}}, "picture.size is [1, 2, 3]"),
        ({"preprocessing": {"size": [1, 2], "crop": 1, "crop_mode": "center", "mean": "abc",
                            "std": [1], "interpolation": "bilinear"}}, "preprocessing is {"),
        ({"options": {"backbone": {"pretrained": True}, "attention": [], "decoder": {}}},
         "backbone 'resnet18': 'pretrained' is set for the whole model"),
        ({"options": {"backbone": {}, "attention": [{}], "decoder": {}}}, "is damaged: ValueError"),
        ({"recipe": "nonsense", "plugins": [1]}, "saved with plugins that it does not tell"),
    ],
)  # fmt: skip
def test_a_changed_configuration_is_refused(
    saved: Path, changes: dict[str, Any], message: str
) -> None:
    change(saved, **changes)
    assert message in refusal(saved)


def test_changed_weights_are_refused_by_name(saved: Path) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    tensors["stranger"] = tensors.pop("backbone.bn1.weight")
    save_file(tensors, file)
    message = refusal(saved)
    assert "stranger" in message
    assert "backbone.bn1.weight" in message


def test_folders_that_are_no_models_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "config.json").write_text("{")
    assert "is no JSON" in refusal(saved)
    (saved / "config.json").write_text("{}")
    assert "is not the configuration of a zoo model: no 'recipe' in it" in refusal(saved)
    (saved / "config.json").unlink()
    assert "cannot be read: No such file or directory" in refusal(saved)
    missing = tmp_path / "none"
    assert refusal(missing) == f"{missing}: there is no such folder"


def test_a_model_comes_back_from_a_hub(saved: Path, tmp_path: Path) -> None:
    code = f"""
import torch, zoo_core as zoo
model = zoo.MultitaskModel.from_pretrained("me/net")
here = zoo.MultitaskModel.from_pretrained({str(saved)!r})
x = torch.ones(1, 3, 64, 64)
assert torch.equal(model(x), here(x))
try:
    zoo.MultitaskModel.from_pretrained("me/other")
except zoo.ZooError as error:
    print(error)
"""
    with LoopbackHub() as hub:
        hub.add("me/net", {path.name: path for path in saved.iterdir() if path.is_file()})
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("me/other cannot be loaded from the Hub: ")


def test_a_channel_schedule_is_a_tuple_with_strides() -> None:
    schedule = ChannelSchedule([8, 16], [8, 16])
    assert schedule == (8, 16)
    assert ChannelSchedule(schedule).strides == (8, 16)
    assert ChannelSchedule([8, 16]).strides == (4, 8)
