"""Loading: every tensor of file and model is accounted for, or nothing is changed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core.errors import WeightsError
from zoo_core.models.backbones import CNNBackbone, TimmBackbone
from zoo_core.weights import blank, built_for_loading, classes_in, find_entry, load
from zoo_core.weights.arranging import adapt_input


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model("resnet18").state_dict())


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(tensors, path)
    return path


def test_a_backbone_gets_every_value_and_the_classifier_is_dropped(
    file: Path, tensors: dict[str, Tensor]
) -> None:
    backbone = CNNBackbone(18)
    report = load(backbone, file, layout="timm")
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, tensors[name])
    assert report.share == 1
    assert {fate.name for fate in report.loaded} == set(backbone.state_dict())
    assert {fate.name for fate in report.dropped} == {"fc.weight", "fc.bias"}
    assert {fate.reason for fate in report.dropped} == {"this module has no classification head"}
    assert report.lines() == [
        f"100.0% of the model's values come from {file}",
        f"loaded: 120 tensors, {sum(t.numel() for t in backbone.state_dict().values()):,} values",
        "dropped: fc.bias and fc.weight, 513,000 values (this module has no classification head)",
    ]


def test_a_timm_backbone_is_filled_from_timms_own_file(
    file: Path, tensors: dict[str, Tensor]
) -> None:
    backbone = TimmBackbone("resnet18")
    load(backbone, file)
    assert torch.equal(backbone.model.conv1.weight, tensors["conv1.weight"])


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_the_first_convolution_is_adapted_as_timm_does(
    channels: int, file: Path, tensors: dict[str, Tensor]
) -> None:
    backbone = CNNBackbone(18, in_channels=channels)
    report = load(backbone, file)
    expected = adapt_input_conv(channels, tensors["conv1.weight"])
    torch.testing.assert_close(backbone.conv1.weight.detach(), expected)
    [fate] = report.adapted
    assert (fate.name, fate.reason) == ("conv1.weight", f"3 → {channels} input channels")


def test_averaged_channels_of_a_grey_picture_keep_their_activations() -> None:
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapt_input(weight, 1)[:, 0], weight.sum(1))
    torch.testing.assert_close(adapt_input(weight, 6).sum(1), weight.sum(1))


def test_the_model_report_names_every_tensor_once(file: Path) -> None:
    model = zoo.build("resnet18+cbam+unet", weights=file, num_classes_classification=10)
    report = model.load_report
    assert report is not None
    named = [
        fate.name for group in (report.loaded, report.adapted, report.random) for fate in group
    ]
    assert sorted(named) == sorted(model.state_dict())
    reasons = {fate.name: fate.reason for fate in report.dropped}
    assert reasons["fc.weight"] == "fc.weight is [1000, 512], and the head has [10, 512]"
    assert reasons["fc.bias"] == reasons["fc.weight"]


def test_the_head_is_filled_when_the_classes_agree(file: Path, tensors: dict[str, Tensor]) -> None:
    model = zoo.build("resnet18", weights=file)
    assert model.classifier is not None
    assert model.num_classes_classification == 1000
    assert torch.equal(model.classifier.weight, tensors["fc.weight"])
    assert model.labels["classification"][281] == "tabby"
    reference = timm.create_model("resnet18").eval()
    reference.load_state_dict(tensors)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), reference(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fc__bias": None}, "fc.bias is in the model but not in the file"),
        ({"fc__more": torch.zeros(2)}, "fc.more is in the file but not in the model"),
        ({"fc__bias": torch.zeros(1000, dtype=torch.int64)}, "fc.bias is torch.int64 in the file"),
    ],
)
def test_a_classifier_is_taken_whole_or_not_at_all(
    changes: dict[str, Any], problem: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "half.safetensors"
    save_file(changed(tensors, **changes), path)
    with pytest.raises(WeightsError) as caught:
        zoo.build("resnet18", weights=path)
    assert str(caught.value) == f"{path}: does not fit CNNBackbone: {problem}"


def test_a_local_file_is_under_nobodys_licence(file: Path) -> None:
    model = zoo.build("resnet18", weights=file)
    assert model.licence is None
    assert model.preprocessing == find_entry(zoo.registry.backbones["resnet18"]).preprocessing


def test_parts_without_weights_start_the_same_with_and_without_weights(file: Path) -> None:
    recipe = "resnet18+cbam@all+unet"
    plain = zoo.build(recipe, seed=3).state_dict()
    loaded = zoo.build(recipe, seed=3, weights=file).state_dict()
    others = [name for name in plain if not name.startswith(("backbone.", "classifier."))]
    assert len(others) > 50
    assert all(torch.equal(plain[name], loaded[name]) for name in others)


def changed(tensors: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    result = dict(tensors)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del result[key]
        else:
            result[key] = value
    return result


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bn1__weight": None}, "bn1.weight is in the model but not in the file"),
        ({"extra": torch.zeros(1)}, "extra is in the file but not in the model"),
        ({"bn1__weight": torch.ones(65)}, "bn1.weight is [65] in the file and [64] here"),
        ({"conv1__weight": torch.zeros(64, 3, 3, 3)},
         "conv1.weight is [64, 3, 3, 3] in the file and [64, 3, 7, 7] here"),
        ({"bn1__weight": torch.ones(64, dtype=torch.int64)},
         "bn1.weight is torch.int64 in the file and torch.float32 here"),
    ],
)  # fmt: skip
def test_anything_unexplained_fails_and_changes_nothing(
    changes: dict[str, Any], problem: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "wrong.safetensors"
    save_file(changed(tensors, **changes), path)
    backbone = CNNBackbone(18)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load(backbone, path)
    assert str(caught.value) == f"{path}: does not fit CNNBackbone: {problem}"
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_missing_batch_counter_is_told_and_not_an_error(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "old.safetensors"
    save_file(changed(tensors, bn1__num_batches_tracked=None), path)
    [fate] = load(CNNBackbone(18), path).random
    assert (fate.name, fate.reason) == (
        "bn1.num_batches_tracked", "a counter, which starts at zero",
    )  # fmt: skip


def test_half_precision_files_fill_float_models(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, path)
    backbone = CNNBackbone(18)
    load(backbone, path)
    assert backbone.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(backbone.conv1.weight, tensors["conv1.weight"].half().float())


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, file: Path) -> None:
    def refusal(path: Path, **options: Any) -> str:
        with pytest.raises(WeightsError) as caught:
            load(CNNBackbone(18), path, **options)
        return str(caught.value)

    missing = tmp_path / "none.safetensors"
    assert refusal(missing) == f"{missing}: there is no such file"
    pickled = tmp_path / "model.pth"
    torch.save({}, pickled)
    assert refusal(pickled) == f"{pickled}: weights are read from .safetensors files only"
    disguised = tmp_path / "disguised.safetensors"
    disguised.write_bytes(pickled.read_bytes())
    assert refusal(disguised).startswith(f"{disguised}: this is no readable safetensors file: ")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    assert refusal(cut).startswith(f"{cut}: this is no readable safetensors file: ")
    assert refusal(file, layout="hf-vit") == (
        f"{file}: CNNBackbone cannot read layout 'hf-vit'; it reads timm, torchvision"
    )


def test_a_blank_model_takes_the_values_over(file: Path) -> None:
    state = torch.get_rng_state()
    with blank():
        backbone = CNNBackbone(18)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(tensor.is_meta for tensor in backbone.state_dict().values())
    backbone.conv1.requires_grad_(False)
    filled = CNNBackbone(18)
    report = load(backbone, file)
    assert load(filled, file) == report
    expected = filled.state_dict()
    for name, tensor in backbone.state_dict(keep_vars=True).items():
        assert torch.equal(tensor, expected[name]), name
        assert isinstance(tensor, nn.Parameter) == (name in dict(filled.named_parameters()))
    assert not backbone.conv1.weight.requires_grad
    assert backbone.layer1[0].conv1.weight.requires_grad


def test_what_parameters_are_marked_with_stays(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    save_file(nn.Linear(2, 2).state_dict(), file)
    with blank():
        linear = nn.Linear(2, 2)
    linear.weight.no_weight_decay = True  # type: ignore[attr-defined]
    load(linear, file)
    assert linear.weight.no_weight_decay  # type: ignore[attr-defined]


def test_nothing_is_filled_within_the_meta_device(file: Path) -> None:
    with torch.device("meta"), pytest.raises(WeightsError, match="CNNBackbone is on the meta"):
        load(CNNBackbone(18), file)


class Beside(nn.Module):
    """Has a value beside its state dict."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        if where == "attribute":
            self.scale = torch.ones(2)
        elif where == "list":
            self.scales = [{"first": torch.ones(2)}]
        elif where == "buffer":
            self.register_buffer("scale", torch.ones(2), persistent=False)
        elif where == "tied":
            self.other = self.linear
        elif where == "lazy":
            self.other = nn.LazyLinear(2)
        elif where == "object":
            self.holder = SimpleNamespace(scale=torch.ones(2))
        elif where == "partial":
            self.scaled = partial(torch.mul, torch.ones(2))
        elif where == "closure":
            scale = torch.ones(2)
            self.scaled = lambda x: x * scale
        elif where == "hook":
            self.linear.weight.register_hook(torch.clone)
        elif where == "item":
            self.size = int(torch.ones(1).item())


