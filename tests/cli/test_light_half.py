"""Commands that need no model import no library of the heavy half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "PIL",
    "huggingface_hub",
    "matplotlib",
    "safetensors",
}

# Runs the command line of sys.argv[2:], and writes what it imported to the file sys.argv[1].
COMMAND = """
import atexit, pathlib, sys
modules = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: modules.write_text(chr(10).join(sys.modules)))
from zoo_core.cli import main
main()
"""
IMPORT = """
import pathlib, sys
import zoo_core
assert zoo_core.list_components()
assert zoo_core.registry.backbones["resnet50"]
pathlib.Path(sys.argv[1]).write_text(chr(10).join(sys.modules))
"""


def imported(
    folder: Path,
    *arguments: str,
    code: str = COMMAND,
    exit_code: int = 0,
    of: set[str] = HEAVY,
    **environment: str,
) -> set[str]:
    """Give the heavy libraries that a child process had imported when it ended."""
    modules = folder / "modules"
    finished = subprocess.run(
        [sys.executable, "-c", code, modules, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == exit_code, finished
    names = set(modules.read_text().split())
    assert "zoo_core" in names
    return of & names


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "list",
        "list timm/*",
        "list decoder --json",
        "info resnet50",
        "info timm/resnet50",
        "info multitask-small",
        "list model",
        "train --help",
        "evaluate --help",
        "explain --help",
        "data make --help",
        "info timm/resnet50 --json",
        "plugins",
        "completion bash",
        "build --help",
        "predict --help",
        "data --help",
        "data check --help",
        "weights list --help",
    ],
)
def test_commands_about_the_catalogue_are_light(line: str, tmp_path: Path) -> None:
    assert imported(tmp_path, *line.split()) == set()


def test_named_models_are_listed_without_a_plugin(tmp_path: Path) -> None:
    plugins = {"zoo_resnet", "zoo_cbam", "zoo_timm"}
    assert imported(tmp_path, "list", "decoder", of=plugins) == plugins
    assert imported(tmp_path, "list", "model", of=plugins) == set()


@pytest.mark.parametrize(
    "line",
    [
        "build resnet18+cbam+unet --image-size 64",
        "build vit_tiny+se+upernet --image-size 64",
        "predict resnet18+unet --image-size 32 photo.png",
    ],
)
def test_torchs_compiler_and_torchvision_are_for_those_who_use_them(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take as long to import as torch itself."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("photo.png")
    slow = {"torch", "torch._dynamo", "torchvision", "sympy", "timm", "matplotlib", "captum"}
    assert imported(tmp_path, *line.split(), of=slow) == {"torch"}


@pytest.mark.parametrize("line", ["weights list", "weights list --json", "weights path vit_base"])
def test_a_look_at_the_cache_needs_the_hubs_client_alone(line: str, tmp_path: Path) -> None:
    code = int("path" in line)
    home = str(tmp_path / "home")
    assert imported(tmp_path, *line.split(), exit_code=code, HF_HOME=home) == {"huggingface_hub"}


@pytest.mark.parametrize(
    "line",
    [
        "build resnet50+nosuch",
        "build timm/nosuch",
        "build resnet50.nosuch",
        "build resnet50+cbam@9+unet",
        "build resnet50 --nosuch",
        "build resnet50 --image-size 1x2x3",
        "build resnet50+cbam --set cbam.reductin=8",
        "build resnet50 --classes 0",
        "build multitask-small --set cbam.reductin=8",
        "build resnet50 --seg-classes 4",
        "predict resnet50+nosuch cat.png",
        "list nosuch",
        "info nosuch",
        "weights list nosuch*",
        "weights prune",
    ],
)
def test_refusals_are_light(line: str, tmp_path: Path) -> None:
    assert imported(tmp_path, *line.split(), exit_code=2) == set()


@pytest.mark.parametrize(
    ("words", "shell"),
    [
        ("zoo build resnet50+", "bash"),
        ("zoo info timm/resnet1", "zsh"),
        ("zoo predict resn", "fish"),
        ("zoo weights pull resnet50.a", "bash"),
    ],
)
def test_completion_is_light(words: str, shell: str, tmp_path: Path) -> None:
    place = words.split()[-1] if shell == "fish" else str(len(words.split()) - 1)
    found = imported(
        tmp_path, _ZOO_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=place
    )
    assert found == set()


def test_the_python_catalogue_is_light(tmp_path: Path) -> None:
    assert imported(tmp_path, code=IMPORT) == set()


def test_building_is_not_light(tmp_path: Path) -> None:
    """The probe above sees what it should."""
    assert {"torch", "numpy"} <= imported(tmp_path, "build", "resnet18", "--image-size", "32")
