"""What the U-Net decoder learns beside segmentation_models_pytorch's, on made scenes.

Both are trained on the same scenes from the same initial ResNet-18, in the same order, with the
same steps, and compared by the mean intersection over union on other scenes. A ResNet-50 would need
many more steps to learn anything.

Run ``python -m benchmarks.learning [STEPS]``; it takes about an hour, and so is no part of
``python -m benchmarks``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import zoo_core as zoo
from benchmarks.segmentation import CLASSES, PEERS, ours
from zoo_core.data import Scenes

SEEDS: Final = (0, 1, 2)
STEPS: Final = 600
BATCH: Final = 16
SCENES: Final = 512
ENCODER: Final = "resnet18"


def mean_iou(model: nn.Module, scenes: DataLoader[dict[str, Tensor]]) -> float:
    """Give the mean over the classes of intersection over union."""
    counts = torch.zeros(CLASSES, CLASSES)
    model.eval()
    with torch.no_grad():
        for batch in scenes:
            found = model(batch["image"]).argmax(1)
            pairs = (batch["mask"] * CLASSES + found).flatten()
            counts += torch.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    both = counts.diag()
    return float((both / (counts.sum(0) + counts.sum(1) - both)).mean())


def trained(make: Callable[[str], nn.Module], seed: int, steps: int) -> float:
    """Train on scenes, and give the mean IoU on others."""
    torch.manual_seed(seed)
    model = make(ENCODER)
    # The same initial encoder for both: its tensors stand in the same order.
    start = zoo.build(ENCODER, seed=seed).get_submodule("backbone")
    target: Any = model.get_submodule("backbone" if make is ours else "encoder")
    target.load_state_dict(dict(zip(target.state_dict(), start.state_dict().values(), strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for batch in DataLoader(Scenes(steps * BATCH, seed=seed), BATCH):
        loss = F.cross_entropy(model(batch["image"]), batch["mask"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return mean_iou(model, DataLoader(Scenes(SCENES, seed=seed, split="val"), 32))


def main(steps: int = STEPS) -> None:
    """Print what both learn in the same number of steps."""
    for seed in SEEDS:
        scores = {name: trained(make, seed, steps) for name, make in PEERS.items()}
        told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        print(f"{ENCODER}, seed {seed}, {steps} steps of {BATCH}: mean IoU {told}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
