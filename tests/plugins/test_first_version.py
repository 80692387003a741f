"""A wheel that was built when the plugin API was 1.0 still does all that it did."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import Installed

FIXTURES = Path(__file__).parent.parent / "fixtures"
WHEEL = FIXTURES / "first_plugin-1.0-py3-none-any.whl"
SOURCE = FIXTURES / "first-plugin" / "src"

USE = """
import torch, zoo_core as zoo
from zoo_core.explainability import Explainer
import first_plugin

options = {"num_classes_classification": 3, "num_classes_segmentation": 4, "seed": 1}
told = {}
model = zoo.build("first_net.ones+cbam+unet", **options)
told["ones"] = all(bool((v == 1).all()) for v in model.backbone.state_dict().values())
own = zoo.build(
    "first/wide16+first_gate@all+first_up", first_gate={"start": 0.5},
    decoder={"channels": 6}, **options,
)
inputs = torch.rand(2, 3, 70, 50)
output = own.eval()(inputs)
told["shapes"] = {head: list(logits.shape) for head, logits in output.items()}
output["segmentation"].sum().add(output["classification"].sum()).backward()
told["without_gradient"] = [n for n, p in own.named_parameters() if p.grad is None]
found = Explainer(zoo.build("resnet18", seed=1), ["first_gradient"]).explain(inputs)
[heatmap] = [found[name] for name in found]
told["heatmap"] = [list(heatmap.shape), bool(heatmap.max() > 0)]
own.save_pretrained("saved")
again = zoo.MultitaskModel.from_pretrained("saved").eval()
told["saved"] = all(again(inputs)[head].equal(own(inputs)[head]) for head in output)
told["built"] = first_plugin.BUILT
from zoo_core.models import attention, backbones, encoder_decoder
classes = backbones.FirstNet, attention.FirstGate, encoder_decoder.FirstUp
told["classes"] = [cls.__module__ for cls in classes]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("first") / "installed"
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile")
    where = ("--no-index", "--no-deps", "--target", str(folder), str(WHEEL))
    subprocess.run([sys.executable, *pip, *where], check=True)
    return Installed(folder=folder)


def test_the_wheel_is_the_one_that_was_built_then_from_what_stands_beside_it() -> None:
    digest = hashlib.sha256(WHEEL.read_bytes()).hexdigest()
    assert f"`{digest}`" in (FIXTURES / "README.md").read_text(encoding="utf-8")
    with zipfile.ZipFile(WHEEL) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
        files = {path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert inside == {path.relative_to(SOURCE).as_posix() for path in files}
        for path in files:
            assert wheel.read(path.relative_to(SOURCE).as_posix()) == path.read_bytes()


def test_it_is_listed_with_all_that_it_gives(installed: Installed) -> None:
    plugin = installed.status()["first-plugin"]
    assert (plugin["status"], plugin["api"], plugin["reason"]) == ("ok", "1.0", "")
    assert plugin["components"] == [
        "backbone:first_net",
        "attention:first_gate",
        "decoder:first_up",
        "explainer:first_gradient",
    ]
    assert plugin["sources"] == ["backbone:first/"]
    assert plugin["hooks"] == [
        "zoo_specs",
        "zoo_sources",
        "zoo_weights",
        "zoo_fetch_weights",
        "zoo_register_commands",
        "zoo_model_built",
    ]
    listed = installed.says("list", "backbone", "first*")
    assert "8-16-24-32" in listed
    assert "the same in any width: 2 names" in installed.says("list", "backbone")


def test_its_command_runs(installed: Installed) -> None:
    assert installed.says("first-tags", "first_network") == "ones\n"
    assert "first-tags" in installed.says("--help")


def test_its_parts_are_built_filled_explained_saved_and_told_of(installed: Installed) -> None:
    told = installed.evaluate(USE)
    gate = "first-plugin:first_gate"
    net, up = "first-plugin:first/wide16", "first-plugin:first_up"
    placed = f"{gate}@1+{gate}@2+{gate}@3+{gate}"
    assert told == {
        "ones": True,
        "shapes": {"classification": [2, 3], "segmentation": [2, 4, 70, 50]},
        "without_gradient": [],
        "heatmap": [[2, 70, 50], True],
        "saved": True,
        "built": [
            ["first-plugin:first_net.ones+zoo-cbam:cbam+zoo-unet:unet", "MultitaskModel"],
            [f"{net}+{gate}@all+{up}", "MultitaskModel"],
            ["zoo-resnet:resnet18", "MultitaskModel"],
            [f"{net}+{placed}+{up}", "MultitaskModel"],  # loading composes it again
        ],
        "classes": ["first_plugin.model"] * 3,
    }


def test_its_options_reach_it_from_the_command_line(installed: Installed) -> None:
    line = ("build", "first_net+first_gate+first_up", "--set", "first_gate.start=0.25", "--json")
    built = json.loads(installed.says(*line, "--image-size", "64"))
    assert built["recipe"] == (
        "first-plugin:first_net+first-plugin:first_gate+first-plugin:first_up"
    )
