"""What the hot paths do, counted: a machine's noise hides no regression of these.

Times are measured by ``python -m benchmarks``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

import zoo_core as zoo
from zoo_core.evaluation import SegmentationMetrics
from zoo_core.explainability import (
    Explainer,
    GradCAM,
    GuidedBackprop,
    IntegratedGradients,
    SmoothGrad,
    VanillaSaliency,
)
from zoo_core.prediction import Predictor
from zoo_core.training import Trainer

PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
LAYERS = 53  # convolutions of a ResNet-50


class Operations(TorchDispatchMode):
    """Counts the operations that torch runs, and the bytes of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one, and run it."""
        result = func(*args, **(kwargs or {}))
        self.counts[func.overloadpacket.__name__] += 1
        if isinstance(result, Tensor) and not func.is_view:
            self.bytes += result.nbytes
        return result


def operations(run: Callable[[], object]) -> Operations:
    """Give what a run does."""
    with Operations() as counting:
        run()
    return counting


def flops(run: Callable[[], object]) -> int:
    """Give the floating-point operations of a run."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet50(num_classes=5).eval()


@torch.no_grad()
def test_a_resnets_forward_does_what_torchvisions_does(resnet: nn.Module) -> None:
    ours = zoo.build("resnet50", num_classes_classification=5, seed=0).eval()
    found, theirs = (operations(lambda m=m: m(PICTURES)) for m in (ours, resnet))  # type: ignore[misc]
    assert found.counts - theirs.counts == Counter()
    assert found.bytes <= theirs.bytes
    assert flops(lambda: ours(PICTURES)) == flops(lambda: resnet(PICTURES))


@torch.no_grad()
def test_a_vits_forward_does_what_timms_does_but_for_views() -> None:
    ours = zoo.build("vit_tiny", image_size=64, num_classes_classification=5, seed=0).eval()
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5).eval()
    views = ("view", "transpose", "slice", "expand", "select", "permute", "t", "unbind")
    found, peer = (operations(lambda m=m: m(PICTURES)).counts for m in (ours, theirs))  # type: ignore[misc]
    more = {name: count for name, count in (found - peer).items() if name not in views}
    assert sum(more.values()) <= 2, more
    assert flops(lambda: ours(PICTURES)) == flops(lambda: theirs(PICTURES))


@torch.no_grad()
def test_two_heads_run_the_backbone_once() -> None:
    both = zoo.build("resnet18+unet", seed=0).eval()
    backbone, decoder = both.get_submodule("backbone"), both.get_submodule("decoder")
    maps: Any = backbone(PICTURES)
    classifier = both.get_submodule("classifier")
    parts = (
        flops(lambda: backbone(PICTURES))
        + flops(lambda: decoder(maps, output_size=(64, 64)))
        + flops(lambda: classifier(maps[-1].mean((-2, -1))))
    )
    assert flops(lambda: both(PICTURES)) == parts


@torch.no_grad()
def test_a_unet_takes_fewer_operations_than_smps() -> None:
    ours = zoo.build(
        "resnet50+unet", num_classes_classification=0, num_classes_segmentation=5, seed=0
    ).eval()
    theirs = smp.Unet("resnet50", encoder_weights=None, classes=5).eval()
    encoder = theirs.get_submodule("encoder")
    alone = flops(lambda: encoder(PICTURES))
    above = flops(lambda: ours(PICTURES)) - alone
    assert above <= 0.5 * (flops(lambda: theirs(PICTURES)) - alone)


