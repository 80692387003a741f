"""Saved models: a folder that builds the same model again, or is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import Attention, Backbone, ChannelSchedule, MultitaskModel
from zoo_core.catalogue import Components
from zoo_core.errors import DamagedFileError, SavedModelError
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import CNNBackbone, TimmBackbone
from zoo_core.models.encoder_decoder import UNetDecoder
from zoo_core.saved.saving import saved_files
from zoo_core.testing import LoopbackHub
from zoo_core.weights import TensorFile

IMAGES = torch.randn(1, 3, 64, 97, generator=torch.Generator().manual_seed(0))


def outputs(model: MultitaskModel) -> list[Tensor]:
    with torch.no_grad():
        result = model.eval()(IMAGES)
    return list(result.values()) if isinstance(result, dict) else [result]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def round_trip(model: MultitaskModel, folder: Path) -> MultitaskModel:
    model.save_pretrained(folder)
    loaded = MultitaskModel.from_pretrained(folder)
    assert not loaded.training
    assert all(map(torch.equal, outputs(loaded), outputs(model)))
    return loaded


KILLED = """
import os, signal, sys
from pathlib import Path
import zoo_core as zoo

def replace(self, target, first=Path.replace):
    if self.name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return first(self, target)

model = zoo.build("resnet18", num_classes_classification=3, seed=1)
Path.replace = replace
model.save_pretrained(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("killed_before", "classes"), [("model.safetensors", 2), ("config.json", 3)]
)
def test_a_save_that_is_killed_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, killed_before: str, classes: int
) -> None:
    zoo.build("resnet18", num_classes_classification=2, seed=0).save_pretrained(tmp_path)
    command = [sys.executable, "-c", KILLED, str(tmp_path), killed_before]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    here = zoo.build("resnet18", num_classes_classification=classes, seed=classes - 2)
    loaded = MultitaskModel.from_pretrained(tmp_path)
    assert all(map(torch.equal, outputs(loaded), outputs(here)))
    files = {name: file.read_bytes() for name, file in saved_files(tmp_path).items()}
    assert json.loads(files["config.json"])["sha256"] == sha256(files["model.safetensors"])
    round_trip(zoo.build("resnet18", num_classes_classification=4, seed=2), tmp_path)
    assert saved_files(tmp_path)["config.json"] == tmp_path / "config.json"


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
    with pytest.raises(SavedModelError, match="has no option 'strict'; it has force_download,"):
        MultitaskModel.from_pretrained(saved, strict=False)
    with pytest.raises(SavedModelError, match="card has no option 'licence'; it has repo_id"):
        zoo.build("resnet18").save_pretrained(saved, model_card_kwargs={"licence": "mit"})
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


@pytest.fixture
def tied(monkeypatch: pytest.MonkeyPatch) -> type[Backbone]:
    """A backbone, given by a plugin, that uses a tensor twice."""
    spec = zoo.Spec(kind="backbone", name="tied", target="tied_net:Tied", provider="zoo-unet")
    monkeypatch.setitem(sys.modules, "tied_net", module := ModuleType("tied_net"))
    module.Tied = Tied
    found = Components.candidates
    monkeypatch.setattr(
        Components, "candidates",
        lambda self, name: [spec] if name == "zoo-unet:tied" else found(self, name),
    )  # fmt: skip
    listed = Components.listed
    monkeypatch.setattr(Components, "listed", lambda self: [*listed(self), spec])
    return Tied


