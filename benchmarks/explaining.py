"""Explaining beside captum, pytorch-grad-cam and torch-cam: time and memory.

The limit of time is what a method cannot do without: a forward pass for class-activation maps, a
gradient for attributions, as many of them as it has samples. That of memory is one gradient of one
picture. Maps that should be equal are compared. The peers are given the target layer; the zoo finds
it. Each peer has a copy of the model, as some leave hooks in it.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial, partialmethod
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import captum.attr
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from benchmarks.comparing import ZOO, Area, Comparison, in_turn, interleaved
from zoo_core.explainability import Explainer, IntegratedGradients, SmoothGrad
from zoo_core.explainability.precision import Precision
from zoo_core.hardware import has_units

CAPTUM: Final = "captum"
PGC: Final = "pytorch-grad-cam"
TORCHCAM: Final = "torch-cam"
LOWERED: Final = "zoo, precision auto"
CAMS: Final[Mapping[str, tuple[str, str]]] = {
    "grad_cam": ("GradCAM", "GradCAM"),
    "grad_cam_plus_plus": ("GradCAMPlusPlus", "GradCAMpp"),
    "layer_cam": ("LayerCAM", "LayerCAM"),
    "xgrad_cam": ("XGradCAM", "XGradCAM"),
    "hires_cam": ("HiResCAM", ""),
    "eigen_cam": ("EigenCAM", ""),
    "score_cam": ("ScoreCAM", "ScoreCAM"),
    "ablation_cam": ("AblationCAM", ""),
}
"""Our names, and those of the classes of pytorch-grad-cam and torch-cam."""
SCALE: Final = 3000.0
"""What the initial scores are multiplied with."""
BATCH: Final = 32
"""The most pictures that a limit runs at once."""
MANY: Final = ("score_cam", "ablation_cam")
"""Those that run the model for every channel of the layer."""
UNEQUAL: Final = {
    "eigen_cam": (PGC,),  # its sign is left to chance
    "score_cam": (PGC, TORCHCAM),  # it aligns corners; it scales maps before it enlarges them
    "grad_cam_plus_plus": (TORCHCAM,),  # it leaves the denominator out
}
Runs = Mapping[str, Callable[[], Any]]


def little() -> nn.Module:
    """Give a network with the layers that are asked for by name, and little beside."""
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 8, 3, stride=2, padding=1),
        "layer4": nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(16, 10),
    }
    return nn.Sequential(OrderedDict(layers))


class Setting:
    """A model, pictures, and what each library makes of them.

    Args:
        model: A model with torchvision's names, ``layer4`` and ``fc``.
        batch: How many pictures.
        size: Their side.
    """

    def __init__(self, model: nn.Module, batch: int, size: int) -> None:
        self.model = model.eval()
        with torch.no_grad():
            # Some add small numbers to what they divide by, which are to be nothing beside it.
            model.get_submodule("fc").weight.mul_(SCALE)  # type: ignore[operator]
            self.pictures = torch.rand(batch, 3, size, size)
            self.target = self.model(self.pictures).argmax(1)

    @torch.no_grad()
    def passes(self, count: int = 1) -> None:
        """Run the model so often on each picture."""
        for part in self.pictures.repeat(count, 1, 1, 1).split(BATCH):  # type: ignore[no-untyped-call]
            self.model(part)

    def gradients(self, count: int = 1) -> None:
        """Take the gradient at each picture so often."""
        rows = torch.arange(len(self.pictures))
        for _ in range(count):
            inputs = self.pictures.clone().requires_grad_()
            score = self.model(inputs)[rows, self.target].sum()
            torch.autograd.grad(score, inputs)

    def ours(
        self, precision: Precision = "full", /, **methods: Mapping[str, Any]
    ) -> Callable[[], Any]:
        """Give the zoo's run of some methods with their options; it gives the last one's map."""
        explainer = Explainer(self.model, methods)
        last = list(methods)[-1]
        return lambda: explainer.explain(
            self.pictures, target_class=self.target, precision=precision
        )[last]

    def copied(self) -> tuple[nn.Module, nn.Module]:
        """Give a copy of the model, and its target layer."""
        model = copy.deepcopy(self.model)
        return model, list(model.get_submodule("layer4").children())[-1]

    def captum_cam(self) -> Callable[[], Tensor]:
        """Give captum's Grad-CAM."""
        model, layer = self.copied()
        method = captum.attr.LayerGradCam(model, layer)

        def run() -> Tensor:
            found = method.attribute(self.pictures, self.target, relu_attributions=True)
            return _enlarged(found, self.pictures)

        return run

    def pgc(self, name: str) -> Callable[[], Tensor]:
        """Give a method of pytorch-grad-cam."""
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        model, layer = self.copied()
        method = getattr(pytorch_grad_cam, name)(model, [layer])
        targets = [ClassifierOutputTarget(int(one)) for one in self.target]
        return lambda: torch.from_numpy(method(self.pictures, targets))

    def torchcam(self, name: str) -> Callable[[], Tensor]:
        """Give a method of torch-cam."""
        import torchcam.methods

        model, layer = self.copied()
        make = getattr(torchcam.methods, name)

        def run() -> Tensor:
            with make(model, layer) as extractor:
                scores = model(self.pictures)
                maps = extractor(self.target.tolist(), scores, normalized=False)
            return _enlarged(maps[0][:, None], self.pictures)

        return run

    def attribution(self, name: str, **options: Any) -> Callable[[], Tensor]:
        """Give a method of captum."""
        model, _ = self.copied()
        given = captum.attr.Saliency(model) if name == "NoiseTunnel" else model
        method = getattr(captum.attr, name)(given)

        def run() -> Tensor:
            found: Tensor = method.attribute(self.pictures, target=self.target, **options)
            return found.detach()

        return run


