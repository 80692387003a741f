"""``zoo predict`` on photographs, with random weights: all but whether the answers are right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo_core
from zoo_core.pictures import class_colour
from zoo_core.prediction import predict

Zoo = Callable[..., CompletedProcess[str]]
Invoke = Callable[..., Any]
OneError = Callable[..., str]
Photos = dict[str, Path]

RANDOM = (
    "zoo: the weights are random, so the answers mean nothing; add --pretrained or --weights FILE"
)
SMALL = ("--image-size", 64, "--seed", 0)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, cat: Image.Image) -> Path:
    """A folder of files that are called pictures and cannot be read as such."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    cat.save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def paths(answers: list[dict[str, Any]]) -> list[str]:
    return [Path(answer["path"]).name for answer in answers]


def test_json_has_the_promised_form(zoo: Zoo, photos: Photos) -> None:
    finished = zoo("predict", "resnet18", *SMALL, *photos.values(), "--json")
    assert (finished.returncode, finished.stderr) == (0, f"{RANDOM}\n")
    answers = json.loads(finished.stdout)
    assert [answer["path"] for answer in answers] == [str(photo) for photo in photos.values()]
    for answer in answers:
        assert set(answer) == {"path", "classification", "segmentation"}
        assert answer["segmentation"] is None
        ranking = answer["classification"]
        assert [set(item) for item in ranking] == [{"index", "label", "score"}] * 5
        assert all(item["label"] == f"class {item['index']}" for item in ranking)
        scores = [item["score"] for item in ranking]
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1
    assert answers[0]["classification"] != answers[1]["classification"]


def test_answers_and_problems_stand_apart(
    zoo: Zoo, photos: Photos, bad: Path, tmp_path: Path
) -> None:
    """The readable pictures are answered, the others named and skipped."""
    (tmp_path / "hollow").mkdir()
    arguments = [bad, photos["chelsea"], "missing.png", "hollow", "*.webp", photos["rocket"]]
    finished = zoo("predict", "resnet18", *SMALL, *arguments, "--top", 2, cwd=tmp_path)
    assert finished.returncode == 1
    warning, *skipped = finished.stderr.splitlines()
    assert warning == RANDOM
    truncated = skipped.pop(2)
    assert truncated.startswith(
        f"zoo: skipped {bad}/truncated.jpg: the picture cannot be read: image file is truncated"
    )
    assert skipped == [
        f"zoo: skipped {bad}/empty.png: this is no picture that can be read",
        f"zoo: skipped {bad}/text.png: this is no picture that can be read",
        "zoo: skipped missing.png: there is no such file",
        "zoo: skipped hollow: there are no pictures",
        "zoo: skipped *.webp: there are no pictures",
    ]
    lines = finished.stdout.splitlines()
    assert lines[::3] == [str(photos["chelsea"]), str(photos["rocket"])]
    assert all(line.strip().startswith(tuple("0123456789")) for line in (*lines[1:3], *lines[4:]))
    assert not list(tmp_path.glob("predictions*"))


def test_json_holds_only_what_was_read(invoke: Invoke, photos: Photos, bad: Path) -> None:
    result = invoke("predict", "resnet18", *SMALL, bad, photos["coffee"], "--json", code=1)
    assert paths(json.loads(result.stdout)) == ["coffee.png"]
    assert result.stderr.count("zoo: skipped ") == 3
    nothing = invoke("predict", "resnet18", *SMALL, bad / "text.png", "--json", code=1)
    assert json.loads(nothing.stdout) == []


