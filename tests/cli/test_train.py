"""``zoo train`` and ``zoo evaluate``, on real scenes of digits."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from zoo_core.data import MultitaskDataset, Transforms
from zoo_core.data.making import write_digits, write_scenes
from zoo_core.evaluation import Evaluator
from zoo_core.models import MultitaskModel
from zoo_core.training import Checkpoints

Invoke = Callable[..., Result]
InvokeJson = Callable[..., Any]

RECIPE = "timm/test_resnet+linear"
SMALL = ["--epochs", "2", "--batch-size", "8", "--image-size", "32", "--workers", "0"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    list(write_scenes(folder, {"train": 30, "val": 12}, 32, 0))
    return folder


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    names = scenes / "mask-names.txt"
    arguments = ["train", RECIPE, "--data", scenes, "--out", folder, "--mask-names", names, *SMALL]
    done = subprocess.run(
        [sys.executable, "-m", "zoo_core", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_a_run_prints_a_line_an_epoch(run: tuple[Path, str]) -> None:
    folder, printed = run
    lines = [line.split() for line in printed.splitlines()]
    assert ["epoch", "loss", "val", "loss", "accuracy", "mean", "IoU", "s"] in lines
    [first, second] = [line for line in lines if line and line[0] in ("1/2", "2/2")]
    history = json.loads((folder / "history.json").read_text())
    for line, loss, val in zip(
        (first, second), history["train_loss"], history["val_loss"], strict=True
    ):
        assert float(line[1]) == pytest.approx(loss, abs=1e-4)
        assert float(line[2]) == pytest.approx(val, abs=1e-4)
    assert ["model", str(folder / "model")] in lines


def test_a_run_leaves_everything_in_its_folder(run: tuple[Path, str], scenes: Path) -> None:
    folder, _ = run
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["recipe"], config["data"], config["epochs"]) == (RECIPE, str(scenes), 2)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["plugins"]["zoo-timm"]
    with (folder / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    for name in ("curves.png", "predictions.png"):
        with Image.open(folder / name) as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 50
    assert len(Checkpoints(folder / "checkpoints").paths()) == 2


def test_the_model_of_a_run_is_its_best(run: tuple[Path, str], scenes: Path) -> None:
    folder, _ = run
    model = MultitaskModel.from_pretrained(folder / "model")
    assert model.labels["segmentation"][:2] == ("background", "0")
    assert model.labels["classification"] == tuple(map(str, range(10)))
    val = scenes / "val"
    classes = model.labels["classification"]
    data = MultitaskDataset(val / "images", val / "masks", Transforms.like(model), classes=classes)
    found = Evaluator(model).evaluate(DataLoader(data, 5))
    told = json.loads((folder / "metrics.json").read_text())
    for task in ("classification", "segmentation"):
        for name, value in found[task].items():
            if isinstance(value, float) and value == value:
                assert told[task][name] == pytest.approx(value, abs=1e-6)
    history = json.loads((folder / "history.json").read_text())
    best = min(range(2), key=history["val_loss"].__getitem__)
    assert told["segmentation"]["mean_iou"] == pytest.approx(
        history["val_metrics"]["segmentation"]["mean_iou"][best], abs=1e-6
    )


def test_evaluate_says_what_the_run_said(
    run: tuple[Path, str], scenes: Path, invoke_json: InvokeJson, invoke: Invoke
) -> None:
    folder, _ = run
    told = json.loads((folder / "metrics.json").read_text())
    found = invoke_json("evaluate", folder, "--data", scenes, "--workers", 0, "--batch-size", 3)
    assert (
        found["classification"]["confusion_matrix"] == (told["classification"]["confusion_matrix"])
    )
    assert found["segmentation"]["per_class"]["iou"] == pytest.approx(
        told["segmentation"]["per_class"]["iou"]
    )
    shown = invoke(
        "evaluate", folder / "model", "--data", scenes, "--workers", 0, "--per-class", "--confusion"
    )
    rows = [line.split() for line in shown.output.splitlines()]
    assert ["mean", "iou", f"{told['segmentation']['mean_iou']:.4f}"] in rows
    assert any(row[:2] == ["0", "background"] for row in rows)
    assert ["target", *map(str, range(11))] in rows


def test_evaluate_needs_a_split_that_there_is(
    run: tuple[Path, str], scenes: Path, invoke: Invoke
) -> None:
    failed = invoke("evaluate", run[0], "--data", scenes, "--split", "test", code=1)
    assert failed.output == f"Error: {scenes} has no split 'test'; it has train, val\n"


def test_other_classes_are_matched_by_name_or_numbered_and_said(
    run: tuple[Path, str], scenes: Path, tmp_path: Path, invoke: Invoke, invoke_json: InvokeJson
) -> None:
    list(write_digits(tmp_path / "digits"))
    few = tmp_path / "few"
    for digit in ("3", "7"):
        (few / digit).mkdir(parents=True)
        for file in sorted((tmp_path / "digits" / "val" / digit).iterdir())[:4]:
            file.rename(few / digit / file.name)
    found = invoke_json("evaluate", run[0], "--data", few, "--workers", 0)
    assert found["classification"]["per_class"]["support"] == [0, 0, 0, 4, 0, 0, 0, 4, 0, 0]
    (few / "3").rename(few / "three")
    failed = invoke("evaluate", run[0], "--data", few, "--workers", 0, code=1)
    assert "few has 2 classes, the model 10; it does not know 'three'" in failed.output


def test_a_killed_run_goes_on_bit_for_bit(
    run: tuple[Path, str], scenes: Path, tmp_path: Path
) -> None:
    folder, _ = run
    names = str(scenes / "mask-names.txt")
    command = [
        sys.executable, "-m", "zoo_core", "train", RECIPE, "--data", str(scenes),
        "--out", str(tmp_path / "run"), "--mask-names", names, *SMALL, "--save-every", "1",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    keeper = Checkpoints(tmp_path / "run" / "checkpoints")
    deadline = time.monotonic() + 120
    while not keeper.paths() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model").exists()
    resumed = subprocess.run(
        [*command[:3], "train", "--resume", str(tmp_path / "run"), "--workers", "2"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    whole, after = weights(folder), weights(tmp_path / "run")
    assert all(torch.equal(after[name], value) for name, value in whole.items())
    told = [folder / "metrics.json", tmp_path / "run" / "metrics.json"]
    assert told[0].read_text() == told[1].read_text()


def test_torchrun_gives_the_same_run(run: tuple[Path, str], scenes: Path, tmp_path: Path) -> None:
    folder, _ = run
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "zoo_core", "train", RECIPE, "--data", str(scenes), "--out",
            str(tmp_path / "run"), *SMALL,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch") == 1
    histories = [
        json.loads((place / "history.json").read_text()) for place in (folder, tmp_path / "run")
    ]
    assert histories[1]["train_loss"] == pytest.approx(histories[0]["train_loss"], rel=1e-3)
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    MultitaskModel.from_pretrained(tmp_path / "run" / "model")
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "zoo_core", "evaluate", str(tmp_path / "run"), "--data", str(scenes),
            "--workers", "0", "--json",
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)["classification"]
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["classification"]
    assert (measured["samples"], measured["accuracy"]) == (told["samples"], told["accuracy"])


def test_options_come_from_a_file_and_the_command_line_wins(
    scenes: Path, tmp_path: Path, invoke: Invoke
) -> None:
    config = tmp_path / "fast.yaml"
    config.write_text(
        f"recipe: timm/test_vit\ndata: {scenes}\nepochs: 9\nbatch-size: 16\nlr: 1e-2\n"
        f"image_size: [32, 48]\nfreeze: [backbone]\nseg_classes: null\nchannels_last: true\n"
    )
    out = tmp_path / "run"
    invoke(
        "train", "timm/test_resnet+linear", "--config", config, "--epochs", 1, "--out", out,
        "--workers", 0,
    )  # fmt: skip
    told = yaml.safe_load((out / "config.yaml").read_text())
    assert (told["recipe"], told["epochs"], told["batch_size"]) == (RECIPE, 1, 16)
    assert (told["lr"], told["image_size"], told["channels_last"]) == (0.01, [32, 48], True)
    invoke("train", "--config", out / "config.yaml", "--out", tmp_path / "again", "--workers", 0)
    first, second = weights(out), weights(tmp_path / "again")
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epochs: 3\nepoch: 2\n", ":2: 'epoch' is no option of train; did you mean epochs?"),
        ("epochs: 0\n", ":1: epochs: 0 is not in the range x>=1."),
        ("optimizer: lion\n", ":1: optimizer: 'lion' is not one of 'adamw', 'adam', 'sgd'."),
        ("balance: 1\n", ":1: balance: write true or false, not 1"),
        ("epochs: 1\nepochs: 2\n", ":2: 'epochs' is given twice"),
        ("lr: [1, 2]\n", ":1: lr: [1, 2] is not one value"),
        ("- epochs\n", ": must be options and their values, such as 'epochs: 20'"),
        ("epochs: [1\n", ": is no YAML: "),
    ],
)
def test_a_wrong_file_of_options_is_told_by_its_line(
    text: str, problem: str, tmp_path: Path, invoke: Invoke
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    failed = invoke("train", "resnet18", "--data", tmp_path, "--config", config, code=2)
    assert f"Error: {config}{problem}" in failed.output


def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    run: tuple[Path, str], scenes: Path, tmp_path: Path, invoke: Invoke
) -> None:
    folder, _ = run
    digits = tmp_path / "digits"
    list(write_digits(digits))
    out = tmp_path / "out"

    def refusal(*arguments: object, code: int) -> str:
        failed = invoke("train", *arguments, "--out", out, "--workers", 0, code=code)
        assert not out.exists()
        [line] = failed.output.splitlines()
        return line.removeprefix("Error: ")

    assert refusal(code=2) == "what to train is missing: RECIPE_OR_DIR, such as resnet18"
    assert refusal("resnet18", code=2) == "what to train is missing: --data DIR"
    assert refusal("resnet18", "--data", tmp_path / "no", code=1) == (
        f"{tmp_path / 'no'}: there is no such folder"
    )
    assert "there is no decoder in 'zoo-resnet:resnet18'" in refusal(
        "resnet18", "--data", scenes, code=2
    )
    assert refusal("resnet18", "--data", digits, "--seg-classes", 3, code=2) == (
        f"--seg-classes: {digits} has no masks"
    )
    assert refusal(RECIPE, "--data", scenes, "--freeze", "neck", code=2) == (
        "--freeze neck: the model has backbone, attention, decoder, classifier"
    )
    assert refusal(RECIPE, "--data", scenes, "--warmup", 10, code=2) == (
        "--warmup is 10 epochs of 10; it must be fewer than all"
    )
    assert refusal(RECIPE, "--data", scenes, "--task-weights", "a:1", code=2) == (
        "--task-weights 'a:1': write uncertainty, or classification=1,segmentation=0.5"
    )
    assert refusal(folder / "model", "--data", scenes, "--image-size", 64, code=2) == (
        "--image-size: a saved model is used as it is; leave this away"
    )
    assert "unknown backbone" in refusal("resnet1", "--data", digits, code=2).lower()


def test_a_folder_in_use_is_neither_overwritten_nor_gone_on_with_otherwise(
    run: tuple[Path, str], tmp_path: Path, invoke: Invoke
) -> None:
    folder, _ = run
    failed = invoke("train", RECIPE, "--data", "x", "--out", folder, code=2)
    assert failed.output == (
        f"Error: --out {folder} holds files already; --resume goes on with a run there\n"
    )
    failed = invoke("train", "--resume", folder, "--epochs", 5, code=1)
    assert failed.output == (
        f"Error: {folder} was begun with epochs: 2, not 5; a run goes on as it was begun, and "
        f"another --out begins anew\n"
    )
    failed = invoke("train", "--resume", tmp_path, code=1)
    assert failed.output == (f"Error: {tmp_path} is no folder of a run: no config.yaml in it\n")
    failed = invoke("train", "--out", tmp_path / "new", "--resume", code=2)
    assert f"there is no run in {tmp_path / 'new'} to go on with" in failed.output


def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken_if_asked(
    run: tuple[Path, str], tmp_path: Path, invoke: Invoke
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    before, last = Checkpoints(folder / "checkpoints").paths()
    (last / "model.safetensors").write_bytes(b"")
    failed = invoke("train", "--resume", folder, "--workers", 0, code=1)
    assert failed.output.splitlines()[-1] == (
        f"Error: checkpoint {last} is damaged: model.safetensors is not as it was written; resume "
        f"from {before} to take the one before"
    )
    invoke("train", "--resume", before, "--workers", 0)
    whole, after = weights(run[0]), weights(folder)
    assert all(torch.equal(after[name], value) for name, value in whole.items())
    assert (folder / "checkpoints" / f"abandoned-{last.name}").is_dir()


def test_runs_are_numbered_and_a_saved_model_is_trained_further(
    run: tuple[Path, str], scenes: Path, tmp_path: Path, invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        done = invoke(
            "train", run[0] / "model", "--data", scenes, "--epochs", 1, "--workers", 0,
            "--lr", 1e-9, "--schedule", "constant", "--balance", "--json",
        )  # fmt: skip
        told = json.loads(done.stdout)
        assert told["run"] == f"runs/run-00{number}"
    # A learning rate of nothing leaves what was learnt, but for the batch norms' averages.
    before, after = weights(run[0]), weights(tmp_path / "runs" / "run-002")
    assert torch.allclose(before["classifier.weight"], after["classifier.weight"], atol=1e-6)
    again = invoke("train", "--resume")
    assert "runs/run-002" in again.output


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_without_splits_is_held_out_of(
    channels: int, tmp_path: Path, invoke: Invoke
) -> None:
    list(write_scenes(tmp_path / "all", {"train": 20}, 32, 0))
    for kind in ("images", "masks"):  # masks without labels
        (tmp_path / "data" / kind).mkdir(parents=True)
        for file in (tmp_path / "all" / "train" / kind).rglob("*.png"):
            file.rename(tmp_path / "data" / kind / file.name)
    done = invoke(
        "train", "timm/test_resnet+linear", "--data", tmp_path / "data", "--out", tmp_path / "run",
        "--val-share", 0.25, "--in-channels", channels, "--balance", "--epochs", 1,
        "--image-size", 32, "--workers", 0, "--batch-size", 4, "--ema", 0.9,
    )  # fmt: skip
    assert "15 pictures, validated on 5" in done.output
    model = MultitaskModel.from_pretrained(tmp_path / "run" / "model")
    assert (model.num_classes_classification, model.num_classes_segmentation) == (None, 11)
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(told) == ["segmentation"]


def test_scenes_and_digits_are_written_only_into_empty_folders(
    tmp_path: Path, invoke: Invoke
) -> None:
    counts = ["--train", 60, "--val", 60]
    done = invoke("data", "make", "scenes", tmp_path / "s", *counts, "--size", 40)
    assert done.output == f"120 pictures in {tmp_path / 's'}\n"
    checked = invoke("data", "check", tmp_path / "s", "--workers", 1)
    assert "multitask, 120 pictures: nothing wrong" in checked.output
    failed = invoke("data", "make", "digits", tmp_path / "s", code=1)
    assert failed.output == (
        f"Error: {tmp_path / 's'} is there already; give a new or an empty folder\n"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_one_line(workers: int, tmp_path: Path, invoke: Invoke) -> None:
    list(write_digits(tmp_path / "digits"))
    broken = tmp_path / "digits" / "val" / "3" / "004.png"
    broken.write_text("no picture")
    failed = invoke(
        "train", "timm/test_resnet", "--data", tmp_path / "digits" / "val", "--out",
        tmp_path / "run", "--workers", workers, "--epochs", 1, "--val-share", 0, code=1,
    )  # fmt: skip
    assert failed.output.splitlines()[-1] == (
        f"Error: {broken}: it is no picture that can be read; save it as one of BMP, GIF, JPEG, "
        f"PNG, PPM, TIFF or WEBP, or remove it"
    )


def test_a_device_that_is_none_is_refused(scenes: Path, tmp_path: Path, invoke: Invoke) -> None:
    failed = invoke(
        "train", RECIPE, "--data", scenes, "--device", "tpu", "--out", tmp_path / "run", code=1
    )
    assert failed.output == "Error: there is no device 'tpu'; write cpu, cuda or cuda:1\n"
