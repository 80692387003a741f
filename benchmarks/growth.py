"""How time grows with the batch, the picture's size, the number of plugins and of processes.

Training by several processes runs this module by ``torchrun``, once in each process.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import segmentation_models_pytorch as smp
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

import zoo_core as zoo
from benchmarks.comparing import ZOO, Area, Growth, in_turn, interleaved
from benchmarks.plugins import install
from zoo_core.explainability import GradCAM
from zoo_core.training import Trainer

BATCHES: Final = (1, 2, 4, 8, 16)
SIDES: Final = (64, 128, 192, 256, 384)
PLUGINS: Final = (0, 50, 100, 200)
PROCESSES: Final = (1, 2)
BARE: Final = "bare loop"
COMPONENTS: Final = 25
"""Of each plugin."""
LOADED: Final = """
from importlib.metadata import entry_points
found = [entry.load().zoo_specs() for entry in entry_points(group="zoo.plugins")
         if entry.name.startswith("many")]
"""
"""Imports the made-up plugins and asks them, and no more."""


def grown(
    contenders: Mapping[str, Callable[[Tensor], object]],
    work: str,
    along: str,
    pictures: Mapping[int, Tensor],
    rounds: int,
) -> Growth:
    """Time all contenders at each point by the thread's own clock."""
    taken: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for given in pictures.values():
        runs = {name: partial(run, given) for name, run in contenders.items()}
        for name, seconds in interleaved(runs, rounds, clock=time.process_time).items():
            taken[name].append(seconds)
    return Growth(work, along, list(pictures), taken)


def by_batch(size: int, batches: Sequence[int]) -> dict[int, Tensor]:
    """Give batches of pictures."""
    return {batch: torch.randn(batch, 3, size, size) for batch in batches}


def forwards(quick: bool, rounds: int) -> list[Growth]:
    """Time forwards of a ResNet-18 and of a U-Net on it."""
    models: dict[str, nn.Module] = {
        ZOO: zoo.build("resnet18"),
        "timm": timm.create_model("resnet18"),
        "torchvision": torchvision.models.resnet18(),
    }
    segmenters: dict[str, nn.Module] = {
        ZOO: zoo.build("resnet18+unet", num_classes_classification=0),
        "smp": smp.Unet("resnet18", encoder_weights=None, classes=21),
    }
    batches = by_batch(64 if quick else 128, BATCHES[:2] if quick else BATCHES)
    sizes = {side: torch.randn(1, 3, side, side) for side in (SIDES[:2] if quick else SIDES)}
    found = []
    for along, pictures in (("pictures in a batch", batches), ("side in pixels", sizes)):
        for work, group in (("forward", models), ("U-Net", segmenters)):
            runs = {name: partial(_forward, model.eval()) for name, model in group.items()}
            found.append(grown(runs, f"ResNet-18, {work}", along, pictures, rounds))
    return found


@torch.no_grad()
def _forward(model: nn.Module, pictures: Tensor) -> None:
    model(pictures)


