"""Explaining beside captum and pytorch-grad-cam, in forward passes of the model: time and memory.

Times are of a ResNet-50 and eight pictures of 224×224 pixels, in units of one forward pass of the
batch as the model is, without gradients. All runs are interleaved, on one thread and by its own
clock or on several and by the wall's, and maps that should be equal are compared. The peers are
given the target layer; the zoo finds it, and remembers it. All of them run as in ``zoo explain``,
where memory is used again. Memory is what integrated gradients take at their peak, of a ResNet-18,
as captum's default would need 34 GB for the larger one.

Run ``python -m benchmarks.passes [STEPS [ROUNDS [THREADS]]]``; it takes ten minutes, and so is no
part of ``python -m benchmarks``, whose area ``explaining`` has more methods and fewer pictures.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from benchmarks.comparing import ZOO
from benchmarks.explaining import CAPTUM, peaks
from zoo_core.explainability import (
    Explainer,
    GradCAM,
    IntegratedGradients,
    SmoothGrad,
    VanillaSaliency,
)
from zoo_core.hardware import has_units, keep_freed_memory

STEPS: Final = 50
ROUNDS: Final = 5
BATCH: Final = 8
CAMS: Final = (
    "grad_cam", "grad_cam_plus_plus", "layer_cam", "hires_cam", "xgrad_cam", "eigen_cam",
    "ablation_cam",
)  # fmt: skip
Runs = Mapping[str, Callable[[], Any]]


def short_runs(model: nn.Module, pictures: Tensor, target: Tensor) -> Runs:
    """Give what takes a few passes."""
    from captum.attr import LayerGradCam, Saliency
    from pytorch_grad_cam import GradCAM as Theirs
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer: Any = model.get_submodule("layer4")[-1]  # type: ignore[index]
    grad_cam = Theirs(model, [layer])
    targets = [ClassifierOutputTarget(int(one)) for one in target]

    def forward() -> Tensor:
        with torch.no_grad():
            return model(pictures)  # type: ignore[no-any-return]

    return {
        "a forward pass": forward,
        "Grad-CAM: zoo": lambda: GradCAM(model).explain(pictures, target_class=target),
        "Grad-CAM: captum": lambda: LayerGradCam.interpolate(
            LayerGradCam(model, layer).attribute(pictures, target, relu_attributions=True),
            pictures.shape[-2:],
            "bilinear",
        ),
        "Grad-CAM: pytorch-grad-cam": lambda: torch.from_numpy(grad_cam(pictures, targets)),
        "saliency: zoo": lambda: VanillaSaliency(model).explain(pictures, target_class=target),
        "saliency: captum": lambda: Saliency(model).attribute(pictures, target, abs=False),
        "seven CAMs and saliency: zoo": lambda: Explainer(model, [*CAMS, "saliency"]).explain(
            pictures, target_class=target
        ),
    }


def long_runs(model: nn.Module, steps: int) -> Mapping[str, Callable[[Tensor, Tensor], Any]]:
    """Give what takes many passes, for a picture and its target."""
    import captum.attr

    ours = IntegratedGradients(model, steps, baseline="zero", complete=False)
    smooth = SmoothGrad(model, num_samples=steps)
    path: Any = captum.attr.IntegratedGradients(model)
    tunnel: Any = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    runs: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "integrated gradients: zoo": lambda picture, target: ours.explain(
            picture, target_class=target
        ),
        "integrated gradients: captum": lambda picture, target: path.attribute(
            picture, target=target, n_steps=steps, internal_batch_size=BATCH
        ),
        "SmoothGrad: zoo": lambda picture, target: smooth.explain(picture, target_class=target),
        "SmoothGrad: captum": lambda picture, target: tunnel.attribute(
            picture, nt_samples=steps, nt_samples_batch_size=BATCH, target=target, abs=False
        ),
    }
    if has_units(next(model.parameters()).device):
        runs["integrated gradients: zoo, auto"] = lambda picture, target: ours.explain(
            picture, target_class=target, precision="auto"
        )
        runs["SmoothGrad: zoo, auto"] = lambda picture, target: smooth.explain(
            picture, target_class=target, precision="auto"
        )
    return runs


def measured(runs: Runs, rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Give the seconds that each took in each round, and what it gave."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    given: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = _now()
            given[name] = run()
            taken[name].append(_now() - start)
    return taken, given


def show(name: str, passes: list[float]) -> None:
    """Print the median of what something took in units of a forward."""
    spread = f"{min(passes):.2f}-{max(passes):.2f}"
    print(f"{name:34} {statistics.median(passes):7.2f}  ({spread})", flush=True)


def long_passes(
    runs: Mapping[str, Callable[[Tensor, Tensor], Any]],
    forward: Callable[[], Any],
    pictures: Tensor,
    target: Tensor,
) -> dict[str, list[float]]:
    """Give what eight pictures take, as each of them shows, in units of a forward of all.

    A shared machine grows faster and slower within a minute: pictures are explained one by one,
    and the unit is that of the forwards right before and after.
    """
    passes: dict[str, list[float]] = {name: [] for name in runs}
    before = _seconds(forward)
    for picture, wanted in zip(torch.split(pictures, 1), torch.split(target, 1), strict=True):
        for name, run in runs.items():
            taken = _seconds(partial(run, picture, wanted))
            after = _seconds(forward)
            passes[name].append(len(pictures) * taken / ((before + after) / 2))
            before = after
    return passes


def _seconds(run: Callable[[], Any]) -> float:
    start = _now()
    run()
    return _now() - start


def _now() -> float:
    """Give the time of the thread, if there is one, as others on the machine take none of that."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def check(given: Mapping[str, Any]) -> None:
    """Check that maps are equal where they should be, to rounding."""
    cam = given["Grad-CAM: zoo"]
    for name in ("captum", "pytorch-grad-cam"):
        theirs = given[f"Grad-CAM: {name}"].squeeze(1)
        flat = theirs.flatten(1)
        least, most = (m[:, None, None] for m in (flat.amin(1), flat.amax(1)))
        torch.testing.assert_close(
            cam, ((theirs - least) / (most - least)).to(cam), atol=2e-3, rtol=0
        )
    saliency, theirs = given["saliency: zoo"], given["saliency: captum"]
    assert ((saliency - theirs).abs().mean() / theirs.abs().mean()) < 1e-3


