"""A forward, and a forward with its backward, of the same architecture with the same weights.

All contenders have torchvision's initial values: the zoo reads them from a file, timm's model takes
the zoo's. The run checks that they give the same logits, and the same gradient of the first
convolution. The limit is the zoo's backbone without what is around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import zoo_core as zoo
from benchmarks.comparing import ZOO, Area, Comparison, interleaved

LIMIT: Final = "the backbone alone"
OWN: Final = 224
"""The size that a ViT is made for: the only one that torchvision's takes."""


@dataclass(frozen=True)
class Architecture:
    """One architecture by the names that each project has for it.

    Attributes:
        title: What it is called here.
        recipe: The zoo's.
        timm: timm's name.
        torchvision: Makes torchvision's model.
        classifier: The classifier's name in timm's model.
        options: Options of timm's model.
        backbone: Options of the zoo's backbone.
        any_size: Whether torchvision's takes pictures of any size.
        sizes: Sides of the pictures.
        compiled: The side for which it is compiled as well.
    """

    title: str
    recipe: str
    timm: str
    torchvision: Callable[[], nn.Module]
    classifier: str
    options: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=dict)
    any_size: bool = True
    sizes: tuple[int, ...] = (128, 224, 320)
    compiled: int = 224


def vit(dim: int, heads: int, layers: int = 12) -> nn.Module:
    """Give torchvision's ViT with patches of 16 and a head that is not zero, as it would be."""
    model: nn.Module = torchvision.models.VisionTransformer(OWN, 16, layers, heads, dim, 4 * dim)
    nn.init.normal_(model.get_submodule("heads.head").weight, std=0.02)  # type: ignore[arg-type]
    return model


RESNET: Final = Architecture("ResNet-50", "resnet50", "resnet50", torchvision.models.resnet50, "fc")
VIT: Final = Architecture(
    "ViT-S/16", "vit_small", "vit_small_patch16_224", partial(vit, 384, 6), "head",
    {"dynamic_img_size": True}, any_size=False,
)  # fmt: skip
FULL: Final = (RESNET, VIT)
QUICK: Final = (
    Architecture(
        "ResNet-18",
        "resnet18",
        "resnet18",
        torchvision.models.resnet18,
        "fc",
        sizes=(64, 96),
        compiled=64,
    ),
    replace(
        VIT,
        title="ViT of one block",
        recipe="vit",
        timm="vit_tiny_patch16_224",
        torchvision=partial(vit, 192, 3, layers=1),
        options={"dynamic_img_size": True, "depth": 1},
        backbone={
            "hidden_dim": 192,
            "num_heads": 3,
            "mlp_dim": 768,
            "num_layers": 1,
            "num_levels": 1,
        },
        sizes=(64, 224),
    ),
)


def models(architecture: Architecture) -> dict[str, nn.Module]:
    """Give everybody's model, all with the same values."""
    theirs = architecture.torchvision()
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        save_file(theirs.state_dict(), file)
        ours = zoo.build(architecture.recipe, weights=file, backbone=dict(architecture.backbone))
    names = {"backbone.": "", "classifier.": f"{architecture.classifier}."}
    third = timm.create_model(architecture.timm, **architecture.options)
    values = ours.state_dict().items()
    third.load_state_dict(
        {
            name.replace(own, their, 1): value
            for name, value in values
            for own, their in names.items()
            if name.startswith(own)
        }
    )
    found = {ZOO: ours, "timm": third, "torchvision": theirs}
    for part in (part for model in found.values() for part in model.modules()):
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0  # the averages are kept as they are: who ran how often is not equal
    return found


def inference(call: Callable[[Tensor], Any], pictures: Tensor) -> Tensor:
    """Run a forward without gradients."""
    with torch.no_grad():
        return _tensor(call(pictures))


