"""The U-Net decoder beside segmentation_models_pytorch's, on a ResNet-50: what a forward costs.

What both learn in the same steps is told by ``python -m benchmarks.learning``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import zoo_core as zoo
from benchmarks.comparing import Area, Comparison, interleaved

CLASSES: Final = 11
ROUNDS: Final = 11
ENCODER: Final = "the encoder alone"

TEXT: Final = f"""A U-Net on a ResNet-50 with {CLASSES} classes, one picture, by one thread and its
own time. What both learn in the same steps is measured by `python -m benchmarks.learning`; see
[docs/speed.md](../speed.md)."""


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


PEERS: Final[Mapping[str, Callable[[str], nn.Module]]] = {"zoo": ours, "smp": theirs}


def measure(quick: bool) -> Area:
    """Compare costs by one thread."""
    torch.set_num_threads(1)
    return Area(
        "segmentation",
        "U-Net beside segmentation_models_pytorch's",
        TEXT,
        cost(quick),
        versions={"segmentation_models_pytorch": version("segmentation_models_pytorch")},
    )