def _enlarged(maps: Tensor, pictures: Tensor) -> Tensor:
    """Give ``[B, H, W]`` of the pictures' size, scaled to 0–1 each."""
    large = F.interpolate(maps.detach(), pictures.shape[-2:], mode="bilinear")[:, 0]
    flat = large.flatten(1)
    least, most = (each[:, None, None] for each in (flat.amin(1), flat.amax(1)))
    return (large - least) / (most - least).clamp(min=1e-12)


def cams(setting: Setting, names: tuple[str, ...]) -> dict[str, Runs]:
    """Give the runs of class-activation maps, by work, each with its limit last."""
    found: dict[str, dict[str, Callable[[], Any]]] = {}
    channels: Any = setting.model.get_submodule("fc").in_features
    for name in names:
        theirs, others = CAMS[name]
        runs = {ZOO: setting.ours(**{name: {}}), PGC: setting.pgc(theirs)}
        if others:
            runs[TORCHCAM] = setting.torchcam(others)
        if name == "grad_cam":
            runs[CAPTUM] = setting.captum_cam()
        if name == "score_cam":
            runs[f"{channels} forward passes"] = partial(setting.passes, channels)
        else:
            runs["a forward pass"] = setting.passes
        found[name] = runs
    return dict(found)


def several(setting: Setting) -> Runs:
    """Give the runs of the four maps that all have."""
    names = [name for name, (_, other) in CAMS.items() if other and name not in MANY]

    def in_a_row(runs: list[Callable[[], Any]]) -> Any:
        return [run() for run in runs][-1]

    return {
        ZOO: setting.ours(**{name: {} for name in names}),
        PGC: partial(in_a_row, [setting.pgc(CAMS[name][0]) for name in names]),
        TORCHCAM: partial(in_a_row, [setting.torchcam(CAMS[name][1]) for name in names]),
        "a forward pass": setting.passes,
    }