def training(model: nn.Module, call: Callable[[Tensor], Any], pictures: Tensor) -> None:
    """Run a forward and its backward."""
    model.zero_grad()
    _tensor(call(pictures)).float().square().mean().backward()  # type: ignore[no-untyped-call]


def _tensor(given: Any) -> Tensor:
    """Give the logits or, of a backbone, the last map."""
    tensor: Tensor = given[-1] if isinstance(given, list) else given
    return tensor


def check(contenders: Mapping[str, nn.Module], pictures: Tensor, tolerance: float) -> None:
    """Check that all give the same logits and gradients.

    Args:
        contenders: The models.
        pictures: What they are run on.
        tolerance: How much of the largest value they may differ by.
    """
    logits, gradients = [], []
    for model in contenders.values():
        logits.append(inference(model.eval(), pictures))
        training(model, model, pictures)
        first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
        assert first.weight.grad is not None
        gradients.append(first.weight.grad)
    for found in (logits, gradients):
        for other in found[1:]:
            bound = tolerance * float(found[0].abs().max())
            torch.testing.assert_close(other, found[0], atol=bound, rtol=0)


def compared(
    contenders: Mapping[str, nn.Module], pictures: Tensor, work: str, rounds: int
) -> Iterator[Comparison]:
    """Time both kinds of runs."""
    parts = {**contenders, LIMIT: contenders[ZOO].get_submodule("backbone")}
    for model in contenders.values():
        model.eval()
    runs: dict[str, Callable[[], object]]
    runs = {name: partial(inference, model, pictures) for name, model in parts.items()}
    clock = time.process_time
    yield Comparison(
        f"{work}: forward", interleaved(runs, rounds, warm=0, clock=clock), limit=LIMIT
    )
    for model in contenders.values():
        model.train()
    runs = {name: partial(training, model, model, pictures) for name, model in parts.items()}
    taken = interleaved(runs, rounds, warm=0, clock=clock)
    yield Comparison(f"{work}: forward and backward", taken, limit=LIMIT)


def compiled(
    contenders: Mapping[str, nn.Module], pictures: Tensor, work: str, rounds: int, backend: str
) -> Comparison:
    """Time forwards of compiled models."""
    parts = {**contenders, LIMIT: contenders[ZOO].get_submodule("backbone")}
    runs: dict[str, Callable[[], object]] = {
        name: partial(inference, torch.compile(model.eval(), backend=backend), pictures)
        for name, model in parts.items()
    }
    taken = interleaved(runs, rounds, warm=2, clock=time.process_time)
    return Comparison(f"{work}, compiled: forward", taken, limit=LIMIT)


def measure(quick: bool) -> Area:
    """Measure ResNet and ViT at three sizes and in two precisions."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Inductor, the default, takes minutes.
    rounds, backend = (1, "aot_eager") if quick else (3, "inductor")
    found: list[Comparison] = []
    for architecture in QUICK if quick else FULL:
        contenders = models(architecture)
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
            for model in contenders.values():
                model.to(dtype)
            for size in architecture.sizes:
                some = {
                    name: model
                    for name, model in contenders.items()
                    if name != "torchvision" or architecture.any_size or size == OWN
                }
                work = f"{architecture.title}, {size} px, {str(dtype).removeprefix('torch.')}"
                pictures = torch.randn(1, 3, size, size).to(dtype)
                check(some, pictures, tolerance)
                found += compared(some, pictures, work, rounds)
                if (size, dtype) == (architecture.compiled, torch.float32):
                    found.append(compiled(some, pictures, work, rounds, backend))
    return Area(
        "forward",
        "Forward and backward",
        "One picture, on one thread and by its own clock. All have the same weights; "
        "the run checks that logits and gradients are equal, to 1e-4 of the largest in float32 and "
        "to a tenth in bfloat16. Backward is in training mode. torchvision's ViT takes pictures of "
        "one size. The limit is the zoo's backbone without the model around it.",
        comparisons=found,
        versions={name: version(name) for name in ("timm", "torchvision")},
    )
