"""The catalogue imports neither torch nor smp, and importing smp warns of nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import zoo_core as zoo

from .conftest import DECODERS

HEAVY = {"torch", "torchvision", "timm", "numpy", "segmentation_models_pytorch", "zoo_smp.model"}

COMMAND = """
import atexit, pathlib, sys
modules = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: modules.write_text(chr(10).join(sys.modules)))
from zoo_core.cli import main
main()
"""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list decoder", 0),
        ("list decoder smp/*", 0),
        ("info smp/unet", 0),
        ("build resnet18+smp/unett", 2),
        ("build resnet18+smp/unet --set smp/unet.decoder_atention_type=scse", 2),
    ],
)
def test_the_catalogue_is_light(line: str, code: int, tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    finished = subprocess.run(
        [sys.executable, "-c", COMMAND, modules, *line.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == code, finished
    imported = set(modules.read_text().split())
    assert "zoo_smp" in imported
    assert not HEAVY & imported
    if line.endswith("smp/*"):
        assert all(f"smp/{name} " in finished.stdout for name in DECODERS)


def test_a_decoder_is_built_without_a_warning() -> None:
    code = "from zoo_smp.model import SmpDecoder; SmpDecoder([8, 16], 2, 'unet')"
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr


def test_every_option_has_its_line() -> None:
    for name in DECODERS:
        spec = zoo.registry.decoders[f"smp/{name}"]
        assert spec.options
        assert all(line and "\n" not in line for line in spec.options.values())
        assert spec.summary
