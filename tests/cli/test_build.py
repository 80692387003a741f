"""``zoo build``: what it shows, counts, sets and saves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import ResNet50_Weights

import zoo_core
from zoo_core import MultitaskModel
from zoo_core.models.attention import CBAM

Zoo = Callable[..., CompletedProcess[str]]
Invoke = Callable[..., Any]
Table = Callable[[str], list[list[str]]]

RECIPE = "resnet50+cbam+unet"
SMALL = ("resnet18+cbam+unet", "--image-size", 64)


@pytest.fixture(scope="module")
def main_job(zoo: Zoo) -> str:
    """What ``zoo build resnet50+cbam+unet`` prints."""
    finished = zoo("build", RECIPE)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_the_table_has_every_stage_with_its_shape(main_job: str, table: Table) -> None:
    header, *rows = table(main_job)
    assert header == ["stage", "name", "output", "parameters", "GFLOP"]
    assert [row[:3] if row[0] != "input" else row for row in rows[:-1]] == [
        ["input", "1×3×224×224"],
        ["backbone", "resnet50", "1×2048×7×7"],
        ["map", "1, stride 4", "1×256×56×56"],
        ["map", "2, stride 8", "1×512×28×28"],
        ["map", "3, stride 16", "1×1024×14×14"],
        ["map", "4, stride 32", "1×2048×7×7"],
        ["attention", "cbam@4", "1×2048×7×7"],
        ["decoder", "unet", "1×21×224×224"],
        ["head", "classification", "1×1000"],
    ]


def test_the_table_adds_up_to_known_numbers(main_job: str, table: Table) -> None:
    rows = {row[0]: row for row in table(main_job)[1:] if row[0] not in ("map", "input")}
    parameters = {stage: int(row[-2].replace(",", "")) for stage, row in rows.items()}
    assert parameters["backbone"] == 23_508_032
    assert parameters["head"] == 2048 * 1000 + 1000
    assert (
        parameters["backbone"] + parameters["head"] == ResNet50_Weights.DEFAULT.meta["num_params"]
    )
    total = parameters.pop("total")
    assert total == sum(parameters.values())
    model = zoo_core.build(RECIPE)
    assert total == sum(parameter.numel() for parameter in model.parameters())
    operations = float(rows["backbone"][-1]) + float(rows["head"][-1])
    multiplications = ResNet50_Weights.DEFAULT.meta["_ops"]
    assert operations == pytest.approx(2 * multiplications, rel=0.002)


def test_below_the_table_stand_recipe_weights_and_time(main_job: str) -> None:
    recipe, weights, time = main_job.partition("\n\n")[2].splitlines()
    assert recipe == "recipe   zoo-resnet:resnet50+zoo-cbam:cbam+zoo-unet:unet"
    assert weights == "weights  random initial values; --pretrained loads weights"
    assert re.fullmatch(r"time     ready in \d+\.\d\d s, one forward \d+\.\d\d s", time)


def test_json_says_what_the_table_says(invoke_json: Invoke, main_job: str, table: Table) -> None:
    told = invoke_json("build", RECIPE)
    assert told["recipe"] == "zoo-resnet:resnet50+zoo-cbam:cbam+zoo-unet:unet"
    assert told["input"] == [1, 3, 224, 224]
    assert (told["weights"], told["saved"]) == (None, None)
    assert told["build_seconds"] > 0 < told["forward_seconds"]
    shown = [row[:3] for row in table(main_job)[2:-1]]
    shapes = ["×".join(map(str, stage["shape"])) for stage in told["stages"]]
    assert shown == [
        [stage["stage"], stage["name"], shape]
        for stage, shape in zip(told["stages"], shapes, strict=True)
    ]
    assert told["parameters"] == sum(stage["parameters"] for stage in told["stages"])
    assert told["flops"] == sum(stage["flops"] for stage in told["stages"])


@pytest.mark.parametrize(
    ("recipe", "options", "size"),
    [
        ("resnet18", {}, (64, 64)),
        ("resnet18+cbam@all+unet", {}, (97, 131)),
        ("resnet18+cbam@1,3+unet", {"num_classes_classification": 0}, (64, 96)),
        ("resnet18+cbam+unet", {"num_classes_segmentation": 0}, (64, 64)),
        ("timm/test_vit+unet", {}, (160, 160)),
        ("timm/test_convnext", {}, (96, 96)),
    ],
)
def test_operations_and_parameters_are_torchs_own(
    recipe: str, options: dict[str, Any], size: tuple[int, int], invoke_json: Invoke
) -> None:
    flags = {"num_classes_classification": "--classes", "num_classes_segmentation": "--seg-classes"}
    given = [word for name, value in options.items() for word in (flags[name], value)]
    told = invoke_json("build", recipe, "--image-size", "{}x{}".format(*size), *given)
    model = zoo_core.build(recipe, image_size=size, **options).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, *size))
    assert told["flops"] == counter.get_total_flops() > 0
    assert told["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def stages(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [stage for stage in told["stages"] if stage["stage"] == kind]


def test_sizes_need_not_be_square_or_even(invoke_json: Invoke) -> None:
    told = invoke_json("build", "resnet18+unet", "--image-size", "97x131")
    assert told["input"] == [1, 3, 97, 131]
    maps = [stage["shape"][2:] for stage in stages(told, "map")]
    assert maps == [[25, 33], [13, 17], [7, 9], [4, 5]]
    assert stages(told, "decoder")[0]["shape"] == [1, 21, 97, 131]


@pytest.mark.parametrize("channels", [1, 5])
def test_pictures_may_have_other_channels(channels: int, invoke_json: Invoke) -> None:
    told = invoke_json("build", "resnet18", "--in-channels", channels, "--image-size", 64)
    assert told["input"] == [1, channels, 64, 64]
    usual = 11_176_512
    assert stages(told, "backbone")[0]["parameters"] == usual + (channels - 3) * 64 * 7 * 7


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ([], {"head": [1, 1000], "decoder": [1, 21, 64, 64]}),
        (["--classes", 7], {"head": [1, 7], "decoder": [1, 21, 64, 64]}),
        (["--seg-classes", 2], {"head": [1, 1000], "decoder": [1, 2, 64, 64]}),
        (["--classes", 0], {"decoder": [1, 21, 64, 64]}),
        (["--seg-classes", 0], {"head": [1, 1000]}),
    ],
)
def test_classes_choose_the_heads(
    options: list[object], outputs: dict[str, list[int]], invoke_json: Invoke
) -> None:
    told = invoke_json("build", *SMALL, *options)
    shown = {stage["stage"]: stage["shape"] for stage in told["stages"]}
    assert {kind: shape for kind, shape in shown.items() if kind in ("head", "decoder")} == outputs


@pytest.mark.parametrize("part", ["cbam", "attention", "attention.0"])
def test_a_part_is_set_by_name_role_or_position(part: str, invoke_json: Invoke) -> None:
    told = invoke_json("build", *SMALL, "--set", f"{part}.reduction=8")
    (attention,) = stages(told, "attention")
    cbam = CBAM(512, reduction=8)
    assert attention["parameters"] == sum(parameter.numel() for parameter in cbam.parameters())


def test_each_attention_is_set_by_its_position(invoke_json: Invoke) -> None:
    settings = ["--set", "attention.1.reduction=8", "--set", "attention.0.reduction=32"]
    told = invoke_json("build", "resnet18+cbam+cbam", "--image-size", 64, *settings)
    counts = [stage["parameters"] for stage in stages(told, "attention")]
    expected = [CBAM(512, reduction=reduction) for reduction in (32, 8)]
    assert counts == [sum(p.numel() for p in cbam.parameters()) for cbam in expected]


def test_an_option_may_change_the_maps(invoke_json: Invoke) -> None:
    told = invoke_json("build", *SMALL, "--set", "backbone.output_stride=16")
    assert [stage["name"] for stage in stages(told, "map")][-1] == "4, stride 16"
    assert [stage["shape"][-1] for stage in stages(told, "map")] == [16, 8, 4, 4]


def test_a_setting_may_be_a_list(invoke_json: Invoke) -> None:
    told = invoke_json("build", *SMALL, "--set", "unet.decoder_channels=[64, 48, 32, 16]")
    model = zoo_core.build("resnet18+unet", decoder={"decoder_channels": [64, 48, 32, 16]})
    assert model.decoder is not None
    (decoder,) = stages(told, "decoder")
    assert decoder["parameters"] == sum(p.numel() for p in model.decoder.parameters())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("word", "word"),
        ('"8"', "8"),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("", None),
        ("a=b", "a=b"),
    ],
)
def test_values_are_read_as_one_writes_them(text: str, value: object) -> None:
    from zoo_core.cli.options import parse_settings

    assert parse_settings((f"part.option={text}",)) == {"part": {"option": value}}


@pytest.fixture(scope="module")
def saved(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a child has saved a model with two heads in."""
    folder = tmp_path_factory.mktemp("models") / "deep" / "mine"
    options = ["--classes", 5, "--seg-classes", 4, "--image-size", "64x96", "--seed", 7]
    finished = zoo("build", "resnet18+cbam+unet", *options, "--save", folder)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[-1] == f"saved    {folder}"
    return folder


