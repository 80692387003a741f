"""Every example of the documentation runs, and the outputs shown are real."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from zoo_core.catalogue import registry
from zoo_core.grammar import parse
from zoo_core.manifest import read_manifest

ROOT = Path(__file__).parent.parent


def load_refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = load_refresh()


def without_times(text: str) -> str:
    """Blank out what differs from run to run or machine to machine: times, rounding, losses."""
    text = re.sub(r"(?m)^( +\d+/\d+) [ .\d]+$", r"\1 …", text)
    return re.sub(r" *\b\d+\.\d\d s\b| +\d+\.\d(?=  )| +\d\.\de[+-]\d\d", " …", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("examples")
    refresh.prepare(path)
    return path


@pytest.mark.parametrize("document", refresh.DOCUMENTS, ids=lambda path: path.name)
def test_outputs_are_real_and_programs_run(document: Path, folder: Path) -> None:
    shown = without_times(document.read_text(encoding="utf-8"))
    assert without_times(refresh.refreshed(document, folder)) == shown
    refresh.run_python(document, folder)


def test_the_registry_shown_is_a_valid_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "registry.yaml"
    path.write_text(shown, encoding="utf-8")
    manifest = read_manifest(path)
    assert manifest.weights[0] in read_manifest(ROOT / "registry.yaml").weights
    [model] = manifest.models
    assert parse(model.recipe, registry).backbone.tag == "a1_in1k"
    assert manifest.pins == {"resnet50": "zoo-resnet"}


def test_links_lead_somewhere() -> None:
    for document in [*refresh.DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
