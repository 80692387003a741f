"""The U-Net decoder beside segmentation_models_pytorch's: cost, and what it learns.

Cost: floating-point operations, and the time of a forward as a share of the encoder's, on a
ResNet-50 at 224 pixels; runs are interleaved. What it learns: both are trained on the same scenes
from the same initial ResNet-18, in the same order, with the same steps, and compared by the mean
intersection over union on other scenes. A ResNet-50 would need many more steps to learn anything.

Run ``python -m benchmarks.segmentation [STEPS]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import zoo_core as zoo
from zoo_core.data import Scenes

CLASSES: Final = 11
SEEDS: Final = (0, 1, 2)
STEPS: Final = 600
BATCH: Final = 16
ROUNDS: Final = 15


def ours(encoder: str) -> nn.Module:
    """Give the zoo's U-Net."""
    return zoo.build(
        f"{encoder}+unet", num_classes_classification=0, num_classes_segmentation=CLASSES
    )


def theirs(encoder: str) -> nn.Module:
    """Give segmentation_models_pytorch's U-Net."""
    model: nn.Module = smp.Unet(encoder, encoder_weights=None, classes=CLASSES)
    return model


def flops(run: Callable[[], object]) -> float:
    """Count floating-point operations, in billions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return float(counter.get_total_flops()) / 1e9


def cost() -> None:
    """Print what a forward costs, and what share of it is the encoder's."""
    pictures = torch.rand(1, 3, 224, 224)
    runs: dict[str, Callable[[], Any]] = {}
    for name, make in (("zoo", ours), ("smp", theirs)):
        model = make("resnet50").eval()
        encoder: Any = model.get_submodule("backbone" if name == "zoo" else "encoder")
        runs[name] = partial(model, pictures)
        runs[f"{name}, encoder"] = partial(encoder, pictures)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for turn in range(-3, ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if turn >= 0:
                    taken[name].append(time.perf_counter() - start)
    for name in ("zoo", "smp"):
        ratios = [a / b for a, b in zip(taken[name], taken[f"{name}, encoder"], strict=True)]
        print(
            f"{name}: {flops(runs[name]):.1f} GFLOP, of which the encoder "
            f"{flops(runs[f'{name}, encoder']):.1f}; a forward takes "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times the "
            f"encoder's"
        )


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


def trained(make: Callable[[str], nn.Module], encoder: str, seed: int, steps: int) -> float:
    """Train on scenes, and give the mean IoU on others."""
    torch.manual_seed(seed)
    model = make(encoder)
    # The same initial encoder for both: its tensors stand in the same order.
    start = zoo.build(encoder, seed=seed).get_submodule("backbone")
    target: Any = model.get_submodule("backbone" if make is ours else "encoder")
    target.load_state_dict(dict(zip(target.state_dict(), start.state_dict().values(), strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    loader = DataLoader(Scenes(steps * BATCH, seed=seed), BATCH)
    model.train()
    for batch in loader:
        loss = F.cross_entropy(model(batch["image"]), batch["mask"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return mean_iou(model, DataLoader(Scenes(512, seed=seed, split="val"), 32))


def learning(steps: int, encoder: str = "resnet18") -> None:
    """Print what both learn in the same number of steps."""
    for seed in SEEDS:
        scores = {name: trained(make, encoder, seed, steps) for name, make in PEERS.items()}
        told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        print(f"{encoder}, seed {seed}, {steps} steps of {BATCH}: mean IoU {told}", flush=True)


PEERS: Final[dict[str, Callable[[str], nn.Module]]] = {"zoo": ours, "smp": theirs}


if __name__ == "__main__":
    cost()
    learning(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