class Tied(Backbone):
    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.second = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.second(self.first(x))]

    def get_channel_schedule(self) -> ChannelSchedule:
        return ChannelSchedule((3,), (1,))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small model with all kinds of parts, saved."""
    model = build_tiny()
    model.labels = {"segmentation": ("ground", "leaf", "sky")}
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def build_tiny(**options: Any) -> MultitaskModel:
    return zoo.build(
        "timm/test_efficientnet+cbam@2,4+unet",
        num_classes_classification=4,
        num_classes_segmentation=3,
        unet={"decoder_channels": [12, 8, 8, 4]},
        **{"seed": 1, **options},
    )


WEIGHT = "backbone.model.conv_stem.weight"


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the tensors of a folder by hand."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(stranger=t.pop("classifier.bias")),
         "stranger is in the file but not in the model; classifier.bias is in the model but not in "
         "the file (saved with zoo-core 0.1.0; zoo-cbam 0.1.0; zoo-timm 0.1.0; zoo-unet 0.1.0)"),
        (lambda t: t.pop("backbone.model.bn1.num_batches_tracked"),
         "backbone.model.bn1.num_batches_tracked is in the model but not in the file"),
        (lambda t: t.update({WEIGHT: t[WEIGHT][:, :2].clone()}),
         f"{WEIGHT} is [24, 2, 3, 3] in the file and [24, 3, 3, 3] in the model"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].long()}),
         f"{WEIGHT} is torch.int64 in the file and torch.float32 in the model"),
        (lambda t: t[WEIGHT].view(-1)[7].add_(1e-6),
         f"these tensors do not have the values that were saved: {WEIGHT}; save the model again"),
        (lambda t: [tensor.add_(1) for tensor in t.values()], " more; save the model again"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].half()}),
         f"these tensors do not have the values that were saved: {WEIGHT}; "),
        (lambda t: t.update({WEIGHT: t[WEIGHT] * float("nan")}), WEIGHT),
    ],
)  # fmt: skip
def test_a_tensor_that_was_changed_by_hand_is_named(
    tiny: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    rewrite(tiny, change)
    assert message in refusal(tiny)


def test_bytes_that_were_changed_or_lost_are_told(tiny: Path) -> None:
    file = tiny / "model.safetensors"
    whole = file.read_bytes()
    save_file(load_file(file), file, metadata={"format": "other"})
    assert "though no tensor was changed: it was written by other means" in refusal(tiny)
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    last = max(load_file(file))
    assert f"values that were saved: {last};" in refusal(tiny)
    file.write_bytes(whole[:-1])
    assert "this is no readable safetensors file: its tensors end at byte" in refusal(tiny)
    file.write_bytes(b"\x80\x02}q\x00." * 9)
    assert "it begins as a pickle does, and pickles are never read" in refusal(tiny)
    file.unlink()
    assert refusal(tiny).startswith(f"{tiny}: {file}: there is no such file")
    file.write_bytes(whole)
    MultitaskModel.from_pretrained(tiny)


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: there is no saved model here: it has no config.json"
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: there is no such folder"
    assert refusal(Path("some-folder/my model")) == (
        "there is no such folder, and 'some-folder/my model' is not a repository 'owner/name'"
    )


FORMAT_1 = Path(__file__).parent / "fixtures" / "saved-format-1"


def test_a_folder_of_the_first_format_still_loads(tmp_path: Path) -> None:
    model = MultitaskModel.from_pretrained(FORMAT_1)
    stored = load_file(FORMAT_1 / "model.safetensors")
    state = model.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in stored)
    told = load_file(FORMAT_1.with_name("saved-format-1-outputs.safetensors"))
    with torch.no_grad():
        output = model(told["input"])
    for head in ("classification", "segmentation"):
        torch.testing.assert_close(output[head], told[head], rtol=1e-5, atol=1e-5)
    assert model.labels == {
        "classification": ("ash", "birch", "cedar", "döner"),
        "segmentation": ("ground", "leaf", "sky"),
    }
    assert model.preprocessing == zoo.Preprocessing(
        size=(48, 64), crop=0.95, interpolation="bicubic"
    )
    assert model.licence == "apache-2.0"
    assert model.weights_source == "tiny.safetensors"
    again = round_trip(model, tmp_path)
    assert again.labels == model.labels
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 2


def test_values_of_the_first_format_have_to_be_finite(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(FORMAT_1, folder)
    rewrite(folder, lambda tensors: tensors["classifier.weight"][0].fill_(float("inf")))
    assert "classifier.weight holds infinite values" in refusal(folder)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tiny: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: TensorFile) -> None:
        raise DamagedFileError(f"{file.path}: it was changed while it was read")

    monkeypatch.setattr(TensorFile, "check_unchanged", fail)
    assert "it was changed while it was read" in refusal(FORMAT_1 if old else tiny)


def test_loading_says_what_was_loaded(tiny: Path) -> None:
    before = torch.random.get_rng_state()
    model = MultitaskModel.from_pretrained(tiny)
    assert torch.equal(torch.random.get_rng_state(), before)
    report = model.load_report
    assert report is not None
    assert report.source == str(tiny)
    assert report.share == 1.0
    assert [fate.name for fate in report.loaded] == list(model.state_dict())
    assert (report.adapted, report.random, report.dropped) == ((), (), ())
    assert all(p.requires_grad for p in model.parameters())


def test_no_initial_value_is_drawn(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    original = torch.Tensor.uniform_
    monkeypatch.setattr(
        torch.Tensor, "uniform_",
        lambda tensor, *bounds: drawn.append(tensor.is_meta) or original(tensor, *bounds),
    )  # fmt: skip
    MultitaskModel.from_pretrained(tiny)
    assert not drawn or all(drawn)


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        ("timm/test_efficientnet+cbam", torch.bfloat16),
        ("timm/test_efficientnet+cbam", torch.float16),
        ("timm/test_efficientnet", torch.float64),
        ("timm/swin_tiny_patch4_window7_224", torch.bfloat16),  # has buffers outside the file
    ],
)
def test_another_type_survives(recipe: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = zoo.build(recipe, seed=0, num_classes_classification=2).eval().to(dtype)
    model.save_pretrained(tmp_path)
    loaded = MultitaskModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES.to(dtype)), model(IMAGES.to(dtype)))
    mine, theirs = (dict(one.named_buffers()) for one in (loaded, model))
    assert {name: b.dtype for name, b in mine.items()} == {n: b.dtype for n, b in theirs.items()}


def test_types_of_parts_survive(tmp_path: Path) -> None:
    model = build_tiny()
    model.decoder.double()
    model.save_pretrained(tmp_path)
    loaded = MultitaskModel.from_pretrained(tmp_path)
    assert all(p.dtype == torch.float64 for p in loaded.decoder.parameters())
    assert all(p.dtype == torch.float32 for p in loaded.backbone.parameters())


def test_layouts_in_memory_and_training_do_not_matter(tmp_path: Path) -> None:
    model = build_tiny().to(memory_format=torch.channels_last).train()
    model.backbone.requires_grad_(False)
    flat = torch.zeros(2 * model.classifier.bias.numel())
    model.classifier.bias.data = flat[::2]
    loaded = round_trip(model.to(memory_format=torch.contiguous_format), tmp_path)
    assert torch.equal(loaded.classifier.bias, flat[::2])
    assert loaded.classifier.bias.is_contiguous()


def test_a_tensor_with_two_names_is_written_once(tmp_path: Path, tied: Any) -> None:
    model = MultitaskModel(tied(), num_classes_classification=2)
    loaded = round_trip(model, tmp_path)
    assert loaded.backbone.second.weight is loaded.backbone.first.weight
    stored = load_file(tmp_path / "model.safetensors")
    assert "backbone.first.weight" in stored
    assert "backbone.second.weight" not in stored
    report = loaded.load_report
    assert report is not None
    assert [fate.name for fate in report.random] == []
    rewrite(
        tmp_path, lambda t: t.update({"backbone.second.weight": t["backbone.first.weight"] + 1})
    )
    assert "backbone.second.weight is in the file and so is backbone.first.weight" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.classifier.weight.data[0, 0].fill_(float("inf")),
         "classifier.weight holds infinite values, so the model is not saved"),
        (lambda m: m.backbone.model.bn1.running_var.fill_(float("nan")),
         "backbone.model.bn1.running_var holds NaN, so the model is not saved"),
        (lambda m: m.to(torch.complex64), "conv_stem.weight is torch.complex64"),
        (lambda m: m.labels.update(segmentation=("a", "b")),
         "the model: labels.segmentation: 2 names for 3 classes"),
        (lambda m: m.labels.update(segmentation="abc"),
         "the model: labels.segmentation: a list is expected here, not 'abc'"),
        (lambda m: m.labels.update(segmentation=("a", "b", 3)),
         "the model: labels.segmentation[2]: text is expected here, not 3"),
        (lambda m: m.labels.update(segmentation=("a", "b", "c\nd")),
         "labels.segmentation[2]: 'c\\nd' has characters that are not for one line of text"),
        (lambda m: m.labels.update(detection=("a",)),
         "the model: labels: unknown key 'detection'; known are"),
        (lambda m: setattr(m, "labels", [1]), "model.labels maps heads to class names; it is [1]"),
        (lambda m: setattr(m, "licence", 3), "the model: licence: text is expected here, not 3"),
        (lambda m: setattr(m, "preprocessing", {"size": 3}),
         "model.preprocessing is a zoo_core.Preprocessing, not {'size': 3}"),
        (lambda m: setattr(m, "preprocessing", zoo.Preprocessing(crop=-1)),
         "the model: preprocessing.crop: a number from 0.01 to 10 is expected here, not -1"),
        (lambda m: setattr(m, "preprocessing", zoo.Preprocessing(mean=(0.5,))),
         "the model: preprocessing.mean: 1 numbers for 3 channels of picture.channels"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_what_could_not_be_loaded_is_not_saved(
    spoil: Callable[[MultitaskModel], Any], message: str, tmp_path: Path
) -> None:
    model = build_tiny()
    spoil(model)
    with pytest.raises(SavedModelError) as caught:
        model.save_pretrained(tmp_path / "saved")
    assert message in str(caught.value)
    assert not (tmp_path / "saved").exists()


def test_an_option_that_json_would_change_is_refused(tmp_path: Path) -> None:
    backbone = CNNBackbone(18)
    decoder = UNetDecoder(backbone.get_channel_schedule(), 2)
    decoder.__dict__["_constructor_arguments"]["atrous"] = {1: 2}
    model = MultitaskModel(backbone, None, decoder, None, 2)
    with pytest.raises(SavedModelError, match=r"atrous=\{1: 2\} cannot be written as JSON"):
        model.save_pretrained(tmp_path)


def test_parts_within_parts_are_told_with_their_distribution(tmp_path: Path) -> None:
    options = {"decoder_channels": [8, 4], "skip_attention": "cbam"}
    model = zoo.build("timm/test_efficientnet+unet", seed=0, decoder=options)
    round_trip(model, tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    assert "zoo-cbam" in told["plugins"]
    assert told["options"]["decoder"]["skip_attention"] == "zoo-cbam:cbam"


def test_the_weights_and_their_licence_are_handed_on(lite0: Path, tmp_path: Path) -> None:
    model = zoo.build("timm/efficientnet_lite0", weights=lite0)
    model.licence = "apache-2.0"
    loaded = round_trip(model, tmp_path / "a")
    assert loaded.weights_source == "model.safetensors"  # where it lay is nobody's business
    again = round_trip(loaded, tmp_path / "b")
    assert (again.weights_source, again.licence) == ("model.safetensors", "apache-2.0")


def test_a_pretrained_backbone_put_in_by_hand_hands_its_licence_on(
    loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    save_file(zoo.build("resnet18", seed=0).backbone.state_dict(), tmp_path / "it.safetensors")
    loopback_hub.add("timm/resnet18.a1_in1k", {"model.safetensors": tmp_path / "it.safetensors"})
    model = MultitaskModel(CNNBackbone(18, pretrained=True), num_classes_classification=2)
    loaded = round_trip(model, tmp_path / "saved")
    assert loaded.licence == "apache-2.0"
    assert loaded.weights_source == "timm/resnet18.a1_in1k (main, unpinned)"


def test_nothing_is_loaded_onto_the_meta_device(tiny: Path) -> None:
    with torch.device("meta"):
        assert "there are no values to load on the meta device" in refusal(tiny)


def test_a_channel_schedule_is_a_tuple_with_strides() -> None:
    schedule = ChannelSchedule([8, 16], [8, 16])
    assert schedule == (8, 16)
    assert ChannelSchedule(schedule).strides == (8, 16)
    assert ChannelSchedule([8, 16]).strides == (4, 8)


FULL = """
import resource, sys, zoo_core as zoo
model = zoo.build("timm/test_resnet", seed=2, num_classes_classification=3)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    model.save_pretrained(sys.argv[1])
except zoo.ZooError as error:
    print(type(error).__name__, error)
"""


def test_what_was_saved_before_outlives_a_save_that_fails(tmp_path: Path) -> None:
    """Files may not grow beyond 100 kB in the child, as on a disk that is full."""
    folder = tmp_path / "model"
    model = zoo.build("timm/test_resnet", seed=1, num_classes_classification=3)
    model.save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, folder], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(f"SavedModelError {folder}: the model cannot be saved: ")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    MultitaskModel.from_pretrained(folder)