def explaining(quick: bool, rounds: int) -> Growth:
    """Time Grad-CAM of a ResNet-18."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM as Theirs
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    models = [torchvision.models.resnet18().eval() for _ in range(3)]
    ours = GradCAM(models[0])
    cam = Theirs(models[1], [models[1].layer4[-1]])
    captum = LayerGradCam(models[2], models[2].layer4[-1])
    runs: dict[str, Callable[[Tensor], object]] = {
        ZOO: lambda given: ours.explain(given, target_class=1),
        "pytorch-grad-cam": lambda given: cam(given, [ClassifierOutputTarget(1)] * len(given)),
        "captum": lambda given: captum.interpolate(
            captum.attribute(given, 1, relu_attributions=True), given.shape[-2:], "bilinear"
        ),
    }
    pictures = by_batch(64 if quick else 128, BATCHES[:2] if quick else BATCHES)
    return grown(runs, "ResNet-18, Grad-CAM", "pictures in a batch", pictures, rounds)


def listing(quick: bool, rounds: int) -> Growth:
    """Time ``zoo list`` with more and more plugins, each of which has many components."""
    counts = (0, 10) if quick else PLUGINS
    plain = {key: text for key, text in os.environ.items() if not key.startswith("ZOO_")}
    commands = {
        ZOO: ["-m", "zoo_core", "list"],
        "importing them alone": ["-c", LOADED],
        "python -c pass": ["-c", "pass"],
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in commands}
    for count in counts:
        with TemporaryDirectory() as folder:
            if count:
                install(Path(folder), count, count * COMPONENTS)
            environment = plain | {"PYTHONPATH": folder}
            runs = {
                name: partial(
                    subprocess.run,
                    [sys.executable, *command],
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                for name, command in commands.items()
            }
            for name, seconds in interleaved(runs, rounds).items():
                taken[name].append(seconds)
    return Growth("zoo list", f"plugins of {COMPONENTS} components more", list(counts), taken)


def training(quick: bool, rounds: int) -> Growth:
    """Time a step of the same whole batch, shared by more and more processes."""
    processes = PROCESSES[:1] if quick else PROCESSES
    taken: dict[str, list[list[float]]] = {ZOO: [], BARE: []}
    for count in processes:
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(count), "-m", "benchmarks.growth"),
            *("32" if quick else "96", str(rounds)),
        ]
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.PIPE
        )
        for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            taken[name].append(seconds)
    return Growth("training a small ViT", "processes", list(processes), taken)


def process(size: int, rounds: int) -> None:
    """Train in one of the processes, and let the first one print the seconds of each epoch."""
    dist.init_process_group("gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    images, labels = torch.randn(64, 3, size, size), torch.randint(10, (64,))
    data = TensorDataset(images, labels)
    # No layer looks at the whole batch: the weights must come out the same.
    start = zoo.build("vit_tiny", num_classes_classification=10, image_size=size, seed=0)
    models = {ZOO: copy.deepcopy(start), BARE: copy.deepcopy(start)}
    optimizers = {name: SGD(model.parameters(), lr=0.01) for name, model in models.items()}
    trainer = Trainer(
        models[ZOO], nn.CrossEntropyLoss(), optimizers[ZOO], max_epochs=1, device="cpu", seed=0,
        progress=False,
    )  # fmt: skip
    # Each process has its part of every batch.
    share = [row for row in range(len(data)) if row % count == rank]
    own = DataLoader(TensorDataset(images[share], labels[share]), 16 // count)
    whole = DataLoader(data, 16)

    def bare() -> None:
        model = models[BARE].train()
        # As the Trainer does, anew for each run.
        parallel = DistributedDataParallel(model) if count > 1 else model
        for inputs, target in own:
            optimizers[BARE].zero_grad()
            F.cross_entropy(parallel(inputs), target).backward()  # type: ignore[no-untyped-call]
            optimizers[BARE].step()

    def epoch(run: Callable[[], object]) -> float:
        dist.barrier()
        begun = time.perf_counter()
        run()
        dist.barrier()
        return time.perf_counter() - begun

    runs = {ZOO: partial(epoch, lambda: trainer.train(whole)), BARE: partial(epoch, bare)}
    taken = in_turn(runs, rounds)
    torch.testing.assert_close(
        models[ZOO].state_dict(), models[BARE].state_dict(), atol=1e-4, rtol=1e-3
    )
    if rank == 0:
        print(json.dumps(taken))
    dist.destroy_process_group()


def measure(quick: bool) -> Area:
    """Measure all curves."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = 1 if quick else 5
    names = ("timm", "torchvision", "segmentation_models_pytorch", "grad-cam", "captum")
    return Area(
        "growth",
        "How time grows",
        "In times of what the zoo takes at the first point. Forwards and Grad-CAM are on one "
        "thread and by its own clock; of pictures of 128×128 pixels, or of one picture. `zoo list` "
        "is a fresh process by the clock, beside one that only imports the same plugins and asks "
        "them. Training is an epoch of 64 pictures of 96×96 pixels in batches of 16, shared by "
        "processes of one thread each (gloo), beside a bare loop with DistributedDataParallel; it "
        "cannot grow beyond the machine's cores. The run checks that both end with the same "
        "weights.",
        growths=[
            *forwards(quick, rounds),
            explaining(quick, rounds),
            listing(quick, rounds),
            training(quick, rounds),
        ],
        versions={name: version(name) for name in names},
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    process(int(sys.argv[1]), int(sys.argv[2]))
