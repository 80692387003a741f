"""The guide for plugin authors shows files that exist, and speaks of every hook."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zoo_core import hookspecs
from zoo_core.loader import HOOKS

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "birdhouse"
GUIDE = sorted((ROOT / "docs").glob("plugins*.md"))
BLOCK = re.compile(r"(?:^`([^`\n]+)`[^`\n]*:\n\n)?^```(py|toml|yaml)\n(.*?)^```", re.DOTALL | re.M)


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.name)
def test_all_code_shown_is_that_of_a_file(page: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for name, _, code in blocks:
        assert name, f"{page.name} does not say of which file this is:\n{code}"
        text = (EXAMPLE / name).read_text(encoding="utf-8")
        assert f"\n{code}" in f"\n{text}", f"{page.name}: {name} reads otherwise than\n{code}"


def test_every_module_of_the_example_is_shown() -> None:
    shown = {name for page in GUIDE for name, _, _ in BLOCK.findall(page.read_text("utf-8"))}
    files = {f"src/birdhouse/{path.name}" for path in (EXAMPLE / "src" / "birdhouse").glob("*.py")}
    assert files <= shown


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook: str) -> None:
    specification = getattr(hookspecs, hook)
    told = inspect.getdoc(specification) or ""
    assert len(told.splitlines()) > 2, f"{hook} says no more than a line"
    for argument in inspect.signature(specification).parameters:
        assert re.search(rf"^ +{argument}: ", told, re.MULTILINE), f"{hook} leaves out {argument}"
    reference = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    assert f"\n## {hook}\n\n`{hook}(" in reference


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_tried_by_an_installed_plugin(hook: str) -> None:
    """The tests of plugins write distributions, which pip installs; one of them implements it."""
    implementation = re.compile(rf"^@hookimpl(\(.*\))?\ndef {hook}\(", re.MULTILINE)
    texts = [path.read_text("utf-8") for path in (ROOT / "tests" / "plugins").glob("*.py")]
    assert any(implementation.search(text) for text in texts), f"no test implements {hook}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed in."""
    target: Path = tmp_path_factory.mktemp("example") / "installed"
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    no = ["--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([sys.executable, *pip, *no, target, EXAMPLE], check=True)
    return target


def test_weights_listed_for_a_name_of_a_source_are_its_default(installed: Path) -> None:
    code = """
from zoo_core.catalogue import registry
from zoo_core.weights.finding import find_entry
print(find_entry(registry.backbones["birdhouse/convmixer_1536_20_k9_p7"]).repository)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(installed), "ZOO_PLUGINS": "birdhouse"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("timm/convmixer_1536_20.in1k\n", "")