def attributions(setting: Setting, steps: int, patch: int) -> dict[str, Runs]:
    """Give the runs of attributions to pixels, by work, each with its limit last."""
    patches = (setting.pictures.shape[-1] // patch) ** 2
    path = {"num_steps": steps, "baseline": "zero", "complete": False}
    window = {"sliding_window_shapes": (3, patch, patch), "strides": (3, patch, patch)}
    noise = {"nt_samples": steps, "abs": False}
    gradients = {f"{steps} gradients": partial(setting.gradients, steps)}
    found: dict[str, dict[str, Callable[[], Any]]] = {
        name: {
            ZOO: setting.ours(**{name: {}}),
            CAPTUM: setting.attribution(theirs, **options),
            "a gradient": setting.gradients,
        }
        for name, theirs, options in (
            ("saliency", "Saliency", {"abs": False}),
            ("input_x_gradient", "InputXGradient", {}),
            ("guided_backprop", "GuidedBackprop", {}),
        )
    }
    found[f"integrated_gradients, {steps} steps"] = {
        **_sampled(setting, "integrated_gradients", path),
        CAPTUM: setting.attribution("IntegratedGradients", n_steps=steps),
        **gradients,
    }
    found[f"smoothgrad, {steps} copies"] = {
        **_sampled(setting, "smoothgrad", {"num_samples": steps}),
        CAPTUM: setting.attribution("NoiseTunnel", **noise),
        **gradients,
    }
    found[f"occlusion by {patches} patches"] = {
        **_sampled(setting, "occlusion", {"patch_size": patch, "stride": patch}),
        CAPTUM: setting.attribution("Occlusion", **window),
        f"{patches} forward passes": partial(setting.passes, patches),
    }
    return dict(found)


def _sampled(setting: Setting, name: str, options: Mapping[str, Any]) -> Runs:
    """Give the zoo's runs, in lower precision too where the device has units for it."""
    runs = {ZOO: setting.ours(**{name: options})}
    if has_units(setting.pictures.device):
        runs[LOWERED] = setting.ours("auto", **{name: options})
    return runs


def check(work: str, runs: Runs) -> None:
    """Check that maps are equal where they should be, to rounding."""
    if work.startswith("smoothgrad"):
        return  # each draws noise of its own
    wanted = runs[ZOO]()
    for name in (CAPTUM, PGC, TORCHCAM):
        if name not in runs or name in UNEQUAL.get(work, ()):
            continue
        found = runs[name]()
        if work.startswith("occlusion"):
            found = found[:, 0]  # all channels have the same
        far = (found - wanted).abs().mean() / wanted.abs().mean()
        assert far < 2e-3, f"{work}: {name} differs by {far:.1e} of the map"


def timed(setting: Setting, works: Mapping[str, Runs], title: str, rounds: int) -> list[Comparison]:
    """Check and time some works."""
    found = []
    for work, runs in works.items():
        check(work, runs)
        taken = interleaved(runs, rounds, warm=0, clock=time.process_time)
        found.append(Comparison(f"{work}: {title}", taken, limit=list(runs)[-1]))
    return found


def memory(work: str, who: str, batch: int, steps: int) -> None:
    """Print how many bytes one explanation of a ResNet-18 takes at its peak."""
    model = resnet18().eval()
    pictures, target = torch.rand(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.long)
    path, saliency = captum.attr.IntegratedGradients(model), captum.attr.Saliency(model)
    tunnel: Any = captum.attr.NoiseTunnel(saliency)
    runs: dict[tuple[str, str], Callable[[], object]] = {
        ("integrated_gradients", ZOO): lambda: IntegratedGradients(
            model, steps, baseline="zero"
        ).explain(pictures, target_class=target),
        ("integrated_gradients", CAPTUM): lambda: path.attribute(
            pictures, target=target, n_steps=steps
        ),
        ("smoothgrad", ZOO): lambda: SmoothGrad(model, steps).explain(
            pictures, target_class=target
        ),
        ("smoothgrad", CAPTUM): lambda: tunnel.attribute(pictures, nt_samples=steps, target=target),
    }
    one: Callable[[], object] = partial(saliency.attribute, pictures[:1], target[:1])
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
    runs.get((work, who), one)()
    print((_kilobytes("VmHWM") - before) * 1024)


def _kilobytes(name: str) -> int:
    """Read what the kernel says of this process; what Python gives includes its parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peaks(work: str, batch: int, steps: int, rounds: int) -> Comparison:
    """Measure peak memory, each time in a fresh process."""

    def peak(who: str) -> float:
        command = [sys.executable, "-m", "benchmarks.explaining"]
        arguments = [work, who, str(batch), str(steps)]
        done = subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE)
        return float(done.stdout)

    limit = "one gradient of one picture"
    taken = in_turn({who: partial(peak, who) for who in (ZOO, CAPTUM, limit)}, rounds, warm=0)
    title = f"{work}, {steps} steps: ResNet-18, {batch} of 224 px"
    remark = "captum runs all steps at once unless it is told otherwise."
    return Comparison(title, taken, "peak memory", limit, remark)


def quiet() -> None:
    """Leave out captum's advice, and the progress bars of pytorch-grad-cam."""
    warnings.filterwarnings("ignore", "Setting (forward|backward)", UserWarning)
    warnings.filterwarnings("ignore", "Input Tensor .* did not already", UserWarning)
    tqdm: Any = import_module("tqdm")  # which says nothing of its types
    tqdm.tqdm.__init__ = partialmethod(tqdm.tqdm.__init__, disable=True)


def measure(quick: bool) -> Area:
    """Measure all methods on a ResNet."""
    quiet()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds, steps, size, patch, side = (1, 2, 64, 32, 64) if quick else (3, 6, 224, 112, 96)
    setting = Setting(little() if quick else resnet50(), 2, size)
    title = f"{'two layers' if quick else 'ResNet-50'}, 2 of {size} px"
    few = tuple(name for name in CAMS if name not in MANY)
    works = {
        **cams(setting, few),
        "four class-activation maps at once": several(setting),
        **attributions(setting, steps, patch),
    }
    small = Setting(little() if quick else resnet18(), 1, side)
    found = timed(setting, works, title, rounds)
    found += timed(
        small,
        cams(small, MANY),
        f"{'two layers' if quick else 'ResNet-18'}, 1 of {side} px",
        rounds,
    )
    sampling = ("integrated_gradients", "smoothgrad")
    if quick:
        found.append(peaks(sampling[0], 1, 3, rounds))
    else:
        found += [peaks(work, 1, 50, rounds - 1) for work in sampling]
    lowered = (
        "" if has_units(setting.pictures.device) else ' `precision="auto"` is full precision here.'
    )
    return Area(
        "explaining",
        "Explaining",
        "On one thread and by its own clock. The limit is what a method cannot do without: a "
        "forward pass without gradients, or a gradient at the pictures, once for each sample. The "
        "peers are given the target layer; the zoo finds it. captum has its defaults. The run "
        "checks that maps are equal to a five-hundredth, but for SmoothGrad, which is random, "
        "Eigen-CAM, whose sign pytorch-grad-cam leaves to chance, Score-CAM, which aligns corners "
        "there and in torch-cam scales maps before it enlarges them, and torch-cam's Grad-CAM++, "
        "which leaves the denominator out. "
        f"Peak memory is that of fresh processes, beside what the model takes.{lowered}",
        comparisons=found,
        versions={name: version(name) for name in ("captum", "grad-cam", "torchcam")},
    )


if __name__ == "__main__":
    quiet()
    torch.set_num_threads(1)
    memory(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
