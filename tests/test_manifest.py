"""registry.yaml is read strictly: every rule broken is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_core.errors import RegistryError
from zoo_core.manifest import Preprocessing, read_manifest, shipped_manifest

ENTRY = """weights:
- component: net
  tag: a1
  repository: me/net
  source: measured
"""


def read(tmp_path: Path, text: str) -> str:
    path = tmp_path / "registry.yaml"
    path.write_text(text)
    with pytest.raises(RegistryError) as caught:
        read_manifest(path)
    return str(caught.value).removeprefix(f"{path}")


def test_the_shipped_file_is_valid_and_invents_nothing() -> None:
    entries = read_manifest(shipped_manifest()).weights
    assert len(entries) == 17
    assert {entry.licence for entry in entries} == {"apache-2.0", "bsd-3-clause"}
    for entry in entries:
        assert entry.filename == "model.safetensors"
        assert entry.pinned == (entry.revision is not None and entry.sha256 is not None)


def test_defaults_and_values(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(
        f"{ENTRY}  revision: {'0a' * 20}\n  sha256: {'1b' * 32}\n  size: 12\n"
        "  preprocessing: {size: [224, 320], crop: 1, mean: [0.5], std: [0.25]}\n"
        "pins: {net: my-dist}\n"
    )
    manifest = read_manifest(path)
    [entry] = manifest.weights
    assert entry.pinned
    assert entry.preprocessing == Preprocessing(size=(224, 320), crop=1.0, mean=(0.5,), std=(0.25,))
    assert manifest.pins == {"net": "my-dist"}
    path.write_text("")
    assert read_manifest(path).weights == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights: 3", ":1:10: a list is expected here, not one value"),
        ("weights: {a: 1}", ":1:10: a list is expected here, not a mapping"),
        ("- 1", ":1:1: a mapping is expected here, not a list"),
        ("weihgts: []", ":1:10: unknown key 'weihgts'; known: pins, weights"),
        ("pins: {}\npins: {}", ":2:1: key 'pins' stands here twice"),
        ("pins: &a {}", ":1:7: anchors and aliases are not allowed"),
        ("pins: {a: 3}", ":1:11: text is expected here, not '3'"),
        ("pins: {a: no}", ":1:11: text is expected here, not 'no'"),
        ("pins: {", ":2:1: did not find expected node content"),
        ("weights:\n- {component: net}", ":2:3: key 'tag' is missing"),
        (f"{ENTRY}  size: big", ":6:9: a whole number is expected here, not 'big'"),
        (f"{ENTRY}  size: -1", ":6:9: a positive number is expected here, not -1"),
        (f"{ENTRY}  sha256: abc", ":6:11: 'abc' is not a hash of 64 digits"),
        (f"{ENTRY}  revision: main", ":6:13: 'main' is not a commit of 40 digits"),
        (f"{ENTRY}  filename: model.pth", ":6:13: 'model.pth' is not the name of a safetensors"),
        (f"{ENTRY}  filename: ../x.safetensors", ":6:13: '../x.safetensors' is not the name of a"),
        (f"{ENTRY}  layout: tf", ":6:11: 'tf' is none of timm, torchvision, hf-vit"),
        (f"{ENTRY}  colour: red", ":6:11: unknown key 'colour'; known: classes, component"),
        (f"{ENTRY}  preprocessing: {{size: [1, 2, 3]}}", ":6:25: a size is one side, or height"),
        (ENTRY.replace("me/net", "../net"), ":4:15: '../net' is not a repository 'owner/name'"),
        (ENTRY + ENTRY.removeprefix("weights:\n"), ":6:3: weights 'net.a1' are listed twice"),
    ],
)
def test_a_broken_rule_is_told_with_line_and_column(
    tmp_path: Path, text: str, message: str
) -> None:
    assert read(tmp_path, text).startswith(message)


def test_files_that_are_too_large_or_missing_are_refused(tmp_path: Path) -> None:
    assert read(tmp_path, "#" * 1_000_001) == ": 1000001 bytes; at most 1000000 are read"
    with pytest.raises(RegistryError, match="cannot be read: No such file or directory"):
        read_manifest(tmp_path / "none.yaml")
