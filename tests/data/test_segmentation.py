"""Pictures with masks, and with labels too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from zoo_core.data import DataError, MultitaskDataset, SegmentationDataset, Transforms
from zoo_core.errors import InputError

Put = Callable[..., Path]


@pytest.fixture
def folders(put: Put, numbers: NDArray[np.uint8], tmp_path: Path) -> tuple[Path, Path]:
    """Four pictures in two classes, with masks: grey, palette, ignoring some, and 16 bits."""
    ignoring = numbers.copy()
    ignoring[:10] = 255
    palette = Image.fromarray(numbers)
    palette.putpalette([9, 8, 7, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    for name, mask in {
        "cat/1": numbers,
        "cat/2": palette,
        "dog/1": ignoring,
        "dog/2": numbers.astype(np.uint16),
    }.items():
        put(f"images/{name}.jpg")
        put(f"masks/{name}.png", mask)
    return tmp_path / "images", tmp_path / "masks"


def test_pictures_and_masks_are_paired(
    folders: tuple[Path, Path], numbers: NDArray[np.uint8]
) -> None:
    dataset = SegmentationDataset(*folders, num_classes=4)
    assert [pair.key for pair in dataset.pairs] == ["cat/1", "cat/2", "dog/1", "dog/2"]
    assert (dataset.num_classes, dataset.ignore_index) == (4, 255)
    assert (dataset.classes, dataset.labels) == ((), {})
    for index, sample in enumerate(dataset):
        image, mask = sample
        assert (image.dtype, image.shape) == (torch.float32, (3, 100, 150))
        assert mask.dtype == torch.int64
        expected = numbers.astype(int)
        if index == 2:
            expected[:10] = 255
        assert np.array_equal(mask, expected)


def test_classes_can_be_named(folders: tuple[Path, Path]) -> None:
    names = ("sky", "grass", "tree", "house")
    dataset = SegmentationDataset(*folders, class_names=names)
    assert dataset.labels == {"segmentation": names}
    assert (dataset.num_classes, dataset.class_to_idx["tree"]) == (4, 2)
    with pytest.raises(InputError, match="num_classes is 5, but class_names are 4"):
        SegmentationDataset(*folders, class_names=names, num_classes=5)
    with pytest.raises(InputError, match="num_classes must be a whole number from 1, not 0"):
        SegmentationDataset(*folders, num_classes=0)


def test_numbers_beyond_the_classes_are_refused(folders: tuple[Path, Path]) -> None:
    dataset = SegmentationDataset(*folders, num_classes=3)
    with pytest.raises(
        DataError, match=r"cat.1\.png: it has the value 3, but classes are 0 to 2, "
    ):
        dataset[0]
    assert SegmentationDataset(*folders)[0]["mask"].max() == 3
    dataset = SegmentationDataset(*folders, num_classes=4, ignore_index=None)
    with pytest.raises(
        DataError, match=r"dog.1\.png: it has the value 255, but classes are 0 to 3;"
    ):
        dataset[2]


def test_turned_pictures_meet_their_masks(
    folders: tuple[Path, Path], put: Put, numbers: NDArray[np.uint8]
) -> None:
    put("images/cat/1.jpg", orientation=6)
    put("masks/cat/2.png", numbers, orientation=8)
    dataset = SegmentationDataset(*folders)
    for index in (0, 1):
        assert np.array_equal(dataset[index]["mask"], numbers)
        assert dataset[index]["image"].shape == (3, 100, 150)
    put("masks/cat/1.png", numbers.T)
    with pytest.raises(
        DataError,
        match=r"masks.cat.1\.png: it has 100×150 pixels, but its picture .*cat.1\.jpg 150×100"
        "; turn one of them",
    ):
        dataset[0]


def test_files_without_a_counterpart_are_refused(folders: tuple[Path, Path], put: Put) -> None:
    put("images/dog/3.png")
    put("masks/bird/1.png")
    (folders[0] / "dog" / ".DS_Store").touch()
    (folders[1] / "readme.txt").touch()
    with pytest.raises(DataError) as caught:
        SegmentationDataset(*folders)
    missing = folders[1] / "dog" / "3.png"
    assert str(caught.value) == (
        f"{folders[0] / 'dog' / '3.png'}: it has no mask; add {missing}, or remove this, or give "
        "skip_unpaired=True (1 more such files; 'zoo data check' lists all)"
    )
    assert len(SegmentationDataset(*folders, skip_unpaired=True)) == 4


@pytest.mark.parametrize("where", ["images", "masks"])
def test_two_files_of_one_name_are_refused(
    where: str, folders: tuple[Path, Path], put: Put
) -> None:
    put(f"{where}/cat/1.tif")
    for skip in (False, True):
        with pytest.raises(
            DataError, match=r"beside it is called the same but for the suffix; keep"
        ):
            SegmentationDataset(*folders, skip_unpaired=skip)


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, put: Put) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        InputError, match=r"there are no pictures with masks in .*images and .*masks;"
    ):
        SegmentationDataset(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(InputError, match=r"gone: there is no such folder$"):
        SegmentationDataset(tmp_path / "images", tmp_path / "gone")
    put("images/1.png")
    with pytest.raises(InputError, match="images: pictures and masks need a folder each"):
        SegmentationDataset(tmp_path / "images", tmp_path / "images")


def test_transforms_of_torchvision_take_both(folders: tuple[Path, Path]) -> None:
    seen: list[bool] = []

    def watch(image: object, mask: object) -> tuple[object, object]:
        seen.extend([isinstance(image, Image.Image), type(mask) is tv_tensors.Mask])
        return image, mask

    steps = v2.Compose([v2.Resize((20, 30)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    dataset = SegmentationDataset(*folders, transform=lambda *pair: steps(*watch(*pair)))
    image, mask = dataset[0]
    assert seen == [True, True]
    assert (type(image), type(mask)) == (torch.Tensor, torch.Tensor)
    assert (image.shape, mask.shape, mask.dtype) == ((3, 20, 30), (20, 30), torch.int64)


@pytest.mark.parametrize(
    ("transform", "problem"),
    [
        (lambda image, mask: image, "the transform must give a picture and a mask, not .*Image"),
        (lambda image, mask: (image, "x"), "the transform must give the mask as a tensor, not str"),
        (
            lambda image, mask: (image.resize((15, 10)), mask),
            r"gave a picture \[3, 10, 15\], but a mask \[100, 150\]",
        ),
    ],
)
def test_transforms_that_do_not_fit_are_named(
    transform: object, problem: str, folders: tuple[Path, Path]
) -> None:
    dataset = SegmentationDataset(*folders, transform=transform)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"cat.1\.jpg: .*{problem}"):
        dataset[0]


def test_both_tasks(folders: tuple[Path, Path], numbers: NDArray[np.uint8]) -> None:
    dataset = MultitaskDataset(
        *folders, transform=Transforms((100, 150)), class_names=("a", "b", "c", "d")
    )
    assert dataset.labels == {
        "classification": ("cat", "dog"),
        "segmentation": ("a", "b", "c", "d"),
    }
    assert (dataset.num_classes, dataset.num_classes_segmentation) == (2, 4)
    assert dataset.class_to_idx == {"cat": 0, "dog": 1}
    assert (len(dataset), dataset.targets) == (4, [0, 0, 1, 1])
    image, label, mask = dataset[3]
    assert (image.shape, int(label)) == ((3, 100, 150), 1)
    assert np.array_equal(mask, numbers)
    told = MultitaskDataset(*folders, classes=("dog", "bird", "cat"))
    assert told.targets == [2, 2, 0, 0]
    assert told.labels == {"classification": ("dog", "bird", "cat")}
    with pytest.raises(InputError, match="there is a class 'cat', which is not one of classes"):
        MultitaskDataset(*folders, classes=("dog", "bird"))


def test_both_tasks_need_folders_of_classes(folders: tuple[Path, Path], put: Put) -> None:
    put("images/1.png")
    put("masks/1.png", np.zeros((100, 150), np.uint8))
    with pytest.raises(
        InputError, match=r"images.1\.png: it is in no class's folder; move it into"
    ):
        MultitaskDataset(*folders)
