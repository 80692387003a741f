"""The U-Net decoder beside segmentation_models_pytorch's: cost, and what it learns.

Cost: the time and the floating-point operations of a forward on a ResNet-50, beside the encoder
alone. What it learns: both are trained on the same scenes from the same initial ResNet-18, in the
same order, with the same steps, and compared by the mean intersection over union on other scenes.
A ResNet-50 would need many more steps to learn anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import zoo_core as zoo
from benchmarks.comparing import Area, Comparison, interleaved
from zoo_core.data import Scenes

CLASSES: Final = 11
SEEDS: Final = (0, 1)
STEPS: Final = 500
"""More would show more, and take longer than all other areas together."""
BATCH: Final = 8
SIDE: Final = 64
ROUNDS: Final = 11
ENCODER: Final = "the encoder alone"

TEXT: Final = f"""A U-Net on a ResNet-50 with {CLASSES} classes, one picture, by one thread and its
own time. What it learns: both are trained on the same scenes ({SIDE}×{SIDE} pixels) from the same
initial ResNet-18, in the same order, for {{steps}} steps of {BATCH}, and these are the mean
intersections over union on {{scenes}} other scenes. Nothing is pretrained and the steps are few:
what is compared is how fast a decoder learns, not how well in the end."""


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


def cost(quick: bool) -> list[Comparison]:
    """Compare what a forward costs, beside the encoder's."""
    size = 64 if quick else 224
    pictures = torch.rand(1, 3, size, size)
    models = {name: make("resnet50").eval() for name, make in PEERS.items()}
    encoders = {
        name: model.get_submodule("backbone" if name == "zoo" else "encoder")
        for name, model in models.items()
    }
    modules = {**models, ENCODER: encoders["zoo"]}
    runs: dict[str, Callable[[], Any]] = {
        name: partial(module, pictures) for name, module in modules.items()
    }
    operations = {name: [flops(run)] for name, run in runs.items()}
    assert [flops(partial(encoders["smp"], pictures))] == operations[ENCODER], "other encoders"
    with torch.no_grad():
        times = interleaved(
            runs, 1 if quick else ROUNDS, warm=1 if quick else 3, clock=time.process_time
        )
    work = f"ResNet-50 and U-Net, forward, {size} px"
    return [
        Comparison(work, times, limit=ENCODER),
        Comparison(work, operations, "operations", limit=ENCODER),
    ]


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


def trained(
    make: Callable[[str], nn.Module], encoder: str, seed: int, steps: int, scenes: int
) -> float:
    """Train on scenes, and give the mean IoU on others."""
    torch.manual_seed(seed)
    model = make(encoder)
    # The same initial encoder for both: its tensors stand in the same order.
    start = zoo.build(encoder, seed=seed).get_submodule("backbone")
    target: Any = model.get_submodule("backbone" if make is ours else "encoder")
    target.load_state_dict(dict(zip(target.state_dict(), start.state_dict().values(), strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    loader = DataLoader(Scenes(steps * BATCH, SIDE, seed), BATCH)
    model.train()
    for batch in loader:
        loss = F.cross_entropy(model(batch["image"]), batch["mask"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return mean_iou(model, DataLoader(Scenes(scenes, SIDE, seed, "val"), 32))


def learning(seeds: tuple[int, ...], steps: int, scenes: int) -> str:
    """Give a table of what both learn in the same number of steps."""
    lines = ["| seed | zoo | smp |", "| ---: | ---: | ---: |"]
    for seed in seeds:
        scores = [trained(PEERS[name], "resnet18", seed, steps, scenes) for name in ("zoo", "smp")]
        lines.append(f"| {seed} | {' | '.join(f'{score:.3f}' for score in scores)} |")
    return "\n".join(lines)


PEERS: Final[Mapping[str, Callable[[str], nn.Module]]] = {"zoo": ours, "smp": theirs}


def measure(quick: bool) -> Area:
    """Compare costs by one thread, and what is learnt by all of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    comparisons = cost(quick)
    torch.set_num_threads(threads)
    seeds, steps, scenes = ((0,), 2, 32) if quick else (SEEDS, STEPS, 512)
    text = TEXT.format(steps=steps, scenes=scenes)
    return Area(
        "segmentation",
        "U-Net beside segmentation_models_pytorch's",
        f"{text}\n\n{learning(seeds, steps, scenes)}",
        comparisons,
        versions={"segmentation_models_pytorch": version("segmentation_models_pytorch")},
    )
