"""Pictures trained on a second: the Trainer beside a bare loop, Lightning's and transformers'.

All four train the same model from the same weights on the same batches, with the same loader,
optimizer and clipping, by one thread each, and must end with the same weights. They take turns of a
few steps, so that whatever else the machine does falls on all of them; turn is compared with turn,
and nobody's start counts. A second is one of a thread's own, which stands still while another
program has the processor. Where their tensors lie in memory makes more of a difference than who
trains them: all share one heap that gives nothing back, and there are several processes, in each
of which they follow each other in another order. The small model shows what a step costs beside its
arithmetic.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from tempfile import TemporaryDirectory
from threading import Semaphore, Thread
from typing import Any, Final

import lightning
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler, SequentialSampler, Subset, TensorDataset

import zoo_core as zoo
from benchmarks.comparing import Area, Comparison
from zoo_core import hookimpl
from zoo_core.data import Scenes
from zoo_core.training import Trainer

PROCESSES: Final = 5
TURNS: Final = 40
"""In each process."""
WARM: Final = 4
"""Turns before those."""
LOOP: Final = "bare loop"
HEAP: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**31),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""Settings of the GNU C library; others do not heed them."""
CLASSES: Final = 10
CLIP: Final = 1.0

TEXT: Final = f"""A step of training: batch by batch from memory, forward, backward, clipping and
SGD with momentum, beside a loop of torch's own that does the same. All start from the same weights,
see the same batches and end with the same weights, which the run checks; the peers' logs, bars and
checkpoints are off. Each trains by one thread, whose own time counts. A round is a process in which
all take turns of a few steps, in another order in each; what counts is the median of its {TURNS}
turns. The small model shows what a step costs beside its arithmetic."""


@dataclass(frozen=True)
class Setting:
    """A model, and what it is trained on.

    Attributes:
        name: What it is called.
        model: Makes the model.
        size: Side of the pictures.
        batch: How many a step has.
        steps: How many steps a turn has.
    """

    name: str
    model: Callable[[], nn.Module]
    size: int
    batch: int
    steps: int


class Clock:
    """Times the turns of one of several threads, which wait for each other.

    Args:
        steps: How many steps a turn has.
    """

    def __init__(self, steps: int) -> None:
        self.seconds: list[float] = []
        self.own = Semaphore(0)
        self.next = self.own
        self._steps = steps
        self._done = 0
        self._start = 0.0

    def run(self, train: Callable[[], None]) -> None:
        """Train when it is this thread's turn."""
        self.own.acquire()
        try:
            train()
        finally:
            self.next.release()

    def tick(self) -> None:
        """Note that a step has ended, and let the others go on if it is the last of a turn."""
        self._done += 1
        if self._done % self._steps:
            return
        self.seconds.append(time.thread_time() - self._start)
        self.next.release()
        self.own.acquire()
        self._start = time.thread_time()


def resnet18() -> nn.Module:
    """Give the zoo's ResNet-18."""
    return zoo.build("resnet18", num_classes_classification=CLASSES, seed=0)


def small() -> nn.Module:
    """Give a few layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES),
    )  # fmt: skip


SETTINGS: Final = (
    Setting("ResNet-18, 64 pixels", resnet18, 64, 16, 1),
    Setting("three layers, 32 pixels", small, 32, 16, 20),
)


def bare(model: nn.Module, optimizer: Optimizer, loader: Any, clock: Clock) -> None:
    """Train by a loop of torch's own."""
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        clock.tick()


def ours(model: nn.Module, optimizer: Optimizer, loader: Any, clock: Clock) -> None:
    """Train by the zoo's Trainer."""

    class Ticking:
        @hookimpl
        def step_finished(self) -> None:
            clock.tick()

    Trainer(
        model, nn.CrossEntropyLoss(), optimizer, max_epochs=1, gradient_clip_value=CLIP,
        device="cpu", seed=0, progress=False, callbacks=[Ticking()],
    ).train(loader)  # fmt: skip


