"""Pictures a second, side by side with torchvision's ImageFolder and transforms.v2.

JPEGs as large as ImageNet's and as a telephone's are read, resized to 224 pixels, augmented and
normalised by one thread, as one worker of a loader does. torchvision's steps are those of the
zoo, once on Pillow's pictures and once on tensors; rounds are interleaved.

Run ``python -m benchmarks.data [ROUNDS]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from skimage import data
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from zoo_core.data import ClassificationDataset, Transforms

ROUNDS: Final = 7
SIZE: Final = (224, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PICTURES: Final = {"500×375": (500, 375, 48), "4032×3024": (4032, 3024, 4)}
"""Width, height and number of the pictures of each kind."""


def write(folder: Path, width: int, height: int, count: int) -> None:
    """Write photographs with a camera's noise."""
    (folder / "class").mkdir(parents=True)
    photos: Any = data
    photo = Image.fromarray(photos.astronaut()).resize((width, height))
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 6, (height, width, 3))
        noisy = (np.asarray(photo) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "class" / f"{number}.jpg", quality=90)


def theirs(augment: bool, on_tensors: bool) -> v2.Compose:
    """Give torchvision's steps."""
    steps: list[Any] = [v2.Resize(SIZE, antialias=True)]
    if augment:
        steps += [v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2, 0.2)]
    steps.insert(0 if on_tensors else len(steps), v2.ToImage())
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose(steps)


def programs(folder: Path, augment: bool) -> dict[str, Any]:
    """Give the data sets to be compared."""
    root = str(folder)
    return {
        "zoo": ClassificationDataset(root, transform=Transforms(SIZE, augment)),
        "torchvision on Pillow": ImageFolder(root, theirs(augment, on_tensors=False)),
        "torchvision on tensors": ImageFolder(root, theirs(augment, on_tensors=True)),
    }


def seconds(dataset: Any) -> float:
    """Give the time that all samples take."""
    start = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return time.perf_counter() - start


def compare(folder: Path, what: str, augment: bool, rounds: int) -> None:
    """Print pictures a second, and how many times as many as torchvision's."""
    datasets = programs(folder, augment)
    taken: dict[str, list[float]] = {name: [] for name in datasets}
    for turn in range(-1, rounds):  # the first one warms up
        for name, dataset in datasets.items():
            time_taken = seconds(dataset)
            if turn >= 0:
                taken[name].append(time_taken)
    steps = "augmented" if augment else "plain"
    for name, times in taken.items():
        ratios = [other / own for own, other in zip(taken["zoo"], times, strict=True)]
        speed = len(datasets[name]) / statistics.median(times)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{what:9}  {steps:9}  {name:22}  {speed:6.0f} pictures/s, the zoo "
            f"{statistics.median(ratios):.2f} ({spread}) times as many"
        )


def main() -> None:
    """Compare on all pictures, plain and augmented."""
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with TemporaryDirectory() as folder:
        for what, form in PICTURES.items():
            write(Path(folder, what), *form)
            for augment in (False, True):
                compare(Path(folder, what), what, augment, rounds)


if __name__ == "__main__":
    main()
