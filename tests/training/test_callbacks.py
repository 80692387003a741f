"""What a run shows and writes: events for TensorBoard, and a bar on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from zoo_core import hookimpl
from zoo_core.training import TensorBoardLog, Trainer


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    return DataLoader(TensorDataset(torch.randn(12, 4, generator=generator), labels), 4)


class Noted:
    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.results: dict[int, Mapping[str, float]] = {}

    @hookimpl
    def step_finished(self, step: int, losses: Mapping[str, float]) -> None:
        self.losses[step] = losses["classification"]

    @hookimpl
    def epoch_finished(self, epoch: int, results: Mapping[str, float]) -> None:
        self.results[epoch] = results


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Read what TensorBoard would show: values by step, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        name: {event.step: event.value for event in read.Scalars(name)}
        for name in read.Tags()["scalars"]
    }


def test_tensorboard_reads_the_losses_and_results(tmp_path: Path) -> None:
    noted = Noted()
    torch.manual_seed(0)
    Trainer(
        nn.Linear(4, 3), max_epochs=2, seed=0, device="cpu", progress=False,
        callbacks=[noted, TensorBoardLog(tmp_path)],
    ).train(loader(), loader())  # fmt: skip
    found = events(tmp_path)
    assert found.pop("loss/classification") == pytest.approx(noted.losses)
    assert set(noted.losses) == {1, 2, 3, 4, 5, 6}
    assert set(found) == set(noted.results[1])
    assert {"train_loss", "val_loss", "val/accuracy", "learning_rate"} <= set(found)
    for name, values in found.items():
        wanted = {epoch: results[name] for epoch, results in noted.results.items()}
        assert values == pytest.approx(wanted, nan_ok=True)


def test_tensorboard_has_all_steps_of_a_run_that_was_cut_off(tmp_path: Path) -> None:
    """Its process is ended as SIGTERM ends it."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_callbacks import *
class Stop:
    @hookimpl
    def epoch_finished(self, epoch):
        if epoch == 2:
            raise SystemExit(143)
Trainer(
    nn.Linear(4, 3), max_epochs=9, seed=0, device="cpu", progress=False,
    callbacks=[Stop(), TensorBoardLog({str(tmp_path)!r})],
).train(loader())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 143
    found = events(tmp_path)
    assert sorted(found["loss/classification"]) == [1, 2, 3, 4, 5, 6]
    assert sorted(found["train_loss"]) == [1, 2]


class Slow(Dataset[tuple[Tensor, Tensor]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.06)  # a bar is drawn ten times a second
        return torch.ones(4) * index, torch.tensor(index % 3)


def shown(own: int, its: int, progress: bool | None) -> str:
    """Train with errors going to one end of a terminal or pipe, and give what the other gets."""
    told = [b""]

    def read() -> None:
        try:
            while some := os.read(own, 4096):
                told.append(some)
        except OSError:  # how Linux tells that nobody has the terminal open any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    trainer = Trainer(nn.Linear(4, 3), max_epochs=2, device="cpu", progress=progress)
    with os.fdopen(its, "w") as errors, redirect_stderr(errors):
        trainer.train(DataLoader(Slow(), 2))
    reader.join()
    os.close(own)
    return b"".join(told).decode()


def terminal() -> tuple[int, int]:
    own, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    return own, its


def test_a_terminal_shows_losses_and_speed() -> None:
    told = shown(*terminal(), progress=None)
    for epoch in (1, 2):
        pattern = rf"epoch {epoch}: .* (\d+)/12 \[.*, +([\d.]+)img/s, classification=\d+\.\d{{4}}\]"
        found = [re.search(pattern, line) for line in told.split("\r")]
        seen, speeds = zip(*(match.groups() for match in found if match), strict=True)
        assert [*map(int, seen)] == sorted(map(int, seen))
        assert seen[-1] == "12"
        assert 1 < float(speeds[-1]) <= 1 / 0.06


def test_a_pipe_shows_nothing_unless_asked() -> None:
    assert shown(*os.pipe(), progress=None) == ""
    assert "12/12" in shown(*os.pipe(), progress=True)


def test_a_bar_may_be_turned_off() -> None:
    assert shown(*terminal(), progress=False) == ""