def test_a_saved_model_gives_the_same_numbers(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    built = zoo_core.build(
        "resnet18+cbam+unet",
        num_classes_classification=5,
        num_classes_segmentation=4,
        image_size=(64, 96),
        seed=7,
    ).eval()
    loaded = MultitaskModel.from_pretrained(saved)
    assert loaded.preprocessing == built.preprocessing
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected, given = built(images), loaded(images)
    for head in ("classification", "segmentation"):
        assert torch.equal(given[head], expected[head])


def test_a_saved_model_may_be_saved_over(saved: Path, tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / "again"
    for classes in (2, 3):
        invoke("build", "resnet18", "--classes", classes, "--image-size", 32, "--save", folder)
    assert MultitaskModel.from_pretrained(folder).num_classes_classification == 3


def test_a_seed_fixes_the_weights(tmp_path: Path, invoke: Invoke) -> None:
    for name, seed in {"one": 1, "same": 1, "other": 2}.items():
        invoke("build", *SMALL, "--seed", seed, "--save", tmp_path / name)
    one, same, other = (
        load_file(tmp_path / name / "model.safetensors") for name in ("one", "same", "other")
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    drawn = [name for name in one if name.endswith("weight") and one[name].dim() > 1]
    assert len(drawn) > 20
    assert not any(torch.equal(one[name], other[name]) for name in drawn)
