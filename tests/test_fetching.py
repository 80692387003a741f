"""Fetching over real HTTP from a hub on this machine, in child processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from zoo_core.testing import LoopbackHub

REPOSITORY = "timm/resnet18.a1_in1k"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("served") / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), file)
    return file


@pytest.fixture
def hub(weights: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as served:
        served.add(REPOSITORY, {"model.safetensors": weights})
        yield served


def build(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a child with an empty Hugging Face home."""
    settings = {"HF_HOME": str(home), "XDG_CONFIG_HOME": str(home), **environment}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


CHECKSUM = """
import json, zoo_core as zoo
from zoo_core.models.backbones import CNNBackbone
model = zoo.build("resnet18", pretrained=True)
alone = CNNBackbone(depth=18, pretrained=True)
print(json.dumps({
    "source": model.load_report.source,
    "share": model.load_report.share,
    "sum": float(model.backbone.conv1.weight.double().sum()),
    "alone": float(alone.conv1.weight.double().sum()),
    "alone_share": alone.load_report.share,
    "size": model.preprocessing.size,
    "licence": model.licence,
}))
"""


def test_pretrained_fetches_once_and_then_works_offline(
    hub: LoopbackHub, weights: Path, tmp_path: Path
) -> None:
    online = build(CHECKSUM, tmp_path, HF_ENDPOINT=hub.endpoint)
    assert online.returncode == 0, online.stderr
    facts = json.loads(online.stdout)
    truth = float(load_file(weights)["conv1.weight"].double().sum())
    assert facts == {
        "source": f"{REPOSITORY} (main, unpinned)",
        "share": 1.0,
        "sum": truth,
        "alone": truth,
        "alone_share": 1.0,
        "size": [224, 224],
        "licence": "apache-2.0",
    }
    gets = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    [commit] = hub.commits(REPOSITORY)
    assert gets == [f"/{REPOSITORY}/resolve/{commit.id}/model.safetensors"]
    asked = len(hub.requests)
    offline = build(CHECKSUM, tmp_path, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout
    assert len(hub.requests) == asked


ERROR = """
import zoo_core as zoo
try:
    zoo.build({recipe!r}, pretrained=True)
except zoo.ZooError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("recipe", "environment", "message"),
    [
        ("resnet34", {},
         "WeightsError {endpoint} has no repository timm/resnet34.a1_in1k, or it is private: then "
         "'hf auth login' is needed"),
        ("resnet18", {"HF_HUB_OFFLINE": "1"},
         "WeightsError model.safetensors of timm/resnet18.a1_in1k is not in the cache, and "
         "HF_HUB_OFFLINE is set; a local file can be given with --weights FILE (weights=…)"),
        ("resnet18", {"HF_ENDPOINT": "http://127.0.0.1:9"},
         "UnreachableError model.safetensors of timm/resnet18.a1_in1k is not in the cache, and "
         "http://127.0.0.1:9 cannot be reached ([Errno 111] Connection refused); a local file can "
         "be given with --weights FILE (weights=…)"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_had_cost_one_clear_line(
    hub: LoopbackHub, tmp_path: Path, recipe: str, environment: dict[str, str], message: str
) -> None:
    settings = {"HF_ENDPOINT": hub.endpoint, **environment}
    done = build(ERROR.format(recipe=recipe), tmp_path, **settings)
    assert done.stdout.strip() == message.format(endpoint=hub.endpoint), done.stderr


def test_a_repository_without_the_file_is_told(tmp_path: Path, weights: Path) -> None:
    with LoopbackHub() as hub:
        hub.add(REPOSITORY, {"other.safetensors": weights})
        done = build(ERROR.format(recipe="resnet18"), tmp_path, HF_ENDPOINT=hub.endpoint)
    assert done.stdout.strip() == f"WeightsError {REPOSITORY} has no file model.safetensors"


def test_a_pinned_file_is_checked_against_its_hash(
    hub: LoopbackHub, weights: Path, tmp_path: Path
) -> None:
    entry = (
        "weights:\n- {{component: resnet18, tag: a1_in1k, repository: {repository}, source: test, "
        "sha256: {sha256}, classes: 1000}}\n"
    )
    true = hashlib.sha256(weights.read_bytes()).hexdigest()
    registry = tmp_path / "mine.yaml"
    settings = {"HF_ENDPOINT": hub.endpoint, "ZOO_REGISTRY": str(registry)}
    code = ERROR.format(recipe="resnet18.a1_in1k") + "\nelse:\n    print('loaded')"
    registry.write_text(entry.format(repository=REPOSITORY, sha256=true))
    assert build(code, tmp_path, **settings).stdout.strip() == "loaded"
    registry.write_text(entry.format(repository=REPOSITORY, sha256="0" * 64))
    refused = build(code, tmp_path, **settings).stdout
    assert f"announces sha256 {true}, and resnet18.a1_in1k is pinned to {'0' * 64}" in refused


def test_a_cached_file_that_was_tampered_with_is_never_loaded(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    """It is deleted, and fetched again where that is possible."""
    code = f"import warnings; warnings.simplefilter('always', UserWarning)\n{CHECKSUM}"
    first = build(code, tmp_path, HF_ENDPOINT=hub.endpoint)
    [blob] = (path for path in tmp_path.rglob("blobs/*") if path.is_file())
    good = blob.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1000], b"\x80\x02" + good[2:]):
        blob.write_bytes(bad)
        again = build(code, tmp_path, HF_ENDPOINT=hub.endpoint)
        assert again.stdout == first.stdout
        assert "; it is deleted, and fetched again" in again.stderr
        assert blob.read_bytes() == good
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    offline = build(ERROR.format(recipe="resnet18"), tmp_path, HF_HUB_OFFLINE="1")
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in offline.stdout
    assert not blob.exists()
