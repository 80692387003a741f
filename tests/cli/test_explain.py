"""``zoo explain``: what it writes, says and refuses. Its page is tested in a browser elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import zoo_core
from zoo_core.explainability import Explainer
from zoo_core.explainability.trust import score_maps
from zoo_core.pictures import prepare, prepare_whole

Zoo = Callable[..., CompletedProcess[str]]
Invoke = Callable[..., Any]
OneError = Callable[..., str]
Photos = dict[str, Path]

RANDOM = (
    "zoo: the weights are random, so the answers mean nothing; add --pretrained or --weights FILE"
)
SMALL = ("resnet18", "--image-size", 64, "--seed", 0)
CAM = ("--method", "grad_cam")
SEGMENTING = ("resnet18+unet", "--image-size", 64, "--seed", 10, "--seg-classes", 6)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where nothing is in the way."""
    monkeypatch.chdir(tmp_path)


def files(folder: Path | str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir()}


def test_real_weights_explain_photographs(
    zoo: Zoo, lite0: Path, photos: Photos, tmp_path: Path
) -> None:
    recipe = ("timm/efficientnet_lite0", "--weights", lite0)
    finished = zoo("explain", *recipe, *photos.values(), "--json", cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    answer = json.loads(finished.stdout)
    assert set(answer) == {"page", "pictures"}
    assert answer["page"] == "explanations/index.html"
    told = {Path(one["path"]).stem: one for one in answer["pictures"]}
    labels = {name: one["target"]["label"] for name, one in told.items()}
    assert labels == {"chelsea": "tabby", "coffee": "espresso", "rocket": "missile"}
    methods = ["grad_cam", "saliency", "smoothgrad"]
    for name, one in told.items():
        assert (one["task"], one["region"]) == ("classification", None)
        assert one["target"]["predicted"]
        assert one["classification"][0]["label"] == labels[name]
        assert one["target"]["score"] == pytest.approx(one["classification"][0]["score"], abs=1e-5)
        assert list(one["methods"]) == methods
        assert list(one["skipped"]) == ["attention"]
        assert "no attention" in one["skipped"]["attention"]
        assert one["methods"]["grad_cam"]["layer"].startswith("backbone.")
    written = files("explanations")
    assert written == {
        "index.html",
        *(f"{name}/{method}.png" for name in photos for method in methods),
        *(f"{name}/arrays.safetensors" for name in photos),
    }
    page = Path("explanations/index.html").read_text(encoding="utf-8")
    assert all(label in page for label in labels.values())
    # Where the espresso is, and not at the borders: what Grad-CAM points at is in the picture.
    cam = load_file("explanations/coffee/arrays.safetensors")["grad_cam"]
    row, column = divmod(int(cam.argmax()), cam.shape[1])
    assert 56 < row < 168
    assert 56 < column < 168


def test_arrays_are_what_the_library_gives(invoke_json: Invoke, photos: Photos) -> None:
    chosen = ("--method", "grad_cam", "--method", "saliency", "--target", 7)
    (told,) = invoke_json("explain", *SMALL, photos["chelsea"], *chosen)["pictures"]
    model = zoo_core.build("resnet18", image_size=64, seed=0).eval()
    assert model.preprocessing is not None
    with Image.open(photos["chelsea"]) as picture:
        inputs = prepare(picture, model.preprocessing)[None]
    own = Explainer(model, ["grad_cam", "saliency"]).explain(inputs, target_class=7)
    arrays = load_file(told["arrays"])
    assert set(arrays) == set(own)
    for name, array in arrays.items():
        torch.testing.assert_close(array, own[name][0])
    assert told["target"] | {"score": 0} == {
        "index": 7, "label": "class 7", "score": 0, "predicted": False,
    }  # fmt: skip
    share = model(inputs).softmax(1)[0, 7].item()
    assert told["target"]["score"] == pytest.approx(share, rel=1e-4)
    with safe_open(told["arrays"], "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts["target"] == told["target"]
    assert facts["methods"]["grad_cam"]["layer"] == own.facts["grad_cam"].target_layer


def test_overlays_are_as_large_as_one_can_look_at(invoke_json: Invoke, photos: Photos) -> None:
    (told,) = invoke_json("explain", *SMALL, photos["chelsea"], *CAM)["pictures"]
    with Image.open(told["methods"]["grad_cam"]["overlay"]) as overlay:
        assert (overlay.size, overlay.mode, overlay.format) == ((512, 512), "RGB", "PNG")
        painted = np.asarray(overlay).astype(int)
    cam = load_file(told["arrays"])["grad_cam"]
    model = zoo_core.build("resnet18", image_size=512).eval()
    with Image.open(photos["chelsea"]) as picture:
        assert model.preprocessing is not None
        plain = prepare(picture, model.preprocessing)
    mean, std = (torch.tensor(v)[:, None, None] for v in (
        model.preprocessing.mean, model.preprocessing.std
    ))  # fmt: skip
    seen = (255 * (plain * std + mean)).permute(1, 2, 0).numpy()
    differs = np.abs(painted - seen).max(2)
    # The picture shows where the map is dark, and colours where it is not.
    shares = np.kron(((cam - cam.min()) / (cam.max() - cam.min())).numpy(), np.ones((8, 8)))
    assert differs[shares < 0.005].max(initial=0) <= 16
    assert differs[shares > 0.9].mean() > 40


def test_scores_are_what_the_library_gives(invoke_json: Invoke, photos: Photos) -> None:
    told = invoke_json("explain", *SMALL, photos["rocket"], *CAM, "--score")
    scores = told["pictures"][0]["methods"]["grad_cam"]["scores"]
    model = zoo_core.build("resnet18", image_size=64, seed=0).eval()
    assert model.preprocessing is not None
    with Image.open(photos["rocket"]) as picture:
        inputs = prepare(picture, model.preprocessing)[None]
    maps = Explainer(model, ["grad_cam"]).explain(inputs)["grad_cam"]
    own = {name: value.item() for name, value in score_maps(model, inputs, maps).items()}
    assert scores == pytest.approx(own, abs=1e-4)
    assert "How far to trust them" in Path(told["page"]).read_text(encoding="utf-8")


def test_text_tells_what_was_done(invoke: Invoke, photos: Photos) -> None:
    methods = (*CAM, "--method", "attention")
    lines = invoke("explain", *SMALL, photos["coffee"], *methods, "--score").stdout.splitlines()
    assert lines[0] == str(photos["coffee"])
    assert lines[1].startswith("  explained: class ")
    assert lines[1].endswith(", the model's answer")
    assert lines[2].startswith("  left out: attention: MultitaskModel has no attention")
    assert lines[3].split() == ["method", "insertion", "deletion", "road", "average_drop"]
    name, *values = lines[4].split()
    assert name == "grad_cam"
    assert all(-1 <= float(value) <= 1 for value in values)
    assert lines[5:] == ["  1 method in explanations/coffee", "page  explanations/index.html"]


def test_segmentation_records_class_and_region(invoke_json: Invoke, photos: Photos) -> None:
    task = ("--task", "segmentation")
    told = invoke_json("explain", *SEGMENTING, photos["rocket"], *CAM, *task, "--target", 3)
    (one,) = told["pictures"]
    assert (one["task"], one["region"]) == ("segmentation", "predicted")
    assert (one["target"]["index"], one["target"]["label"]) == (3, "class 3")
    model = zoo_core.build(
        "resnet18+unet", image_size=64, num_classes_segmentation=6, seed=10
    ).eval()
    assert model.preprocessing is not None
    with Image.open(photos["rocket"]) as picture:
        inputs = prepare_whole(picture, model.preprocessing)[None]
    own = Explainer(model, ["grad_cam"]).explain(inputs, target_class=3, task="segmentation")
    torch.testing.assert_close(load_file(one["arrays"])["grad_cam"], own["grad_cam"][0])
    shares = {item["index"]: item["score"] for item in one["segmentation"]}
    assert one["target"]["score"] == shares[3] > 0
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "at the pixels that the model takes for it" in page
    assert 'data-layer="segmentation"' in page


def test_both_heads_can_be_explained(invoke_json: Invoke, photos: Photos) -> None:
    both = (*SEGMENTING, "--classes", 3, photos["rocket"], *CAM)
    for task in ("classification", "segmentation"):
        (one,) = invoke_json("explain", *both, "--task", task, "--out", task)["pictures"]
        assert one["task"] == task
    (one,) = invoke_json("explain", *both)["pictures"]
    assert one["task"] == "classification"
    (one,) = invoke_json("explain", *SEGMENTING, "--classes", 0, photos["rocket"], *CAM)["pictures"]
    assert one["task"] == "segmentation"


def test_a_class_that_is_nowhere_is_said(invoke: Invoke, photos: Photos) -> None:
    options = ("--task", "segmentation", "--target", 4, *CAM)
    result = invoke("explain", *SEGMENTING, photos["rocket"], *options)
    note = "no pixel is predicted as its class, 4; there is nothing to explain, and its map is zero"
    assert f"zoo: {photos['rocket']}: {note}\n" in result.stderr
    assert note in Path("explanations/index.html").read_text(encoding="utf-8")


def test_all_methods(invoke_json: Invoke, photos: Photos, tmp_path: Path) -> None:
    small = ("resnet18", "--image-size", 32, "--seed", 0)
    told = invoke_json("explain", *small, photos["chelsea"], "--method", "all")
    (one,) = told["pictures"]
    every = {spec.name: spec.provider for spec in zoo_core.registry.explainers.listed()}
    assert set(one["methods"]) | set(one["skipped"]) == set(every)
    of_attention = {name for name, who in every.items() if who == "zoo-attention-maps"}
    assert set(one["skipped"]) == of_attention  # which a ResNet has none of
    assert {Path(method["overlay"]).stem for method in one["methods"].values()} == set(
        one["methods"]
    )


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose classes have names, two of them the same."""
    folder = tmp_path_factory.mktemp("named") / "model"
    model = zoo_core.build("resnet18", num_classes_classification=6, image_size=64, seed=10)
    model.labels = {"classification": ("tiger cat", "Espresso", "crane", "crane", "12", "espresso")}
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("asked", "index"),
    [("tiger cat", 0), ("TIGER CAT", 0), ("Espresso", 1), ("espresso", 5), ("12", 4), ("3", 3)],
)
def test_classes_are_named_or_numbered(
    asked: str, index: int, invoke_json: Invoke, named: Path, photos: Photos
) -> None:
    told = invoke_json("explain", named, photos["chelsea"], *CAM, "--target", asked)
    assert told["pictures"][0]["target"]["index"] == index
    assert not told["pictures"][0]["target"]["predicted"]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("cat", "'cat': the model has no such class; did you mean tiger cat?"),
        ("tigercat", "'tigercat': the model has no such class; did you mean tiger cat?"),
        ("zebra", "'zebra': the model has no such class; give one of its names or a number"),
        ("crane", "'crane': classes 2 and 3 are called so; give a number"),
        ("ESPRESSO", "'ESPRESSO': classes 1 and 5 are called so; give a number"),
        ("6", "6: the model's classes are 0 to 5"),
        ("-1", "-1: the model's classes are 0 to 5"),
    ],
)
def test_wrong_classes_are_refused(
    asked: str, problem: str, invoke: Invoke, named: Path, photos: Photos
) -> None:
    result = invoke("explain", named, photos["chelsea"], "--target", asked, code=2)
    assert result.output == f"Error: --target {problem}\n"
    assert not Path("explanations").exists()


def test_classes_without_names_are_numbers(invoke: Invoke, photos: Photos) -> None:
    result = invoke("explain", *SMALL, photos["chelsea"], "--target", "cat", code=2)
    assert result.stderr.splitlines()[-1] == (
        "Error: --target 'cat': the model's 1000 classes have no names; give a number"
    )


def test_wrong_methods_and_tasks_are_refused(zoo: Zoo, photos: Photos, one_error: OneError) -> None:
    error = one_error(zoo("explain", "resnet18", photos["chelsea"], "--method", "gradcam"))
    assert error.startswith("unknown explainer 'gradcam'")
    assert "grad_cam" in error
    finished = zoo("explain", *SMALL, photos["chelsea"], "--task", "segmentation")
    assert finished.returncode == 2
    assert finished.stderr.splitlines() == [
        RANDOM,
        "Error: --task segmentation: the model has a head for classification alone",
    ]
    assert not Path("explanations").exists()


def test_bad_pictures_are_named_and_skipped(zoo: Zoo, photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("RGB", (3000, 1)).save("thread.png")
    arguments = ["text.png", photos["chelsea"], "missing.png", "thread.png", "*.webp"]
    finished = zoo("explain", *SMALL, *arguments, *CAM, "--json", cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.splitlines() == [
        RANDOM,
        "zoo: skipped text.png: this is no picture that can be read",
        "zoo: skipped missing.png: there is no such file",
        "zoo: skipped thread.png: a picture of 3000×1 pixels is too narrow; one side may be at "
        "most 100 times the other",
        "zoo: skipped *.webp: there are no pictures",
    ]
    answer = json.loads(finished.stdout)
    assert [one["path"] for one in answer["pictures"]] == [str(photos["chelsea"])]
    assert files("explanations") == {
        "index.html",
        "chelsea/arrays.safetensors",
        "chelsea/grad_cam.png",
    }


def test_nothing_is_written_without_a_picture(invoke: Invoke) -> None:
    result = invoke("explain", *SMALL, "missing.png", "--json", code=1)
    assert json.loads(result.stdout) == {"page": None, "pictures": []}
    assert not Path("explanations").exists()


def test_a_file_as_output_is_refused(zoo: Zoo, photos: Photos, tmp_path: Path) -> None:
    Path("taken").touch()
    finished = zoo("explain", *SMALL, photos["chelsea"], "--out", "taken", cwd=tmp_path)
    assert finished.returncode == 2
    assert "'taken' is a file" in finished.stderr
    below = zoo("explain", *SMALL, photos["chelsea"], *CAM, "--out", "taken/below", cwd=tmp_path)
    assert below.returncode == 1
    assert below.stderr.splitlines()[-1] == "Error: taken/below/chelsea: Not a directory"


def test_pictures_of_one_name_get_folders_of_their_own(invoke_json: Invoke, photos: Photos) -> None:
    for number, name in enumerate(("chelsea", "coffee")):
        Path(f"in/{number}").mkdir(parents=True)
        shutil.copy(photos[name], f"in/{number}/photo.png")
    told = invoke_json("explain", *SMALL, "in", *CAM)["pictures"]
    assert [one["arrays"] for one in told] == [
        f"explanations/{folder}/arrays.safetensors" for folder in ("photo", "photo-2")
    ]
    first, second = (load_file(one["arrays"])["grad_cam"] for one in told)
    assert not torch.equal(first, second)


def test_pictures_are_never_written_over(invoke_json: Invoke, photos: Photos) -> None:
    Path("grad_cam").mkdir()
    mine = Path(shutil.copy(photos["chelsea"], "grad_cam/grad_cam.png"))
    before = mine.read_bytes()
    (one,) = invoke_json("explain", *SMALL, mine, *CAM, "--out", ".")["pictures"]
    assert mine.read_bytes() == before
    assert one["methods"]["grad_cam"]["overlay"] == "grad_cam-2/grad_cam.png"


def test_explanations_of_an_earlier_run_are_no_pictures(
    invoke_json: Invoke, photos: Photos
) -> None:
    shutil.copy(photos["coffee"], ".")
    for _ in range(2):
        told = invoke_json("explain", *SMALL, ".", *CAM)["pictures"]
        assert [one["path"] for one in told] == ["coffee.png"]


def test_grey_models_explain_colour_pictures(invoke_json: Invoke, photos: Photos) -> None:
    grey = ("--in-channels", 1, "--method", "saliency")
    (one,) = invoke_json("explain", *SMALL, *grey, photos["coffee"])["pictures"]
    assert load_file(one["arrays"])["saliency"].shape == (1, 64, 64)


def test_attention_alone_explains_no_class(invoke_json: Invoke, photos: Photos) -> None:
    vit = ("vit_tiny", "--image-size", 64, "--seed", 0, "--method", "attention")
    told = invoke_json("explain", *vit, photos["coffee"])
    (one,) = told["pictures"]
    assert one["target"] is None
    assert one["methods"]["attention"]["overlay"] is None
    assert len(load_file(one["arrays"])) == 12
    assert "No class was explained" in Path(told["page"]).read_text(encoding="utf-8")


def test_a_terminal_shows_a_bar_and_a_pipe_none(
    zoo: Zoo, zoo_on_terminal: Callable[..., str], photos: Photos, tmp_path: Path
) -> None:
    arguments = ("explain", *SMALL, photos["coffee"], *CAM, "--out", tmp_path / "out")
    assert "pictures  [" in zoo_on_terminal(*arguments)
    finished = zoo(*arguments)
    assert finished.stderr.splitlines() == [RANDOM]
    assert "pictures  [" not in finished.stdout


def test_a_run_that_fails_leaves_the_page_as_it_was(invoke: Invoke, photos: Photos) -> None:
    out = Path("explanations")
    (out / "rocket").mkdir(parents=True)
    (out / "index.html").write_text("before")
    (out / "rocket" / "grad_cam.png").mkdir()  # so that the second picture's cannot be written
    two = (photos["chelsea"], photos["rocket"])
    result = invoke("explain", *SMALL, *two, *CAM, code=1)
    assert "grad_cam.png: Is a directory" in result.stderr.splitlines()[-1]
    assert (out / "index.html").read_text() == "before"
    assert not [name for name in files(out) if name.endswith(".part")]


def test_names_are_completed(zoo: Zoo) -> None:
    for begun, whole, others in (
        ("grad", "grad_cam", {"saliency", "captum/lime"}),
        ("captum/li", "captum/lime", {"grad_cam", "captum/lrp"}),
        ("al", "all", {"grad_cam"}),
    ):
        words = f"zoo explain resnet50 --method {begun}"
        done = zoo(_ZOO_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD="4")
        completed = {line.removeprefix("plain,") for line in done.stdout.splitlines()}
        assert whole in completed
        assert not completed & others


def test_help_is_light(zoo: Zoo) -> None:
    finished = zoo("explain", "--help", PYTHONPROFILEIMPORTTIME="1")
    assert finished.returncode == 0
    assert "zoo_core.cli" in finished.stderr
    assert " torch\n" not in finished.stderr
    assert " matplotlib\n" not in finished.stderr
