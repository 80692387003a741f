"""The runs that docs/training.md shows, command by command; they take minutes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "training.md"


@pytest.mark.long
def test_the_runs_shown_reach_what_is_said_of_them(lite0: Path, tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Real runs")[2].partition("\n## ")[0]
    commands = "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    assert "efficientnet_lite0" in commands
    assert "resnet18+cbam+unet" in commands
    (tmp_path / "lite0.safetensors").symlink_to(lite0)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-e", "-c", commands], cwd=tmp_path, env=os.environ | {"PATH": path}, check=True
    )
    digits = json.loads((tmp_path / "digits-run" / "metrics.json").read_text())
    assert digits["classification"]["accuracy"] >= 0.97
    scenes = json.loads((tmp_path / "scenes-run" / "metrics.json").read_text())
    assert scenes["classification"]["accuracy"] >= 0.8
    assert scenes["segmentation"]["mean_iou"] >= 0.6
