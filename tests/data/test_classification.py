"""Folders of classes: the same samples as torchvision's, and one clear error for each mishap."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from zoo_core.data import ClassificationDataset, DataError, Transforms
from zoo_core.errors import InputError

Put = Callable[..., Path]


def test_samples_are_those_of_image_folder(classes: Path, put: Put, cat: Image.Image) -> None:
    put("classes/train/dog/deeper/4.png", cat.rotate(5))
    put("classes/train/dog/deeper-5.JPG", cat.rotate(10))
    put("classes/train/Zebra/1.png", cat.rotate(15))
    put("classes/train/äsel/1.png", cat.rotate(20))
    steps = [
        v2.ToImage(),
        v2.Resize((40, 50), antialias=True),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    theirs = ImageFolder(str(classes / "train"), v2.Compose(steps))
    ours = ClassificationDataset(classes, "train", Transforms((40, 50)))
    assert ours.classes == tuple(theirs.classes) == ("Zebra", "cat", "dog", "äsel")
    assert ours.class_to_idx == theirs.class_to_idx
    assert list(zip(ours.files, ours.targets, strict=True)) == theirs.samples
    assert ours.num_classes == 4
    assert ours.labels == {"classification": ours.classes}
    assert len(ours) == len(theirs) == 10
    for (image, label), (expected, target) in zip(
        map(tuple, map(ours.__getitem__, range(10))), theirs, strict=True
    ):
        assert int(label) == target
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)


def test_without_a_transform_pictures_stay_as_they_are(classes: Path, cat: Image.Image) -> None:
    sample = ClassificationDataset(classes / "train")[2]
    image, label = sample
    assert label.dtype == torch.int64
    expected = np.asarray(cat.crop((20, 0, 82, 90))) / 255
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.permute(1, 2, 0), expected, atol=1e-6)


def test_grey_is_one_channel(classes: Path) -> None:
    dataset = ClassificationDataset(classes, "val", Transforms(24), channels=1)
    assert dataset[0]["image"].shape == (1, 24, 24)


def test_any_transform_that_gives_a_tensor_will_do(classes: Path) -> None:
    dataset = ClassificationDataset(classes, "val", v2.Compose([v2.Resize((9, 8)), v2.ToImage()]))
    image = dataset[-1]["image"]
    assert type(image) is torch.Tensor
    assert (image.dtype, image.shape) == (torch.uint8, (3, 9, 8))
    dataset.transform = v2.Resize((9, 8))  # a picture of Pillow's
    assert (dataset[-1]["image"] * 255 - image).abs().max() <= 1  # as Pillow rounds
    dataset.transform = np.asarray
    with pytest.raises(
        InputError, match=r"val.dog.2.png: the transform must give a tensor, not nd"
    ):
        dataset[-1]


def test_samples_are_counted_as_in_a_list(classes: Path) -> None:
    dataset = ClassificationDataset(classes, "val", Transforms(8))
    assert torch.equal(dataset[-6]["image"], dataset[0]["image"])
    assert torch.equal(dataset[torch.tensor(3)]["image"], dataset[3]["image"])  # type: ignore[index]
    for index in (6, -7):
        with pytest.raises(IndexError):
            dataset[index]


def test_the_split_is_a_folder_where_there_is_one(classes: Path) -> None:
    expected = ClassificationDataset(classes / "train").files
    assert ClassificationDataset(classes, "train").files == expected
    assert ClassificationDataset(str(classes / "train"), split="train").files == expected
    shutil.copytree(classes / "train", classes.parent / "plain")
    assert len(ClassificationDataset(classes.parent / "plain", split="train")) == 6


def test_a_class_may_be_called_as_a_split(put: Put, tmp_path: Path) -> None:
    for name in ("bus", "train", "car"):
        put(f"vehicles/{name}/1.png")
    for split in (None, "train"):
        dataset = ClassificationDataset(tmp_path / "vehicles", split)
        assert dataset.classes == ("bus", "car", "train")


def test_a_wrong_or_missing_split_is_an_error(classes: Path) -> None:
    with pytest.raises(InputError, match=r"classes has no split 'test'; it has train, val$"):
        ClassificationDataset(classes, "test")
    with pytest.raises(InputError, match=r"train is the split 'train', and has no 'val' in it$"):
        ClassificationDataset(classes / "train", "val")
    with pytest.raises(InputError, match=r"holds the splits train, val, not classes: give split="):
        ClassificationDataset(classes)


def test_what_is_no_picture_is_left_out(classes: Path, put: Put) -> None:
    expected = ClassificationDataset(classes, "val").files
    for name in (".DS_Store", "notes.txt", "Thumbs.db", "picture", ".hidden.png"):
        (classes / "val" / "cat" / name).write_bytes(b"x")
        (classes / "val" / name).write_bytes(b"x")
    for name in (".cache", "__MACOSX"):
        put(f"classes/val/{name}/1.png")
        put(f"classes/val/cat/{name}/1.png")
    (classes / "val" / "cat" / "folder.png").mkdir()
    dataset = ClassificationDataset(classes, "val")
    assert dataset.files == expected
    assert dataset.classes == ("cat", "dog")


def test_links_are_followed_and_loops_are_not(classes: Path) -> None:
    val, elsewhere = classes / "val", classes.parent / "elsewhere"
    shutil.move(val / "dog", elsewhere)
    (val / "dog").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(val)
    (elsewhere / "same.png").symlink_to(elsewhere / "0.png")
    dataset = ClassificationDataset(val)
    assert dataset.classes == ("cat", "dog")
    assert sorted(Path(file).name for file in dataset.files if "/dog/" in file)[:4] == [
        "0.png", "0.png", "1.png", "1.png"
    ]  # fmt: skip  # of dog, and of up/cat
    assert len(dataset) == 3 + 4 + 3


def test_a_link_to_nothing_is_found_when_it_is_read(classes: Path) -> None:
    (classes / "val" / "cat" / "9.png").symlink_to(classes / "nothing.png")
    dataset = ClassificationDataset(classes, "val", Transforms(8))
    assert len(dataset) == 7
    with pytest.raises(
        DataError, match=r"9\.png: it is a link to nothing; mend or remove the link"
    ):
        dataset[3]


def test_classes_can_be_told(classes: Path, put: Put) -> None:
    put("classes/train/bird/1.png")
    train = ClassificationDataset(classes, "train")
    assert ClassificationDataset(classes, "val").class_to_idx["dog"] == 1
    val = ClassificationDataset(classes, "val", classes=train.classes)
    assert val.classes == ("bird", "cat", "dog")
    assert set(val.targets) == {1, 2}
    with pytest.raises(InputError, match="has the class 'bird', which is not one of classes"):
        ClassificationDataset(classes, "train", classes=("dog", "cat"))
    assert ClassificationDataset(classes, "val", classes=("dog", "cat")).targets[0] == 0
    for wrong in ((), ("cat", "cat", "dog"), "cat", (1, 2)):
        with pytest.raises(InputError, match="classes must be different names, at least one, not"):
            ClassificationDataset(classes, "val", classes=wrong)  # type: ignore[arg-type]


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, put: Put) -> None:
    with pytest.raises(InputError, match=r"nowhere: there is no such folder$"):
        ClassificationDataset(tmp_path / "nowhere")
    with pytest.raises(
        InputError, match=r": there are no pictures in folders of classes, such as "
    ):
        ClassificationDataset(tmp_path)
    put("loose.png")
    (tmp_path / "cat").mkdir()
    with pytest.raises(
        InputError, match=r": there are no pictures in folders of classes, such as "
    ):
        ClassificationDataset(tmp_path)
    put("dog/1.png")
    with pytest.raises(DataError) as caught:
        ClassificationDataset(tmp_path)
    assert caught.value.file == str(tmp_path / "cat")
    assert caught.value.problem == "the class has no pictures"
    assert str(caught.value).endswith("remove the folder, or name all classes with classes=")
    with pytest.raises(InputError, match=r"channels must be 3 \(RGB\) or 1 \(grey\), not 4"):
        ClassificationDataset(tmp_path, channels=4)
