"""The model card: facts, and a snippet that runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

import zoo_core as zoo
from zoo_core import MultitaskModel

FORMAT_1 = Path(__file__).parent / "fixtures" / "saved-format-1"


def python_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run(card: str, folder: Path, **environment: str) -> str:
    """Run a card's snippet in a folder; give what it prints."""
    [code] = python_blocks(card)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def model() -> MultitaskModel:
    return MultitaskModel.from_pretrained(FORMAT_1)


def test_it_says_what_is_known(model: MultitaskModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "my-model")
    card = ModelCard.load(tmp_path / "my-model" / "README.md")
    assert card.data.to_dict() == {
        "library_name": "zoo-core",
        "license": "apache-2.0",
        "tags": ["zoo", "image-classification", "image-segmentation"],
    }
    total = sum(p.numel() for p in model.parameters())
    part = sum(p.numel() for p in model.attention["2"].parameters())
    for line in (
        "# my-model",
        "`zoo-timm:timm/test_efficientnet+zoo-cbam:cbam@2+zoo-cbam:cbam@4+zoo-unet:unet`, composed "
        "with zoo-core 0.1.0.",
        f"| attention | `cbam@2` | zoo-cbam 0.1.0 | `reduction=8` | {part:,} |",
        f"| **all** |  |  |  | {total:,} |",
        "- classification: 4 classes: `ash`, `birch`, `cedar`, `döner`",
        "- segmentation: 3 classes: `ground`, `leaf`, `sky`",
        '| interpolation | `"bicubic"` |',
        "| size | `[48, 64]` |",
        "- type: float32",
        "- begun with: `tiny.safetensors`",
        "- licence: `apache-2.0`",
        "pip install zoo-core zoo-cbam zoo-timm zoo-unet",
    ):
        assert line in card.text.splitlines(), line


def test_it_says_nothing_that_is_not_known(tmp_path: Path) -> None:
    model = zoo.build("timm/test_efficientnet", seed=0, num_classes_classification=21)
    model.preprocessing = None
    model.labels = {"classification": tuple(f"class {number}" for number in range(21))}
    model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert "license" not in card.data.to_dict()
    assert card.data.tags == ["zoo", "image-classification"]
    assert "- classification: 21 classes: names in the file" in card.text
    assert "- licence: not known" in card.text
    assert "- begun with: no known weights" in card.text
    assert "does not say how pictures become its inputs" in card.text
    assert "segmentation" not in card.text


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("My: Own # Licence", {"license": "other", "license_name": "My: Own # Licence"}),
    ],
)
def test_any_licence_can_be_told(
    model: MultitaskModel, licence: str, told: dict[str, str], tmp_path: Path
) -> None:
    model.licence = licence
    model.save_pretrained(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert {key: data.get(key) for key in ("license", "license_name")} == {
        "license_name": None
    } | told
    assert MultitaskModel.from_pretrained(tmp_path).licence == licence


def test_names_stay_what_they_are(model: MultitaskModel, tmp_path: Path) -> None:
    model.labels = {"segmentation": ("a|b", "`c`", "</td> **d**")}
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- segmentation: 3 classes: `a¦b`, `ˋcˋ`, `</td> **d**`" in card


@pytest.mark.parametrize("name", ["my-model", 'with "quotes" and ünïcode'])
def test_its_snippet_runs_beside_the_folder(
    model: MultitaskModel, name: str, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / name)
    shown = run((tmp_path / name / "README.md").read_text(encoding="utf-8"), tmp_path)
    assert shown == "classification (1, 4)\nsegmentation (1, 3, 48, 64)\n"


def test_its_snippet_runs_for_other_types_and_channels(tmp_path: Path) -> None:
    model = zoo.build("timm/test_efficientnet", seed=0, in_channels=1, image_size=(40, 56))
    model.preprocessing = None
    model.to(torch.bfloat16).save_pretrained(tmp_path / "net")
    card = (tmp_path / "net" / "README.md").read_text()
    assert "torch.rand(1, 1, 40, 56, dtype=torch.bfloat16)" in card
    assert run(card, tmp_path) == "logits (1, 1000)\n"


def test_a_card_of_ones_own_is_kept(model: MultitaskModel, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_the_folder_that_one_is_in_has_a_name(
    model: MultitaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model.save_pretrained(".")
    assert 'from_pretrained("here")' in Path("README.md").read_text()
