"""Scenes: real digits on real photographs, with a label and a mask that agree."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from zoo_core.data import Scenes
from zoo_core.data.scenes import Split, _digits, _photos
from zoo_core.errors import InputError, MissingDistributionError

# Prints a digest of each of some scenes, made in another order than theirs.
DIGESTS = """
import hashlib
from zoo_core.data import Scenes
scenes = Scenes(40, size=(50, 70), seed=3, split="val")
for index in (39, 0, 17):
    sample = scenes[index]
    data = b"".join(sample[key].numpy().tobytes() for key in ("image", "label", "mask"))
    print(index, hashlib.sha256(data).hexdigest())
"""


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in ("image", "label", "mask"))


def areas(mask: Tensor) -> Tensor:
    """Give the pixels of each digit in a mask."""
    return torch.bincount(mask.flatten(), minlength=11)[1:]


@pytest.mark.parametrize("size", [32, 33, 96, 97, (64, 128), (131, 47), 224])
def test_samples_have_the_promised_form(size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    for sample in Scenes(4, size=size):
        assert sample.keys() == {"image", "label", "mask"}
        image, label, mask = sample["image"], sample["label"], sample["mask"]
        assert (image.dtype, label.dtype, mask.dtype) == (torch.float32, torch.int64, torch.int64)
        assert image.shape == (3, height, width)
        assert label.shape == ()
        assert mask.shape == (height, width)
        assert image.is_contiguous()
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.02


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("size", "count"), [(32, 300), (96, 300), (129, 60)])
def test_the_label_is_the_digit_that_covers_most(size: int, count: int, split: Split) -> None:
    seen = set()
    for sample in Scenes(count, size=size, split=split):
        label, covered = int(sample["label"]), areas(sample["mask"])
        others = torch.cat([covered[:label], covered[label + 1 :]])
        assert covered[label] > 1.2 * others.max()
        assert 1 <= (covered > 0).sum() <= 5
        seen |= set(sample["mask"].unique().tolist())
    assert seen == set(range(11))


def test_digits_stand_out_from_the_photograph() -> None:
    """Where the mask says digit, the picture differs from the same photograph's surroundings."""
    contrasts = []
    for sample in Scenes(50):
        on = sample["mask"] == sample["label"] + 1
        off = sample["mask"] == 0
        contrasts.append((sample["image"][:, on].mean(1) - sample["image"][:, off].mean(1)).abs())
    assert torch.stack(contrasts).max(1).values.median() > 0.25


def test_classes_are_balanced() -> None:
    counts = Counter(int(sample["label"]) for sample in Scenes(1000, size=32))
    assert set(counts) == set(range(10))
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 27.9  # nine degrees of freedom: one set of scenes in a thousand has more


def test_a_scene_depends_on_its_index_seed_and_split_only() -> None:
    scenes = Scenes(30, size=48, seed=1)
    assert same(scenes[7], Scenes(10, size=48, seed=1)[7])
    assert same(scenes[-1], scenes[29])
    for other in (
        scenes[8],
        Scenes(30, size=48, seed=2)[7],
        Scenes(30, size=48, seed=1, split="val")[7],
    ):
        assert not torch.equal(scenes[7]["image"], other["image"])
    with pytest.raises(IndexError):
        scenes[30]


def test_other_processes_make_the_same_scenes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True
    )
    scenes = Scenes(40, size=(50, 70), seed=3, split="val")
    told = dict(line.split() for line in done.stdout.splitlines())
    assert list(told) == ["39", "0", "17"]
    for index, digest in told.items():
        sample = scenes[int(index)]
        data = b"".join(sample[key].numpy().tobytes() for key in ("image", "label", "mask"))
        assert hashlib.sha256(data).hexdigest() == digest


def test_workers_of_a_loader_make_the_same_scenes() -> None:
    scenes = Scenes(12, size=40)
    loader: DataLoader[Any] = DataLoader(
        scenes, batch_size=4, num_workers=2, multiprocessing_context="spawn"
    )
    batches = list(loader)
    assert [batch["image"].shape for batch in batches] == [(4, 3, 40, 40)] * 3
    for key in ("image", "label", "mask"):
        together = torch.cat([batch[key] for batch in batches])
        assert torch.equal(together, torch.stack([sample[key] for sample in scenes]))


def test_the_splits_have_nothing_in_common() -> None:
    from skimage import data
    from sklearn.datasets import load_digits

    written = {
        split: [digit.strokes.tobytes() for of_value in _digits(split) for digit in of_value]
        for split in ("train", "val")
    }
    assert len(written["train"]) + len(written["val"]) == len(load_digits().target)
    assert min(len(of_value) for of_value in _digits("val")) >= 30
    assert not set(written["train"]) & set(written["val"])
    cat = Image.fromarray(data.chelsea())
    [parts] = [
        parts
        for parts in zip(_photos("train"), _photos("val"), strict=True)
        if sum(part.width for part in parts) == cat.width
    ]
    np.testing.assert_array_equal(np.concatenate(list(map(np.asarray, parts)), axis=1), cat)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length must be a whole number from 1, not 0"),
        ({"length": 2.5}, "length must be a whole number from 1, not 2.5"),
        ({"length": True}, "length must be a whole number from 1, not True"),
        ({"size": 31}, "size must be a whole number from 32, not 31"),
        ({"size": (64, 8)}, "size must be a whole number from 32, not 8"),
        ({"size": (64, 64, 3)}, "size is one side, or height and width, not (64, 64, 3)"),
        ({"size": "96"}, "size must be a whole number from 32, not '96'"),
        ({"seed": -1}, "seed must be a whole number from 0, not -1"),
        ({"split": "test"}, "split is 'train' or 'val', not 'test'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Scenes(**arguments)
    assert str(refused.value) == message


def test_labels_name_the_classes_of_a_model() -> None:
    assert len(Scenes.labels["classification"]) == 10
    assert Scenes.labels["segmentation"][:3] == ("background", "0", "1")
    assert len(Scenes.labels["segmentation"]) == 11


@pytest.mark.parametrize(
    ("blocked", "missing"),
    [
        (["sklearn"], "scikit-learn"),
        (["skimage", "sklearn"], "scikit-image and scikit-learn"),
    ],
)
def test_a_missing_extra_is_named(blocked: list[str], missing: str) -> None:
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
from zoo_core.data import Scenes
from zoo_core.errors import ZooError
try:
    Scenes(10)
except ZooError as error:
    print(type(error).__name__, error, sep=": ")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"{MissingDistributionError.__name__}: Scenes needs {missing}; "
        f'pip install "zoo-core[scenes]"\n'
    )
