"""The same script under ``torchrun``: what two processes learn is what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from zoo_core.training import Checkpoints
from zoo_core.training.checkpoints import read_checkpoint

SCRIPT = Path(__file__).parent / "torchrun_train.py"


def command(processes: int, folder: Path, options: Mapping[str, Any]) -> list[str | Path]:
    python: list[str | Path] = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        python += [str(processes)]
    return [*python, SCRIPT, folder, json.dumps(options)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def run(processes: int, folder: Path, **options: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        command(processes, folder, {"max_epochs": 3} | options),
        capture_output=True, text=True, check=False, timeout=240, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    models = [load_file(folder / f"model-{rank}.safetensors") for rank in range(processes)]
    histories = [(folder / f"history-{rank}.json").read_text() for rank in range(processes)]
    for model, history in zip(models, histories, strict=True):
        assert all(torch.equal(model[name], models[0][name]) for name in model)
        assert history == histories[0]
    return models[0], json.loads(histories[0])


def check_close(
    one: tuple[dict[str, Tensor], dict[str, Any]], other: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    for name, value in one[0].items():
        torch.testing.assert_close(other[0][name], value, atol=1e-5, rtol=1e-5)
    for key in ("train_loss", "val_loss"):
        assert other[1][key] == pytest.approx(one[1][key], abs=1e-5)
    for task, metrics in one[1]["val_metrics"].items():
        for metric in ("accuracy", "mean_iou"):
            if metric in metrics:
                assert other[1]["val_metrics"][task][metric] == pytest.approx(metrics[metric])


PLAIN: dict[str, Any] = {}
UNEVEN = {"batch": 11}  # the last batch has one sample: a process has none
ACCUMULATING = {"accumulate": 3, "task_weights": "uncertainty", "gradient_clip_value": 0.1}
AVERAGING = {"ema": 0.9, "frozen": ["decoder"]}


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        (UNEVEN, "ddp"),
        (ACCUMULATING, "fsdp"),
        (AVERAGING, "ddp"),
        pytest.param(PLAIN, "ddp", marks=pytest.mark.long),
        pytest.param(PLAIN, "fsdp", marks=pytest.mark.long),
        pytest.param(UNEVEN, "fsdp", marks=pytest.mark.long),
        pytest.param(ACCUMULATING, "ddp", marks=pytest.mark.long),
        pytest.param(AVERAGING, "fsdp", marks=pytest.mark.long),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_two_processes_give_what_one_gives(
    options: dict[str, Any], strategy: str, tmp_path: Path
) -> None:
    one = run(1, tmp_path / "one", **options)
    two = run(2, tmp_path / "two", strategy=strategy, **options)
    check_close(one, two)


def test_blocks_of_their_own_shards_give_the_same(tmp_path: Path) -> None:
    one = run(1, tmp_path / "one", width=256, max_epochs=1)
    two = run(2, tmp_path / "two", width=256, max_epochs=1, strategy="fsdp")
    check_close(one, two)


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.long), "fsdp"])
def test_half_precision_goes_with_processes(strategy: str, tmp_path: Path) -> None:
    _, one = run(1, tmp_path / "one")
    _, two = run(2, tmp_path / "two", strategy=strategy, dtype="float16")
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=0.05)


@pytest.mark.parametrize(
    ("strategy", "workers"),
    [
        ("ddp", 2),
        pytest.param("fsdp", 0, marks=pytest.mark.long),
        pytest.param("ddp", 0, marks=pytest.mark.long),
        pytest.param("fsdp", 2, marks=pytest.mark.long),
    ],
)
def test_two_processes_resume_bit_for_bit(strategy: str, workers: int, tmp_path: Path) -> None:
    """With dropout and augmentation on, from the middle of an epoch."""
    options = {"dropout": 0.5, "strategy": strategy, "ema": 0.9, "max_epochs": 2}
    whole = run(2, tmp_path / "whole", **options)
    cut = tmp_path / "cut"
    run(2, cut, every_steps=1, **options)
    for path in Checkpoints(cut / "checkpoints").paths():
        if path.name > "step-000000007":  # what comes after the middle of the second epoch
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    kept = Checkpoints(cut / "checkpoints").paths()
    if not kept:
        pytest.fail("nothing to resume from")
    resumed = run(2, cut, every_steps=1, resume=True, workers=workers, **options)
    assert all(torch.equal(value, resumed[0][name]) for name, value in whole[0].items())
    assert resumed[1] == whole[1]


def test_sigterm_ends_all_processes_at_one_step(tmp_path: Path) -> None:
    options = {"max_epochs": 10_000, "every_steps": 50}
    process = subprocess.Popen(
        command(2, tmp_path, options), env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 180
    while not Checkpoints(tmp_path / "checkpoints").paths() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on
    _, told = process.communicate(timeout=180)
    assert process.returncode != 0, told
    paths = Checkpoints(tmp_path / "checkpoints").paths()
    assert paths
    assert set(read_checkpoint(paths[-1]).tensors) >= {"generators-0", "generators-1"}
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_an_error_of_the_main_process_is_everybodys(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    done = subprocess.run(
        command(2, tmp_path, {"max_epochs": 1, "every_steps": 1}),
        capture_output=True, text=True, check=False, timeout=120, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1
    for rank in (0, 1):
        assert f"rank {rank}: {tmp_path / 'checkpoints'} holds checkpoints" in done.stderr
