"""Predicting a folder of photographs, beside loops that people write with torchvision and timm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from timm.data.dataset import ImageDataset
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

import zoo_core as zoo
from benchmarks.comparing import Area, Comparison, interleaved
from zoo_core.cli.predict import BATCH, answered
from zoo_core.inference import Inference
from zoo_core.models import MultitaskModel
from zoo_core.prediction import Predictor

RECIPES: Final = ("resnet50", "timm/efficientnet_lite0")
TEXT: Final = f"""\
JPEGs of 500×375 pixels, from the file to the five likeliest classes: the zoo as `zoo predict` does
it, which reads pictures ahead in threads and runs them in batches of {BATCH} with fused norms
(*exact* is `--exact`: one by one and as the model is), torchvision's `ImageFolder` and transforms
one by one and in a `DataLoader`, and timm's `ImageDataset` and transforms in a `DataLoader`, of as
many a batch and a worker a core. All run one model in `torch.inference_mode()` and give the same
classes. The limit is the model with fused norms on batches that are ready."""


def write(folder: Path, count: int) -> list[Path]:
    """Write photographs with a camera's noise."""
    from skimage import data

    photos: Any = data
    photo = Image.fromarray(photos.astronaut()).resize((500, 375))
    (folder / "class").mkdir(parents=True)
    files = []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 12, (375, 500, 3))
        noisy = (np.roll(np.asarray(photo), number * 5, 1) + noise).clip(0, 255)
        files.append(folder / "class" / f"{number:03}.jpg")
        Image.fromarray(noisy.astype(np.uint8)).save(files[-1], quality=90)
    return files


def compare(recipe: str, files: list[Path], rounds: int) -> Comparison:
    """Time all ways of predicting the same files."""
    model = zoo.build(recipe, seed=0).eval()
    how = model.preprocessing
    assert how is not None
    root = files[0].parent.parent
    resized = round(how.size[0] / how.crop)
    steps = v2.Compose(
        [
            v2.Resize(resized, InterpolationMode(how.interpolation)),
            v2.CenterCrop(how.size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(how.mean, how.std),
        ]
    )
    timms = create_transform(
        (3, *how.size), interpolation=how.interpolation, mean=how.mean, std=how.std,
        crop_pct=how.crop,
    )  # fmt: skip
    ready = torch.stack([sample for sample, _ in ImageFolder(str(root), steps)])
    image_dataset: Any = ImageDataset
    workers = torch.get_num_threads()

    def fused() -> list[int]:
        running = Inference(model)
        with torch.inference_mode():
            logits = [running.logits("classification", images) for images in batches()]
        return torch.cat(logits).argmax(1).tolist()

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(ready), BATCH):
            yield ready[start : start + BATCH]

    def one_by_one() -> Iterator[Tensor]:
        for sample, _ in ImageFolder(str(root), steps):
            yield sample[None]

    def loaded(dataset: Any) -> Callable[[], Iterator[Tensor]]:
        def give() -> Iterator[Tensor]:
            for images, _ in DataLoader(dataset, BATCH, num_workers=workers):
                yield images

        return give

    runs: dict[str, Callable[[], list[int]]] = {
        "zoo": lambda: ours(model, files, exact=False),
        "zoo, exact": lambda: ours(model, files, exact=True),
        "torchvision, one by one": lambda: theirs(model, one_by_one()),
        "torchvision": lambda: theirs(model, loaded(ImageFolder(str(root), steps))()),
        "timm": lambda: theirs(model, loaded(image_dataset(str(root), transform=timms))()),
        "the plain model alone": lambda: theirs(model, batches()),
        "the model alone": fused,
    }
    expected = runs["zoo, exact"]()
    for name, run in runs.items():
        found = run()
        # An untrained model's classes are close to each other.
        same = sum(one == other for one, other in zip(found, expected, strict=True))
        assert same >= 0.9 * len(files), f"{name} gives other classes"
    taken = interleaved(runs, rounds, clock=time.perf_counter)
    work = f"{recipe}, {len(files)} pictures"
    return Comparison(work, taken, limit="the model alone")


def ours(model: MultitaskModel, files: list[Path], exact: bool) -> list[int]:
    """Give the likeliest class of each picture as ``zoo predict`` does."""
    classes = []
    predictor = Predictor(model, exact=exact)
    found = [(file, None) for file in files]
    for _, answer in answered(predictor, found, 3, 1 if exact else BATCH):
        assert isinstance(answer, tuple)
        ranked = answer[1].classification
        assert ranked is not None
        classes.append(ranked[0].index)
    return classes


@torch.inference_mode()
def theirs(model: nn.Module, batches: Iterator[Tensor]) -> list[int]:
    """Give the likeliest class of each picture of some batches."""
    return [
        index
        for images in batches
        for index in model(images).softmax(1).topk(5).indices[:, 0].tolist()
    ]


def measure(quick: bool) -> Area:
    """Measure, with all cores and by the clock on the wall, as reading overlaps with computing."""
    count, rounds = (6, 1) if quick else (32, 3)
    with TemporaryDirectory() as folder:
        files = write(Path(folder), count)
        recipes = RECIPES[1:] if quick else RECIPES
        comparisons = [compare(recipe, files, rounds) for recipe in recipes]
    return Area(
        name="predicting",
        title="Predicting a folder of photographs",
        text=TEXT,
        comparisons=comparisons,
        versions={name: version(name) for name in ("torchvision", "timm", "pillow")},
    )