def test_folders_globs_and_files_mix(
    invoke_json: Invoke, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = Path("holiday/day 1/more")
    deep.mkdir(parents=True)
    for photo in photos.values():
        shutil.copy(photo, deep)
    shutil.copy(photos["coffee"], "holiday/cup[1].PNG")
    Path("holiday/notes.txt").write_text("no picture")
    run = ("predict", "resnet18", *SMALL, "--top", 1)
    assert paths(invoke_json(*run, "holiday")) == [
        "cup[1].PNG",
        "chelsea.png",
        "coffee.png",
        "rocket.png",
    ]
    assert paths(invoke_json(*run, "holiday/*/more/c*.png")) == ["chelsea.png", "coffee.png"]
    assert paths(invoke_json(*run, "holiday/**/r*.png")) == ["rocket.png"]
    mixed = invoke_json(*run, "holiday/cup[1].PNG", photos["rocket"], "holiday/day*/more/ch*")
    assert paths(mixed) == ["cup[1].PNG", "rocket.png", "chelsea.png"]


def test_every_form_of_a_picture_is_answered(invoke_json: Invoke, forms: dict[str, Path]) -> None:
    answers = invoke_json("predict", "resnet18", *SMALL, "--exact", *forms.values())
    told = dict(zip(paths(answers), (item["classification"] for item in answers), strict=True))
    assert set(told) == set(forms)
    for same in ("rotated.png", "rgba.png", "lossless.webp", "plain.TIF", "plain.bmp"):
        assert told[same] == told["rgb.png"], same
    assert told["sixteen.png"] == told["grey.png"] != told["rgb.png"]


def test_a_model_of_one_channel_sees_grey(invoke_json: Invoke, forms: dict[str, Path]) -> None:
    both = (forms["grey.png"], forms["sixteen.png"])
    small = ("resnet18", *SMALL, "--in-channels", 1, "--exact")
    grey, sixteen = invoke_json("predict", *small, *both)
    assert grey["classification"] == sixteen["classification"]


def test_lower_precision_is_asked_for(invoke_json: Invoke, photos: Photos) -> None:
    run = ("predict", "resnet18", *SMALL, *photos.values())
    for full, low in zip(
        invoke_json(*run), invoke_json(*run, "--precision", "bfloat16"), strict=True
    ):
        scores = [
            {item["index"]: item["score"] for item in answer["classification"]}
            for answer in (full, low)
        ]
        assert scores[0] != scores[1]
        for index in scores[0].keys() & scores[1].keys():
            assert scores[1][index] == pytest.approx(scores[0][index], rel=0.1)


def test_less_work_gives_the_same_answers(invoke_json: Invoke, forms: dict[str, Path]) -> None:
    """Pictures of several sizes in batches, for both heads."""
    recipe = ("resnet18+unet", "--image-size", 64, "--classes", 5, "--seg-classes", 4)
    run = ("predict", *recipe, "--seed", 0, *forms.values())
    exact, fast = invoke_json(*run, "--exact"), invoke_json(*run)
    assert paths(exact) == paths(fast) == [path.name for path in forms.values()]
    for one, other in zip(exact, fast, strict=True):
        for ranked, again in (
            (one["classification"], other["classification"]),
            (one["segmentation"]["classes"], other["segmentation"]["classes"]),
        ):
            scores, same = (
                {each["index"]: each["score"] for each in all_} for all_ in (ranked, again)
            )
            assert scores == pytest.approx(same, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "classes", "shown"), [(["--top", 1], None, 1), ([], 3, 3), (["--top", 9], 4, 4)]
)
def test_top_classes(
    options: list[object], classes: int | None, shown: int, invoke_json: Invoke, photos: Photos
) -> None:
    heads = [] if classes is None else ["--classes", classes]
    (answer,) = invoke_json("predict", "resnet18", *SMALL, *heads, *options, photos["coffee"])
    assert len(answer["classification"]) == shown
    if classes == shown:
        assert sum(item["score"] for item in answer["classification"]) == pytest.approx(1)


# With this seed the masks have three classes each.
SEGMENTING = ("resnet18+unet", "--image-size", 64, "--seed", 10, "--seg-classes", 6)


