"""Throw-away distributions, really built and installed, and child processes that see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

HEADER = """
from zoo_core import Source, Spec, WeightsEntry, hookimpl
ZOO_API = (1, 0)
"""


@dataclass(frozen=True, kw_only=True)
class Dist:
    """A distribution with one package.

    Attributes:
        name: Name of the distribution; its package is called so too, hyphens as underscores.
        code: The package's ``__init__``, after ``header``.
        header: The imports and the API version that most plugins begin with.
        version: Version of the distribution.
        requires: What it says it requires.
        extras: What it says its extras require.
        files: The package's other files, name to text.
        entry_points: Name to value; the package, by default.
    """

    name: str
    code: str = ""
    header: str = HEADER
    version: str = "1.0"
    requires: tuple[str, ...] = ("zoo-core>=0.1",)
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    entry_points: Mapping[str, str] | None = None

    @property
    def package(self) -> str:
        return self.name.replace("-", "_").replace(".", "_")

    def write(self, root: Path) -> None:
        """Write the source tree."""
        package = root / self.package
        package.mkdir(parents=True)
        for name, text in {**self.files, "__init__.py": self.header + self.code}.items():
            (package / name).write_text(text)
        points = self.entry_points or {self.package: self.package}
        lines = [
            "[build-system]",
            'requires = ["hatchling"]',
            'build-backend = "hatchling.build"',
            "[project]",
            f"name = {json.dumps(self.name)}",
            f"version = {json.dumps(self.version)}",
            f"dependencies = {json.dumps(self.requires)}",
            "[project.optional-dependencies]",
            *(f"{extra} = {json.dumps(needs)}" for extra, needs in self.extras.items()),
            '[project.entry-points."zoo.plugins"]',
            *(f"{name} = {json.dumps(value)}" for name, value in points.items()),
            "[tool.hatch.build.targets.wheel]",
            f"packages = [{json.dumps(self.package)}]",
        ]
        (root / "pyproject.toml").write_text("\n".join(lines))


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A folder that distributions are installed in, and processes that have it on their path.

    Attributes:
        folder: The folder.
        flags: Flags of the interpreter.
    """

    folder: Path
    flags: tuple[str, ...] = ()

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ZOO_")}
        return subprocess.run(
            [sys.executable, *self.flags, *arguments],
            env={
                **clean,
                "PYTHONPATH": str(self.folder),
                "XDG_CONFIG_HOME": str(self.folder.parent / "config"),
                **environment,
            },
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def zoo(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``zoo``."""
        return self.python("-m", "zoo_core", *arguments, **environment)

    def says(self, *arguments: str, **environment: str) -> str:
        """Run ``zoo``, which must succeed and leave stderr empty, and give what it prints."""
        done = self.zoo(*arguments, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def refusal(self, *arguments: str, code: int = 1, **environment: str) -> str:
        """Run ``zoo``, which must fail with this exit code, and give its one line."""
        done = self.zoo(*arguments, **environment)
        assert done.returncode == code, done.stderr
        *usage, last = done.stderr.splitlines()
        assert all(line.startswith(("Usage:", "Try ")) or not line for line in usage), usage
        return last

    def evaluate(self, code: str, **environment: str) -> Any:
        """Run code that ends by printing JSON, which is given; its stderr must stay empty."""
        done = self.python("-c", f"import json, zoo_core as zoo\n{code}", **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout)

    def status(self, **environment: str) -> dict[str, dict[str, Any]]:
        """What ``zoo plugins --json`` says of each distribution."""
        done = self.zoo("plugins", "--json", **environment)
        assert done.returncode == 0, done.stderr
        return {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)}


Install = Callable[..., Installed]


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Build distributions with hatchling, and let pip install them into one new folder."""

    def installed(*distributions: Dist) -> Installed:
        root = tmp_path_factory.mktemp("plugins")
        wheels = []
        for number, distribution in enumerate(distributions):
            source = root / f"source{number}"
            distribution.write(source)
            wheels += WheelBuilder(str(source)).build(directory=str(root / "wheels"))
        pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile")
        where = ("--no-index", "--no-deps", "--target", str(root / "installed"))
        subprocess.run([sys.executable, *pip, *where, *wheels], check=True)
        return Installed(folder=root / "installed")

    return installed


def remedy(name: str) -> str:
    """Give what a message of a failure ends with."""
    return f"('zoo uninstall {name}' removes it, ZOO_BLOCK_PLUGINS={name} skips it)"


def one_spec(name: str, kind: str = "backbone", more: str = "") -> str:
    """Give a catalogue of one component whose class is never imported."""
    return f"""
@hookimpl
def zoo_specs():
    return [Spec(kind={kind!r}, name={name!r}, target="absent.module:Absent", {more})]
"""


def warning(name: str, reason: str) -> str:
    """Give the line that a failed plugin costs."""
    return f"zoo: plugin {name} 1.0 failed to load: {reason} {remedy(name)}"


PARTS = """
import torch
from torch import nn
from zoo_core import Attention, Backbone, ChannelSchedule, Decoder, Features

class Net(Backbone):
    def __init__(self, in_channels=3, width=8):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, stride=4, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
    def forward(self, x):
        first = self.first(x)
        return [first, self.second(first)]
    def get_channel_schedule(self):
        width = self.first.out_channels
        return ChannelSchedule((width, 2 * width), (4, 8))
"""
"""The target module of plugins whose components are built: a backbone that is right."""

FIRST_PARTY = (
    "zoo-attention", "zoo-attention-maps", "zoo-captum", "zoo-cbam", "zoo-decoders", "zoo-gradcam",
    "zoo-resnet", "zoo-saliency", "zoo-smp", "zoo-timm", "zoo-unet", "zoo-vit",
)  # fmt: skip