def main(steps: int = STEPS, rounds: int = ROUNDS, threads: int = 1) -> None:
    """Measure, and print."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    keep_freed_memory()
    model = resnet50().eval()
    pictures = torch.rand(BATCH, 3, 224, 224)
    with torch.no_grad():
        target = model(pictures).argmax(1)
    short = short_runs(model, pictures, target)
    taken, given = measured(short, rounds)
    check(given)
    unit = statistics.median(taken["a forward pass"])
    print(f"In forward passes of {unit:.2f} s, medians of {rounds} rounds:")
    for name, seconds in taken.items():
        show(name, [one / unit for one in seconds])
    print(f"With {steps} steps, eight times what a picture takes, medians of {BATCH} pictures:")
    runs = long_runs(model, steps)
    for name, passes in long_passes(runs, short["a forward pass"], pictures, target).items():
        show(name, passes)
    if not has_units(pictures.device):
        print('precision="auto" is "full" here: the processor has no units for bfloat16.')
    memory = peaks("integrated_gradients", BATCH, steps, 1).taken
    zoo, captum = memory[ZOO][0], memory[CAPTUM][0]
    print(
        f"integrated gradients of a ResNet-18, peak memory: zoo {zoo / 1e6:.0f} MB, captum "
        f"{captum / 1e6:.0f} MB, {zoo / captum:.3f} of it"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
