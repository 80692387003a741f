"""Reading and preparing pictures, beside torchvision's ImageFolder and transforms.v2.

JPEGs as large as ImageNet's and as a telephone's are read, resized to 224 pixels, augmented and
normalised by one thread, as one worker of a loader does. torchvision's steps are those of the
zoo, once on Pillow's pictures and once on tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from skimage import data
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.comparing import Area, Comparison, interleaved
from zoo_core.data import ClassificationDataset, Transforms

ROUNDS: Final = 7
SIZE: Final = (224, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

STEP: Final = 1.01 / 255 / min(STD)
"""What one of 256 shades makes, to which pictures may be rounded differently."""

PICTURES: Final = ((500, 375, 48), (4032, 3024, 4))
"""Width, height and number of the pictures of each kind."""
FEW: Final = ((500, 375, 4),)
DECODING, REDUCED = "decoding alone", "decoding reduced"

TEXT: Final = """JPEGs are read, resized to 224×224 pixels, augmented or not, and normalised, by one
thread and its own time. torchvision's steps are those of the zoo, once on Pillow's pictures and
once on tensors; the run checks that a plain picture comes out as torchvision's on Pillow, up to one
of 256 shades. The limit is Pillow decoding the files in full. Beside it stands Pillow decoding only
what a picture of the size needs (`Image.draft`), which gives other pixels, and which no data set
here does."""


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


def decode(files: list[Path], reduced: bool) -> None:
    """Decode files in full, or to the least size that is not too small."""
    for file in files:
        with Image.open(file) as picture:
            if reduced:
                picture.draft("RGB", SIZE)
            picture.load()


def read(dataset: Any) -> None:
    """Give all samples to nobody."""
    for index in range(len(dataset)):
        dataset[index]


def programs(folder: Path, augment: bool) -> dict[str, Callable[[], None]]:
    """Give what is to be compared."""
    root, files = str(folder), sorted(folder.rglob("*.jpg"))
    ours = ClassificationDataset(root, transform=Transforms(SIZE, augment))
    on_pillow = ImageFolder(root, theirs(augment, on_tensors=False))
    on_tensors = ImageFolder(root, theirs(augment, on_tensors=True))
    assert len(ours) == len(on_pillow) == len(files)
    if not augment:
        torch.testing.assert_close(ours[0]["image"], on_pillow[0][0], rtol=0, atol=STEP)
    return {
        "zoo": partial(read, ours),
        "torchvision on Pillow": partial(read, on_pillow),
        "torchvision on tensors": partial(read, on_tensors),
        REDUCED: partial(decode, files, reduced=True),
        DECODING: partial(decode, files, reduced=False),
    }


def measure(quick: bool) -> Area:
    """Compare on all pictures, plain and augmented."""
    torch.set_num_threads(1)
    comparisons = []
    for width, height, count in FEW if quick else PICTURES:
        with TemporaryDirectory() as folder:
            write(Path(folder), width, height, count)
            for augment in (False, True):
                taken = interleaved(
                    programs(Path(folder), augment),
                    1 if quick else ROUNDS,
                    clock=time.process_time,
                )
                work = f"{width}×{height}, {'augmented' if augment else 'plain'}"
                comparisons.append(Comparison(work, taken, limit=DECODING))
    versions = {name: version(name) for name in ("torchvision", "pillow")}
    return Area("data", "Data pipeline", TEXT, comparisons, versions=versions)
