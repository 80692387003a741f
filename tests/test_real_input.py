"""The main job on real photographs with trained weights, as a user would run it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from PIL import Image

import zoo_core as zoo
from zoo_core.testing import LoopbackHub

Run = Callable[..., CompletedProcess[str]]
REPOSITORY = "timm/efficientnet_lite0.ra_in1k"
EXPECTED = {"chelsea": ("tabby", 0.40), "coffee": ("espresso", 0.86), "rocket": ("missile", 0.39)}


@pytest.fixture
def hub(lite0: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as served:
        served.add(REPOSITORY, {"model.safetensors": lite0})
        yield served


def check_answers(output: str, photos: dict[str, Path]) -> None:
    answers = json.loads(output)
    assert [answer["path"] for answer in answers] == [str(path) for path in photos.values()]
    for answer, (label, score) in zip(answers, EXPECTED.values(), strict=True):
        best = answer["classification"][0]
        assert best["label"] == label
        assert best["score"] == pytest.approx(score, abs=0.01)
        assert len(answer["classification"]) == 5
        assert answer["segmentation"] is None


def test_photographs_are_named_with_weights_from_a_hub(
    hub: LoopbackHub, photos: dict[str, Path], tmp_path: Path, run_zoo: Run
) -> None:
    def predict(**environment: str) -> Any:
        return run_zoo(
            "predict",
            "timm/efficientnet_lite0",
            "--pretrained",
            "--json",
            *photos.values(),
            HF_HOME=str(tmp_path),
            **environment,
        )

    first = predict(HF_ENDPOINT=hub.endpoint)
    assert first.returncode == 0, first.stderr
    check_answers(first.stdout, photos)
    assert any(method == "GET" for method, _ in hub.requests)
    assert first.stderr == ""

    cached = predict(HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert cached.returncode == 0, cached.stderr
    assert cached.stdout == first.stdout


def test_photographs_are_named_with_a_local_file(
    lite0: Path, photos: dict[str, Path], run_zoo: Run
) -> None:
    done = run_zoo(
        "predict", "timm/efficientnet_lite0", "--weights", lite0, "--json", *photos.values(),
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_answers(done.stdout, photos)


def test_logits_equal_timms_on_a_photograph(lite0: Path, photos: dict[str, Path]) -> None:
    import timm
    from safetensors.torch import load_file
    from timm.data import create_transform, resolve_data_config

    from zoo_core.pictures import prepare

    reference = timm.create_model("efficientnet_lite0").eval()
    reference.load_state_dict(load_file(lite0))
    transform = create_transform(**resolve_data_config({}, model=reference))
    picture = Image.open(photos["chelsea"]).convert("RGB")
    model = zoo.build("timm/efficientnet_lite0", weights=lite0).eval()
    assert model.preprocessing is not None
    ours = prepare(picture, model.preprocessing)
    theirs = transform(picture)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(ours[None]), reference(theirs[None]), atol=1e-5, rtol=1e-5)


def test_two_heads_on_real_weights_build_run_save_and_load_offline(
    lite0: Path, photos: dict[str, Path], tmp_path: Path, run_zoo: Run
) -> None:
    from zoo_core.pictures import prepare, read_picture

    folder = tmp_path / "saved"
    built = run_zoo(
        "build", "timm/efficientnet_lite0+cbam+unet", "--weights", lite0, "--classes", 10,
        "--seg-classes", 4, "--seed", 1, "--save", folder, "--json",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    facts = json.loads(built.stdout)
    assert facts["recipe"] == "zoo-timm:timm/efficientnet_lite0+zoo-cbam:cbam+zoo-unet:unet"
    assert {fate["name"].partition(".")[0] for fate in facts["weights"]["random"]} == {
        "attention", "classifier", "decoder",
    }  # fmt: skip

    model = zoo.build(
        "timm/efficientnet_lite0+cbam+unet",
        weights=lite0,
        num_classes_classification=10,
        num_classes_segmentation=4,
        seed=1,
    ).eval()
    loaded = zoo.MultitaskModel.from_pretrained(folder)
    assert loaded.preprocessing == model.preprocessing
    image = prepare(read_picture(photos["coffee"]), loaded.preprocessing)[None]
    with torch.no_grad():
        expected, found = model(image), loaded(image)
    assert found["classification"].shape == (1, 10)
    assert found["segmentation"].shape == (1, 4, 224, 224)
    for head, logits in expected.items():
        assert torch.equal(found[head], logits)

    offline = run_zoo(
        "predict", folder, photos["coffee"], "--json", "--output", tmp_path / "masks",
        HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9",
    )  # fmt: skip
    assert offline.returncode == 0, offline.stderr
    [answer] = json.loads(offline.stdout)
    assert len(answer["classification"]) == 5
    with (
        Image.open(answer["segmentation"]["overlay"]) as overlay,
        Image.open(photos["coffee"]) as original,
    ):
        assert overlay.size == original.size
    shares = [item["score"] for item in answer["segmentation"]["classes"]]
    assert sum(shares) == pytest.approx(1)