def test_the_mask_is_painted_over_the_picture(
    invoke_json: Invoke, photos: Photos, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "masks"
    answers = invoke_json("predict", *SEGMENTING, *photos.values(), "--output", output)
    model = zoo_core.build(
        "resnet18+unet", image_size=64, num_classes_segmentation=6, seed=10
    ).eval()
    assert {path.name for path in output.iterdir()} == {f"{name}.png" for name in photos}
    for answer in answers:
        with Image.open(answer["path"]) as picture:
            picture.load()
        assert answer["segmentation"]["overlay"] == str(output / Path(answer["path"]).name)
        with Image.open(answer["segmentation"]["overlay"]) as overlay:
            assert (overlay.size, overlay.mode, overlay.format) == (picture.size, "RGB", "PNG")
            painted = np.asarray(overlay).astype(int)
        mask = predict(model, picture).mask
        assert mask is not None
        assert mask.shape == (picture.height, picture.width)
        counts = np.bincount(mask.ravel(), minlength=6)
        assert (counts > 0).sum() == 3
        colours = np.array([class_colour(index) for index in range(6)])
        assert abs(painted - (np.asarray(picture) + colours[mask]) / 2).max() <= 1
        classes = answer["segmentation"]["classes"]
        assert {item["index"]: item["score"] for item in classes} == {
            index: count / mask.size for index, count in enumerate(counts) if count
        }
        assert [item["score"] for item in classes] == sorted(
            (item["score"] for item in classes), reverse=True
        )


def test_text_tells_of_the_mask(invoke: Invoke, photos: Photos, tmp_path: Path) -> None:
    shown = invoke(
        "predict", *SEGMENTING, "--classes", 0, photos["chelsea"], "-o", tmp_path
    ).stdout.splitlines()
    assert shown[0] == str(photos["chelsea"])
    assert all("%  of the pixels: class " in line for line in shown[1:-1])
    assert shown[-1] == f"  mask painted over the picture: {tmp_path / 'chelsea.png'}"


def test_pictures_of_one_name_do_not_overwrite_each_other(
    invoke_json: Invoke, photos: Photos, tmp_path: Path
) -> None:
    for number, photo in enumerate(("chelsea", "coffee")):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(photos[photo], folder / "photo.png")
    answers = invoke_json("predict", *SEGMENTING, tmp_path, "-o", tmp_path / "out")
    overlays = [Path(answer["segmentation"]["overlay"]) for answer in answers]
    assert [overlay.name for overlay in overlays] == ["photo.png", "photo-2.png"]
    sizes = []
    for overlay in overlays:
        with Image.open(overlay) as picture:
            sizes.append(picture.size)
    assert sizes == [(451, 300), (600, 400)]


def test_a_picture_is_never_painted_over_itself(
    invoke_json: Invoke, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = [Path(shutil.copy(photo, ".")) for photo in photos.values()]
    before = [path.read_bytes() for path in mine]
    answers = invoke_json("predict", *SEGMENTING, *mine, "--output", tmp_path)
    assert [path.read_bytes() for path in mine] == before
    assert [Path(answer["segmentation"]["overlay"]).name for answer in answers] == [
        "chelsea-2.png",
        "coffee-2.png",
        "rocket-2.png",
    ]


def test_masks_of_an_earlier_run_are_no_pictures(
    invoke_json: Invoke, photos: Photos, tmp_path: Path
) -> None:
    shutil.copy(photos["coffee"], tmp_path)
    for _ in range(2):
        answers = invoke_json("predict", *SEGMENTING, tmp_path, "-o", tmp_path / "masks")
        assert [Path(answer["path"]).name for answer in answers] == ["coffee.png"]
    answers = invoke_json("predict", *SEGMENTING, tmp_path, "-o", tmp_path)
    assert len(answers) == 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = zoo_core.build(
        "resnet18+unet",
        num_classes_classification=3,
        num_classes_segmentation=6,
        image_size=64,
        seed=10,
    )
    model.labels = {"classification": ("cat", "espresso", "missile")}
    model.save_pretrained(folder)
    return folder


def test_a_saved_model_predicts_as_before(
    zoo: Zoo, invoke_json: Invoke, saved: Path, photos: Photos, tmp_path: Path
) -> None:
    finished = zoo("predict", saved, *photos.values(), "--json", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert (finished.returncode, finished.stderr) == (0, "")
    answers = json.loads(finished.stdout)
    fresh = invoke_json(
        "predict", *SEGMENTING, "--classes", 3, *photos.values(), "-o", tmp_path / "fresh"
    )
    for answer, other in zip(answers, fresh, strict=True):
        assert {item["label"] for item in answer["classification"]} == {
            "cat",
            "espresso",
            "missile",
        }
        assert answer["segmentation"]["classes"] == other["segmentation"]["classes"]
        assert [(item["index"], item["score"]) for item in answer["classification"]] == [
            (item["index"], pytest.approx(item["score"], abs=1e-6))
            for item in other["classification"]
        ]
        overlay = tmp_path / answer["segmentation"]["overlay"]
        assert overlay == tmp_path / "predictions" / Path(answer["path"]).name
        assert overlay.read_bytes() == Path(other["segmentation"]["overlay"]).read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--classes 3 --set unet.x=1 --pretrained", "--classes, --pretrained, --set"),
        ("--seed 0", "--seed"),
        ("--classes 0", "--classes"),
        ("--seg-classes 0", "--seg-classes"),
        ("--in-channels 3 --image-size 64x64", "--in-channels, --image-size"),
        ("--weights file", "--weights"),
    ],
)
def test_options_are_refused_with_a_saved_model(
    options: str, named: str, zoo: Zoo, saved: Path, photos: Photos, one_error: OneError
) -> None:
    error = one_error(zoo("predict", saved, photos["coffee"], *options.split()))
    flags, _, reason = error.partition(": ")
    assert sorted(flags.split(", ")) == sorted(named.split(", "))
    assert reason == "a saved model is used as it is; leave this away"


def test_folders_without_a_model_are_refused(
    zoo: Zoo, invoke: Invoke, photos: Photos, tmp_path: Path, one_error: OneError
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        error = one_error(zoo("predict", folder, photos["coffee"]), code=1)
        assert error == f"{folder} is no folder with a saved model: no config.json in it"
    error = one_error(zoo("predict", "models/mine", photos["coffee"]))
    assert error == (
        "unknown backbone 'models/mine' at character 1 of 'models/mine'; 'zoo list' shows what "
        "there is; and there is no folder of a saved model there"
    )


@pytest.mark.parametrize("config", ["{", "{}", "[]", '{"recipe": "resnet18"}'])
def test_a_folder_with_a_damaged_configuration_is_refused(
    config: str, invoke: Invoke, photos: Photos, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(config)
    result = invoke("predict", tmp_path, photos["coffee"], code=1)
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert str(tmp_path / "config.json") in line


def test_a_folder_without_weights_is_refused(
    invoke: Invoke, saved: Path, photos: Photos, tmp_path: Path
) -> None:
    shutil.copy(saved / "config.json", tmp_path)
    (line,) = invoke("predict", tmp_path, photos["coffee"], code=1).output.splitlines()
    assert str(tmp_path / "model.safetensors") in line


def test_a_model_of_five_channels_is_refused(invoke: Invoke, photos: Photos) -> None:
    result = invoke("predict", "resnet18", "--in-channels", 5, photos["coffee"], code=1)
    error = "Error: resnet18 takes 5 channels; pictures give 1 (grey) or 3 (RGB)"
    assert result.stderr.splitlines()[-1] == error
    assert "skipped" not in result.stderr


def test_a_model_without_preprocessing_is_refused(
    invoke: Invoke, photos: Photos, tmp_path: Path
) -> None:
    model = zoo_core.build("resnet18", image_size=64)
    model.preprocessing = None
    model.save_pretrained(tmp_path / "bare")
    result = invoke("predict", tmp_path / "bare", photos["coffee"], code=1)
    assert result.stderr == (
        f"Error: {tmp_path / 'bare'} does not say how pictures become its inputs; set "
        "model.preprocessing and save it again\n"
    )


def test_a_picture_too_narrow_is_named(invoke: Invoke, photos: Photos, tmp_path: Path) -> None:
    thread = tmp_path / "thread.png"
    Image.new("RGB", (3000, 1)).save(thread)
    result = invoke("predict", "resnet18", *SMALL, thread, photos["coffee"], "--json", code=1)
    assert f"zoo: skipped {thread}: a picture of 3000×1 pixels is too narrow" in result.stderr
    assert paths(json.loads(result.stdout)) == ["coffee.png"]


def test_an_output_that_cannot_be_written_is_one_line(
    invoke: Invoke, photos: Photos, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "masks"
    result = invoke("predict", *SEGMENTING, photos["coffee"], "-o", output, code=1)
    assert result.stderr.splitlines()[-1] == f"Error: {output}: Not a directory"
    taken = invoke("predict", *SEGMENTING, photos["coffee"], "-o", tmp_path / "file", code=2)
    assert "is a file" in taken.stderr


def test_a_missing_picture_argument_is_refused(zoo: Zoo) -> None:
    finished = zoo("predict", "resnet18")
    assert finished.returncode == 2
    assert "Missing argument 'IMAGE...'" in finished.stderr


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_device_that_is_none_is_refused(
    command: str, photos: Photos, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = invoke(command, "resnet18", photos["chelsea"], "--device", "tpu", code=1)
    assert failed.output == "Error: there is no device 'tpu'; write cpu, cuda or cuda:1\n"
    assert not list(tmp_path.iterdir())