@pytest.mark.parametrize(
    "where",
    ["attribute", "list", "object", "partial", "closure", "buffer", "tied", "lazy", "hook", "item"],
)
def test_what_cannot_be_blank_is_built_as_always(where: str) -> None:
    module = built_for_loading(lambda: Beside(where))
    assert not any(parameter.is_meta for parameter in module.parameters())
    assert built_for_loading(lambda: Beside("nowhere")).linear.weight.is_meta


def test_blank_modules_that_a_file_cannot_fill_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.safetensors"
    save_file(nn.Linear(2, 2).state_dict(), file)
    with blank():
        module = Beside("buffer")
    with pytest.raises(WeightsError, match="Beside is on the meta device and cannot be filled"):
        load(module, file)


def test_the_rest_of_a_model_starts_the_same_with_and_without_weights(file: Path) -> None:
    options: dict[str, Any] = {"seed": 3, "num_classes_classification": 7}
    plain = zoo.build("resnet18+cbam@all+unet", **options).state_dict()
    filled = zoo.build("resnet18+cbam@all+unet", weights=file, **options).state_dict()
    differing = {name for name in plain if not torch.equal(plain[name], filled[name])}
    assert differing
    assert {name.partition(".")[0] for name in differing} == {"backbone"}


@pytest.mark.parametrize(
    "recipe", ["resnet18", "timm/resnet18", "timm/swin_tiny_patch4_window7_224"]
)
def test_a_filled_model_is_the_same_blank_or_not(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = recipe.rpartition("/")[2]
    file = tmp_path / "model.safetensors"
    save_file(timm.create_model(name).state_dict(), file)
    first = zoo.build(recipe, weights=file, seed=1)
    monkeypatch.setattr("zoo_core.compose.fillable", lambda module: False)
    second = zoo.build(recipe, weights=file, seed=1)
    assert first.load_report == second.load_report
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(first.eval()(images), second.eval()(images))
    first.train()(images.repeat(2, 1, 1, 1)).sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())


def test_the_number_of_classes_is_read_from_the_file(file: Path, lite0: Path) -> None:
    assert classes_in(file, CNNBackbone(18)) == 1000
    assert classes_in(lite0, TimmBackbone("efficientnet_lite0")) == 1000


def test_entries_are_found_by_tag_and_by_default() -> None:
    resnet50 = zoo.registry.backbones["resnet50"]
    assert find_entry(resnet50).name == "zoo-resnet:resnet50.a1_in1k"
    assert find_entry(resnet50, "tv_in1k").repository == "timm/resnet50.tv_in1k"
    lite0 = zoo.registry.backbones["timm/efficientnet_lite0"]
    assert find_entry(lite0).repository == "timm/efficientnet_lite0.ra_in1k"
    with pytest.raises(
        WeightsError, match="'resnet50' has no weights 'x'; it has a1_in1k, tv_in1k"
    ):
        find_entry(resnet50, "x")