def lightnings(model: nn.Module, optimizer: Optimizer, loader: Any, clock: Clock) -> None:
    """Train by Lightning's Trainer, without its log, checkpoints and bar."""

    class Module(lightning.LightningModule):  # type: ignore[misc]  # not everywhere installed
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], number: int) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self.model(images), labels)

        def configure_optimizers(self) -> Any:
            return optimizer

    class Ticking(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_: Any) -> None:
            clock.tick()

    lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, gradient_clip_val=CLIP, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Ticking()],
    ).fit(Module(), loader)  # fmt: skip


def transformers_own(model: nn.Module, optimizer: Optimizer, loader: Any, clock: Clock) -> None:
    """Train by transformers' Trainer, without its log, checkpoints and bar."""

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.model(images)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    class Ticking(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Sampler[int]:
            return SequentialSampler(loader.dataset)

    def collated(samples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        images, labels = loader.collate_fn(samples)
        return {"images": images, "labels": labels}

    with TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=loader.batch_size,
            max_grad_norm=CLIP, use_cpu=True, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
            remove_unused_columns=False,
        )  # fmt: skip
        constant = LambdaLR(optimizer, lambda _: 1.0)
        trainer = Ordered(
            Module(), settings, collated, loader.dataset, callbacks=[Ticking()],
            optimizers=(optimizer, constant),
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


ENGINES: Final = {
    LOOP: bare,
    "zoo": ours,
    "Lightning": lightnings,
    "transformers": transformers_own,
}


def scenes(setting: Setting, turns: int) -> DataLoader[Any]:
    """Give batches of scenes that are drawn beforehand."""
    drawn = Scenes(setting.batch * 8, size=setting.size)
    samples = [drawn[index] for index in range(len(drawn))]
    images = torch.stack([sample["image"] for sample in samples])
    labels = torch.stack([sample["label"] for sample in samples])
    count = turns * setting.steps * setting.batch
    numbers = [number % len(drawn) for number in range(count)]
    return DataLoader(Subset(TensorDataset(images, labels), numbers), setting.batch)


def seconds_a_step(
    setting: Setting, order: Sequence[str], warm: int, turns: int
) -> dict[str, float]:
    """Let all train in turns, and give what a step takes each, as the median of the turns."""
    loader, start = scenes(setting, warm + turns), setting.model()
    models = {name: copy.deepcopy(start) for name in order}
    clocks = {name: Clock(setting.steps) for name in order}
    threads = []
    for name, following in zip(order, [*order[1:], order[0]], strict=True):
        clocks[name].next = clocks[following].own
        optimizer = SGD(models[name].parameters(), lr=0.01, momentum=0.9)
        work = partial(ENGINES[name], models[name], optimizer, loader, clocks[name])
        threads.append(Thread(target=clocks[name].run, args=[work]))
        threads[-1].start()
    clocks[order[0]].own.release()
    for thread in threads:
        thread.join()
    wanted = models[LOOP].state_dict()
    for name, model in models.items():
        torch.testing.assert_close(model.state_dict(), wanted, atol=1e-3, rtol=1e-3)
        assert len(clocks[name].seconds) == warm + turns, f"{name} trained another number of steps"
    return {
        name: statistics.median(clock.seconds[warm:]) / setting.steps
        for name, clock in clocks.items()
    }


def tell(process: int, warm: int, turns: int) -> None:
    """Print what a step takes each in this process, of all settings, as JSON in the last line."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for package in ("lightning.pytorch", "transformers"):
        logging.getLogger(package).setLevel(logging.ERROR)
    order = list(ENGINES)
    random.Random(process).shuffle(order)
    print(json.dumps([seconds_a_step(setting, order, warm, turns) for setting in SETTINGS]))


def measure(quick: bool) -> Area:
    """Compare steps of training, each round in a process of its own."""
    warm, turns = (1, 2) if quick else (WARM, TURNS)
    rounds: list[list[dict[str, float]]] = []
    for process in range(1 if quick else PROCESSES):
        code = f"from benchmarks.training import tell; tell({process}, {warm}, {turns})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | HEAP,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    comparisons = [
        Comparison(
            f"{setting.name}, {setting.batch} a step",
            {name: [found[number][name] for found in rounds] for name in ENGINES},
            limit=LOOP,
        )
        for number, setting in enumerate(SETTINGS)
    ]
    versions = {name: version(name) for name in ("lightning", "transformers", "accelerate")}
    return Area("training", "Training", TEXT, comparisons, versions=versions)
