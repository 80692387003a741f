"""Evaluation by several processes: the results of one, to the last bit."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo_core.errors import InputError
from zoo_core.evaluation import Evaluator, UnpaddedSampler

# Run by each process; the last argument is where results go. Without torchrun it is one process.
SCRIPT = """
import json, os, sys
from datetime import timedelta
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo_core.evaluation import (
    ClassificationMetrics, Evaluator, Experiment, SegmentationMetrics, UnpaddedSampler,
)
from zoo_core.training import Trainer

class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def forward(self, images):
        images = self.norm(images)
        return {"classification": images[:, :, 0, 0], "segmentation": images}

torch.set_num_threads(1)
ranked = "RANK" in os.environ
if ranked:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
generator = torch.Generator().manual_seed(0)
images = 3 * torch.randn(103, 6, 7, 5, generator=generator)
labels = torch.randint(0, 6, (103,), generator=generator)
masks = torch.randint(0, 6, (103, 7, 5), generator=generator)
images[17, 2, 0, 0], labels[30], masks[5, 2] = torch.nan, -100, 255
data = TensorDataset(images, labels, masks)

def loader(count, size):
    some = TensorDataset(*data[:count])
    return DataLoader(some, size, sampler=UnpaddedSampler(some))

results = {}
for name, kind, column in (
    ("classification", ClassificationMetrics, 1), ("segmentation", SegmentationMetrics, 2)
):
    metrics = kind(6)
    for times in (1, 2):
        for batch in loader(103, 8):
            logits = batch[0] if column == 2 else batch[0][:, :, 0, 0]
            metrics.update(logits, batch[column])
        metrics.synchronize()
        metrics.synchronize()
        matrix = metrics.confusion_matrix.tolist()
        results[f"{name} {times}"] = [metrics.compute(), metrics.per_class(), matrix]
    if column == 1:
        metrics.update(images[:1, :, 0, 0], labels[:1])
        results["own"] = metrics.compute()["samples"]

evaluator = Evaluator(Pixels(), criterion=nn.CrossEntropyLoss())
for count in (103, 15, 1):
    results[f"evaluator {count}"] = evaluator.evaluate(loader(count, 8))
model = Pixels()
if ranked:
    model = nn.parallel.DistributedDataParallel(model)
    model.module.norm.running_mean += dist.get_rank()
    model.register_forward_pre_hook(lambda *_: sys.exit("its forward is not to be called"))
results["parallel"] = Evaluator(model).evaluate(loader(15, 1))
model = Pixels()
clean = TensorDataset(images.nan_to_num(), labels, masks)
trainer = Trainer(model, max_epochs=1, seed=0, device="cpu", progress=False)
history = Experiment(model, trainer, Evaluator(model)).run(*[DataLoader(clean, 8)] * 2)
results["experiment"] = [
    history[when][task][what]
    for when in ("val_metrics", "evaluation")
    for task, what in (("classification", "samples"), ("segmentation", "pixels"))
]
try:
    evaluator.evaluate([])
except Exception as error:
    results["empty"] = str(error)

rank = dist.get_rank() if ranked else 0
with open(f"{sys.argv[1]}-{rank}.json", "w") as file:
    json.dump(results, file)
if ranked:
    dist.destroy_process_group()
"""


def run(folder: Path, name: str, *launcher: str) -> None:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *launcher, script, folder / name],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def losses(value: Any) -> list[float]:
    """Take the losses out of results."""
    if not isinstance(value, dict):
        return []
    own = [value.pop("loss")] if "loss" in value else []
    return own + [loss for item in value.values() for loss in losses(item)]


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    run(tmp_path, "one")
    run(tmp_path, "two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    names = ("one-0", "two-0", "two-1")
    one, *two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in names)
    expected = losses(one)
    assert [math.isnan(loss) for loss in expected] == [True, True, False, False, False, False]
    # After another update, the results are each process's own again.
    assert one.pop("own") == 203
    assert sum(found.pop("own") for found in two) == 202 + 2
    for found in two:
        # Means of batches, which are not the same ones, are float32.
        assert losses(found) == pytest.approx(expected, rel=1e-6, nan_ok=True)
        assert json.dumps(found) == json.dumps(one)  # NaN is NaN there
    assert one["evaluator 103"]["classification"]["samples"] == 101
    assert one["evaluator 103"]["classification"]["non_finite"] == 1
    assert one["classification 2"][0]["samples"] == 2 * 101
    assert one["evaluator 1"]["segmentation"]["pixels"] == 35
    assert one["experiment"] == [[102], [103 * 35 - 5], 102, 103 * 35 - 5]
    assert one["empty"] == "the loader gave no batch"


@pytest.mark.parametrize(("count", "world"), [(0, 1), (1, 2), (10, 3), (7, 7), (5, 8)])
def test_every_sample_goes_to_one_process(count: int, world: int) -> None:
    shares = [UnpaddedSampler(range(count), rank, world) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(count))
    assert {len(list(share)) - len(share) for share in shares} == {0}
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(list(share) == sorted(share) for share in shares)


def test_without_other_processes_all_samples_are_given() -> None:
    assert list(UnpaddedSampler(range(5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (1, None), (0, 0)])
def test_a_process_that_there_is_not_is_refused(rank: int, world: int | None) -> None:
    with pytest.raises(InputError, match=rf"^there is no process of rank {rank} among \d$"):
        UnpaddedSampler(range(5), rank, world)


def test_evaluating_the_shares_one_after_the_other_and_merging_is_the_same() -> None:
    class Means(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, 0, 0]

    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(
        torch.randn(23, 6, 2, 2, generator=generator),
        torch.randint(0, 6, (23,), generator=generator),
    )
    evaluator = Evaluator(Means())
    whole = evaluator.evaluate(DataLoader(data, 4))
    parts = []
    for rank in range(3):
        evaluator.evaluate(DataLoader(data, 2, sampler=UnpaddedSampler(data, rank, 3)))
        parts.append(evaluator.metrics["classification"])
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert parts[0].compute() == whole
