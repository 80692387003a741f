"""Training killed at random moments, half of them aimed at saves, and gone on with.

Each trial kills a run with SIGKILL, reads every checkpoint that is left, resumes, and compares the
final weights with those of a run that nobody killed. Every other kill waits for the folder that a
save writes to, and then a random time of up to 30 ms.

Run ``python -m benchmarks.kills [TRIALS]``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from zoo_core.data import Scenes
from zoo_core.errors import CheckpointError
from zoo_core.training import Checkpoints, Trainer
from zoo_core.training.checkpoints import read_checkpoint

TRIALS: Final = 25
STEPS: Final = 30
FINAL: Final = "final.safetensors"
AIM: Final = 0.03
"""Seconds after a save has begun within which it is aimed at."""


def train(folder: Path) -> None:
    """Train a model with dropout, a checkpoint a step; or go on with it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 256, 3, 4), nn.BatchNorm2d(256), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(256, 512, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    keeper = Checkpoints(folder / "checkpoints", every_steps=1)
    trainer = Trainer(
        model, None, optimizer, max_epochs=STEPS // 10, seed=0, device="cpu", checkpoints=keeper,
        progress=False,
    )  # fmt: skip
    data = DataLoader(Scenes(80, size=32), 8, shuffle=True, collate_fn=_labelled)
    trainer.train(data, resume=True)
    save_file(model.state_dict(), folder / FINAL)


def _labelled(samples: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([sample["image"] for sample in samples])
    return images, torch.stack([sample["label"] for sample in samples])


def main(trials: int) -> None:
    """Print a table of what each kill left."""
    moments = random.Random(0)
    with TemporaryDirectory() as place:
        whole = Path(place, "whole")
        a_step = _finished(whole) / STEPS
        expected = load_file(whole / FINAL)
        print("| kill | aimed | checkpoints left | torn | in a save | resumed at | end |")
        print("| ---: | --- | ---: | ---: | --- | ---: | --- |")
        good = hits = whole_ones = 0
        for trial in range(1, trials + 1):
            folder = Path(place, str(trial))
            process = _started(folder)
            is_aimed = trial % 2 == 0
            _wait_for(process, folder, f"step-{moments.randint(1, STEPS - 3):09d}")
            if is_aimed:
                # Not for what is being deleted, with which a save ends.
                _wait_for(process, folder, ".writing-step-*")
            time.sleep(moments.random() * (AIM if is_aimed else a_step))
            process.kill()
            process.wait()
            left = Checkpoints(folder / "checkpoints").paths()
            torn = sum(map(_is_torn, left))
            saving = any((folder / "checkpoints").glob(".writing-*"))
            _finished(folder)
            found = load_file(folder / FINAL)
            is_same = all(torch.equal(value, found[name]) for name, value in expected.items())
            good += is_same and not torn
            hits += saving
            whole_ones += len(left) - torn
            print(
                f"| {trial} | {'yes' if is_aimed else 'no'} | {len(left)} | {torn} | "
                f"{'yes' if saving else 'no'} | {int(left[-1].name[5:])} | "
                f"{'same' if is_same else 'OTHER'} |",
                flush=True,
            )
        print(
            f"\n{hits} of {trials} kills fell into a save; {whole_ones} checkpoints were left "
            f"whole; {good} runs resumed to the same weights, bit for bit, with none torn"
        )


def _started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.kills", "--train", str(folder)])


def _finished(folder: Path) -> float:
    """Let a run end, and tell how long it took after its first checkpoint."""
    process = _started(folder)
    _wait_for(process, folder, "step-*")
    start = time.monotonic()
    if process.wait():
        raise SystemExit("a run failed")
    return time.monotonic() - start


def _wait_for(process: subprocess.Popen[bytes], folder: Path, name: str) -> None:
    """Wait until a run's folder of checkpoints has something of this name."""
    while not any((folder / "checkpoints").glob(name)):
        if process.poll() is not None:
            raise SystemExit("a run ended before it was killed")
        time.sleep(0.0005)


def _is_torn(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except CheckpointError:
        return True
    return False


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)
