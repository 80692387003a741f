"""Checkpoints: whole or not there; and runs that go on from them as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from zoo_core import hookimpl
from zoo_core.errors import CheckpointError, InputError
from zoo_core.training import Checkpoints, CSVLog, Trainer
from zoo_core.training.checkpoints import read_checkpoint


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Pictures with noise from every global generator."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = random.random() + np.random.rand() + torch.randn(8)
        return noise.float() + index % 3, torch.tensor(index % 3)


class InterruptedRunError(Exception):
    pass


class StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def step_finished(self, step: int) -> None:
        if step == self.step:
            raise InterruptedRunError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))


def trainer_of(folder: Path, **options: Any) -> Trainer:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.99))
    options = {
        "scheduler": OneCycleLR(optimizer, 0.05, total_steps=24),
        "scheduler_interval": "step",
        "checkpoints": Checkpoints(folder, every_steps=1, keep_last=3),
        "max_epochs": 4, "accumulate": 1, "ema": 0.9, "seed": 3, "device": "cpu",
        "task_weights": "uncertainty", "mixed_precision": torch.float16, "progress": False,
    } | options  # fmt: skip
    return Trainer(model, None, optimizer, **options)


def loader(workers: int = 0) -> DataLoader[Any]:
    return DataLoader(Augmented(), batch_size=4, shuffle=True, num_workers=workers)


def train(
    folder: Path, *, resume: bool | Path = False, workers: int = 0, **options: Any
) -> Trainer:
    torch.manual_seed(11)  # what dropout draws from
    trainer = trainer_of(folder, **options)
    trainer.train(loader(workers), loader(), resume=resume)
    return trainer


def same(one: Trainer, other: Trainer) -> None:
    pairs = zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True)
    for (name, a), b in pairs:
        assert torch.equal(a, b), name
    assert json.dumps(one.history) == json.dumps(other.history)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 5, 6, 9, 24])
def test_an_interrupted_run_ends_as_the_whole_one(
    step: int, workers: int, whole: Trainer, tmp_path: Path
) -> None:
    """In the middle of an epoch, at its end and before its validation."""
    with pytest.raises(InterruptedRunError):
        train(tmp_path, workers=workers, callbacks=[StopAt(step)])
    torch.randn(5)  # the resumed process drew other numbers
    same(train(tmp_path, resume=True, workers=workers), whole)


def test_workers_may_change_in_between(whole: Trainer, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(tmp_path, workers=2, callbacks=[StopAt(8)])
    same(train(tmp_path, resume=True), whole)


def test_accumulated_steps_resume_too(tmp_path: Path) -> None:
    options = {"accumulate": 4, "scheduler": None, "checkpoints": None}
    whole = train(tmp_path / "whole", **options)
    options["checkpoints"] = Checkpoints(tmp_path / "cut", every_steps=1)
    with pytest.raises(InterruptedRunError):
        train(tmp_path, callbacks=[StopAt(3)], **options)
    same(train(tmp_path, resume=True, **options), whole)


def test_a_finished_run_has_nothing_left_to_do(whole: Trainer, tmp_path: Path) -> None:
    train(tmp_path)
    again = train(tmp_path, resume=True)
    same(again, whole)
    assert again.step == 24


def test_a_longer_run_goes_on(tmp_path: Path) -> None:
    options = {"scheduler": None}
    whole = train(tmp_path / "whole", max_epochs=4, **options)
    train(tmp_path / "cut", max_epochs=2, **options)
    same(train(tmp_path / "cut", max_epochs=4, resume=True, **options), whole)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    saved: list[Path] = []

    class Saved:
        @hookimpl
        def checkpoint_saved(self, path: Path) -> None:
            saved.append(path)

    options = {"scheduler": None, "callbacks": [Saved()]}
    keeper = Checkpoints(tmp_path, keep_last=2)
    trainer = train(tmp_path, max_epochs=8, checkpoints=keeper, **options)
    losses = trainer.history["val_loss"]
    best = keeper.best()
    assert best is not None
    assert best.name == f"step-{6 * (1 + losses.index(min(losses))):09d}"
    assert set(keeper.paths()) == {best, *saved[-2:]}
    assert len(saved) == 8
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in keeper.paths()}


def test_the_best_is_known_where_the_last_step_of_an_epoch_was_saved_before(
    tmp_path: Path,
) -> None:
    keeper = Checkpoints(tmp_path, every_steps=3)
    trainer = train(tmp_path, scheduler=None, checkpoints=keeper)
    losses = trainer.history["val_loss"]
    best = keeper.best()
    assert best is not None
    assert best.name == f"step-{6 * (1 + losses.index(min(losses))):09d}"
    assert read_checkpoint(best).state["position"] == 0
    assert not list(tmp_path.glob(".*"))


def test_what_was_being_replaced_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(tmp_path, callbacks=[StopAt(8)])
    last = Checkpoints(tmp_path).paths()[-1]
    last.rename(tmp_path / f".replaced-{last.name}")
    (tmp_path / f".writing-{last.name}").mkdir()
    Checkpoints(tmp_path).start(resumes=True)
    assert Checkpoints(tmp_path).paths()[-1] == last
    read_checkpoint(last)
    shutil.copytree(last, tmp_path / f".replaced-{last.name}")
    Checkpoints(tmp_path).start(resumes=True)
    assert Checkpoints(tmp_path).paths()[-1] == last
    assert not list(tmp_path.glob(".*"))


def test_checkpoints_that_are_not_gone_on_from_are_set_aside(tmp_path: Path) -> None:
    for times in (1, 2):
        with pytest.raises(InterruptedRunError):
            train(tmp_path, resume=times > 1, callbacks=[StopAt(9)])
        first, *later = Checkpoints(tmp_path).paths()
        with pytest.raises(InterruptedRunError):
            train(tmp_path, resume=first, callbacks=[StopAt(int(first.name[5:]) + 1)])
        for path in later:
            assert (tmp_path / f"abandoned-{path.name}{'-2' if times > 1 else ''}").is_dir()
    assert Checkpoints(tmp_path).paths() == [first]


def test_nothing_is_pickled(tmp_path: Path) -> None:
    train(tmp_path)
    names = {path.name for path in Checkpoints(tmp_path).paths()[-1].iterdir()}
    assert names == {
        "manifest.json", "state.json", "model.safetensors", "optimizer.safetensors",
        "average.safetensors", "losses.safetensors", "losses_optimizer.safetensors",
        "generators-0.safetensors",
    }  # fmt: skip


def test_a_log_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    log = CSVLog(tmp_path / "log.csv")
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "run", callbacks=[log, StopAt(14)])
    train(tmp_path / "run", resume=True, callbacks=[log])
    rows = log.path.read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3", "4"]


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1, scheduler=None)
    with pytest.raises(CheckpointError, match="holds checkpoints of an earlier run; resume=True"):
        train(tmp_path)


def test_resuming_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="resume=True needs the trainer's checkpoints=FOLDER"):
        train(tmp_path, checkpoints=None, resume=True)
    with pytest.raises(CheckpointError, match=r"no checkpoint: manifest\.json cannot be read"):
        train(tmp_path, resume=tmp_path / "nowhere")


def test_a_run_may_begin_by_resuming(whole: Trainer, tmp_path: Path) -> None:
    same(train(tmp_path, resume=True), whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": None}, "the checkpoint has a scheduler, and the trainer has none"),
        ({"ema": None}, "the checkpoint has ema, and the trainer has none"),
        ({"task_weights": None}, "the checkpoint has learnt task weights, and the trainer"),
        ({"mixed_precision": False}, "the checkpoint has a float16 scale, and the trainer has"),
    ],
)
def test_another_trainer_cannot_go_on(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    train(tmp_path, max_epochs=1)
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path, resume=True, **options)


def test_another_model_cannot_go_on(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1)
    model = nn.Linear(8, 3)
    trainer = Trainer(model, checkpoints=tmp_path, device="cpu", progress=False)
    with pytest.raises(CheckpointError, match="of another model: weight is nothing there and"):
        trainer.train(loader(), resume=True)


def damaged(path: Path, how: str) -> None:
    if how == "cut":
        with (path / "model.safetensors").open("r+b") as file:
            file.truncate(100)
    elif how == "flipped":
        content = bytearray((path / "optimizer.safetensors").read_bytes())
        content[-3] ^= 1
        (path / "optimizer.safetensors").write_bytes(content)
    elif how == "missing":
        (path / "state.json").unlink()
    else:
        (path / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "model.safetensors is not as it was written"),
        ("flipped", "optimizer.safetensors is not as it was written"),
        ("missing", "state.json cannot be read: No such file or directory"),
        ("manifest", "manifest.json is no JSON"),
    ],
)
def test_a_damaged_one_is_refused_and_the_one_before_taken_if_asked(
    how: str, message: str, whole: Trainer, tmp_path: Path
) -> None:
    with pytest.raises(InterruptedRunError):
        train(tmp_path, callbacks=[StopAt(9)])
    before, last = Checkpoints(tmp_path).paths()[-2:]
    damaged(last, how)
    with pytest.raises(CheckpointError) as failed:
        train(tmp_path, resume=True)
    assert str(failed.value) == (
        f"checkpoint {last} is damaged: {message}; resume from {before} to take the one before"
    )
    same(train(tmp_path, resume=before), whole)
    assert (tmp_path / f"abandoned-{last.name}").is_dir()


@pytest.mark.skipif(os.geteuid() != 0 and not hasattr(os, "mkfifo"), reason="needs a POSIX system")
def test_a_full_disk_costs_one_line_and_no_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the error comes from the same write."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_checkpoints import *
folder = Path({str(tmp_path)!r})
try:
    train(folder, callbacks=[StopAt(4)])
except InterruptedRunError:
    pass
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    train(folder, resume=True)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept = [f"step-{step:09d}" for step in (1, 2, 3)]
    assert done.stdout.startswith(f"checkpoint {tmp_path / 'step-000000004'} cannot be written: ")
    assert done.stdout.endswith(f"; the last good one is {tmp_path / kept[-1]}\n")
    assert [path.name for path in sorted(tmp_path.iterdir())] == kept
    for name in kept:
        read_checkpoint(tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot be written to .*: Not a directory"):
        train(tmp_path / "file" / "run")


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs Linux")
def test_a_place_that_nobody_can_write_to_is_refused_at_the_start() -> None:
    """Not even root makes a folder in the kernel's own tree."""
    trainer = trainer_of(Path("/sys/zoo"))
    with pytest.raises(CheckpointError, match=r"^checkpoints cannot be written to /sys/zoo: \w"):
        trainer.train(loader())
    assert trainer.step == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write to a folder: no user by its mode, not even root by its attribute."""
    if os.geteuid() != 0:
        before = folder.stat().st_mode
        lock, unlock = partial(folder.chmod, 0o555), partial(folder.chmod, before)
    else:
        tool = shutil.which("chattr") or pytest.skip("root writes anywhere; there is no chattr")
        change = partial(subprocess.run, capture_output=True, check=True)
        lock, unlock = (partial(change, [tool, sign, folder]) for sign in ("+i", "-i"))
    try:
        lock()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"root writes anywhere; {error.stderr.decode().strip()}")
    try:
        yield
    finally:
        unlock()


def test_a_read_only_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(CheckpointError, match=r"cannot be written to .*: \w"):
        train(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_keeps_the_checkpoints_that_are_there(
    whole: Trainer, tmp_path: Path
) -> None:
    """It becomes so in the middle of the run, which goes on when it may."""
    with ExitStack() as locked:

        class Lock:
            @hookimpl
            def step_finished(self, step: int) -> None:
                if step == 8:
                    locked.enter_context(read_only(tmp_path))

        with pytest.raises(CheckpointError) as failed:
            train(tmp_path, callbacks=[Lock()])
        with pytest.raises(CheckpointError, match="checkpoints cannot be written to"):
            train(tmp_path, resume=True)
    kept = [tmp_path / f"step-{step:09d}" for step in (5, 6, 7)]
    told = rf"checkpoint {tmp_path}/step-000000008 cannot be written: \w.*; the last good one is "
    assert re.fullmatch(told + str(kept[-1]), str(failed.value))
    assert sorted(tmp_path.iterdir()) == kept
    same(train(tmp_path, resume=True), whole)


@pytest.mark.parametrize("option", ["every_epochs", "every_steps", "keep_last"])
def test_wrong_numbers_are_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option} must be a whole number from"):
        Checkpoints(tmp_path, **{option: -1})


SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_checkpoints import *
print("begun", flush=True)
trainer = train(Path(sys.argv[1]), resume=True)
print(json.dumps(trainer.history))
"""


def started(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_sigterm_saves_and_exits_143(whole: Trainer, tmp_path: Path) -> None:
    process = started(tmp_path)
    while not Checkpoints(tmp_path).paths():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    if process.returncode == 0:  # it was faster
        pytest.skip("the run had ended")
    assert process.returncode == 143
    assert not output
    same(train(tmp_path, resume=True), whole)


def test_killed_runs_resume(whole: Trainer, tmp_path: Path) -> None:
    """More often, and with a table: ``python -m benchmarks.kills``."""
    moments = random.Random(0)
    for trial in range(3):
        folder = tmp_path / str(trial)
        process = started(folder)
        while not Checkpoints(folder).paths() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.2)
        process.kill()
        process.communicate()
        for path in Checkpoints(folder).paths():
            read_checkpoint(path)
        same(train(folder, resume=True), whole)