CAMS = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "eigen_cam"]
EXPLAINING: dict[str, tuple[Callable[[nn.Module], Any], int, int]] = {
    # How often the model is run forward, and backward.
    "Grad-CAM": (GradCAM, 1, 0),
    "saliency": (VanillaSaliency, 1, 1),
    "guided backpropagation": (GuidedBackprop, 1, 1),
    "six CAMs and saliency": (lambda model: Explainer(model, [*CAMS, "saliency"]), 1, 1),
    "SmoothGrad, all copies at once": (lambda model: SmoothGrad(model, num_samples=4), 2, 1),
    "integrated gradients, all steps at once": (
        lambda model: IntegratedGradients(model, num_steps=4, complete=False), 3, 1,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*shows nothing")  # the model is untrained
@pytest.mark.parametrize("what", EXPLAINING)
def test_explaining_runs_the_model_no_more_often_than_it_must(resnet: nn.Module, what: str) -> None:
    make, forward, backward = EXPLAINING[what]
    explainer = make(resnet)
    explainer.explain(PICTURES, target_class=1)  # finds the layer
    counts = operations(lambda: explainer.explain(PICTURES, target_class=1)).counts
    # The gradient of the first convolution is one itself.
    assert counts["convolution"] == forward * LAYERS + backward
    assert counts["convolution_backward"] == backward * (LAYERS - 1)


def test_later_predictions_run_no_batch_norm_and_convert_no_weights() -> None:
    model = zoo.build("resnet18", num_classes_classification=5, image_size=64, seed=0).eval()
    predictor = Predictor(model)
    batch = [predictor.prepare(Image.effect_noise((80, 70), 50).convert("RGB"))] * 2
    first, second, third = (operations(lambda: predictor.predict(batch)).counts for _ in range(3))
    assert first["batch_norm"] == 20
    assert second["batch_norm"] == third["batch_norm"] == 0
    assert first["conv2d"] == third["conv2d"] == 20
    assert third["mul"] == 0  # the joint weights are made once
    assert sum(third.values()) < sum(second.values())


class Drawn(Dataset[tuple[Tensor, int]]):
    """A few samples."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3, 8, 8), index / 8), index % 2


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_a_step_of_training_does_little_more_than_a_bare_one(tmp_path: Path) -> None:
    """The difference of two runs is that of their steps."""

    def bare(epochs: int) -> None:
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(epochs):
            for images, labels in DataLoader(Drawn(), 2):
                loss = F.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def ours(epochs: int) -> None:
        model = small()
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1),
            max_epochs=epochs, device="cpu", progress=False,
        )  # fmt: skip
        trainer.train(DataLoader(Drawn(), 2))

    taken = {}
    for run in (bare, ours):
        several, one = (sum(operations(lambda n=n: run(n)).counts.values()) for n in (3, 1))  # type: ignore[misc] # noqa: B023
        taken[run.__name__] = (several - one) / 8
    assert taken["ours"] - taken["bare"] <= 20, taken


def test_metrics_of_a_batch_take_few_operations() -> None:
    metrics = SegmentationMetrics(num_classes=5)
    logits, targets = torch.randn(2, 5, 32, 32), torch.randint(5, (2, 32, 32))
    metrics.update(logits, targets)
    found = operations(lambda: metrics.update(logits, targets))
    assert sum(found.counts.values()) <= 50, found.counts
    assert found.bytes <= 8 * logits.nbytes


IMPORTS = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from zoo_core.cli import main
main()
"""


@pytest.mark.parametrize("line", ["--help", "list", "info resnet50", "plugins"])
def test_commands_import_few_modules(line: str) -> None:
    """Some 255 with what a virtual environment brings; torch alone would be a thousand."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *line.split()],
        env=os.environ | {"ZOO_PLUGINS": "zoo-resnet,zoo-unet"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = json.loads(done.stderr.splitlines()[-1])
    assert len(modules) <= 290, len(modules)
    assert sum(name.startswith("zoo_core") for name in modules) <= 35


LOADING = """
import json, sys
import zoo_core
for recipe in sys.argv[2:]:
    zoo_core.build(recipe, weights=f"{sys.argv[1]}/{recipe}.safetensors")
print(json.dumps(sorted(sys.modules)))
"""


def test_loading_weights_does_without_torchs_compiler(tmp_path: Path) -> None:
    """Torch needs it for the shapes of tensors without values, and takes as long as for itself."""
    recipes = ("resnet18", "vit_tiny", "vit_spatial_tiny", "dinov2_small")
    for recipe in recipes:
        weights = zoo.build(recipe, seed=0).backbone.state_dict()
        save_file(weights, tmp_path / f"{recipe}.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(tmp_path), *recipes],
        env=os.environ | {"ZOO_PLUGINS": "zoo-resnet,zoo-vit"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(json.loads(done.stdout))
    assert "torch" in modules
    assert not modules & {"torch._dynamo", "sympy", "torchvision", "timm"}
