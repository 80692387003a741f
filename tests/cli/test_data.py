"""``zoo data check``: all that is wrong with a data set, and what is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from zoo_core.data import ClassificationDataset, DataError, SegmentationDataset

Invoke = Callable[..., Result]
InvokeJson = Callable[..., Any]
Table = Callable[[str], list[list[str]]]

AGAIN = "fetch or save it again, or remove it"
COLOURS = np.random.default_rng(0)


def save(
    path: Path, picture: Image.Image | np.ndarray[Any, Any] | None = None, **options: Any
) -> Path:
    """Write a picture, by default one that no other is like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture is None:
        picture = COLOURS.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes in two splits, with nothing wrong."""
    for split, count in (("train", 5), ("val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Six pictures with masks of the classes 0 to 3, with nothing wrong."""
    for number in range(6):
        save(tmp_path / "streets" / "images" / f"{number}.jpg")
        mask = np.full((9, 12), 255, np.uint8)
        mask[2:] = number % 4
        save(tmp_path / "streets" / "masks" / f"{number}.png", mask)
    return tmp_path / "streets"


def problems(found: Any, root: Path) -> dict[str, tuple[str, str]]:
    """Give the problems of each file; no file has two."""
    files = [os.path.relpath(row["file"], root) for row in found["problems"]]
    assert files == sorted(files)
    assert len(set(files)) == len(files)
    rows = zip(files, found["problems"], strict=True)
    return {file: (row["problem"], row["mend"]) for file, row in rows}


def test_a_good_data_set(pets: Path, invoke: Invoke, table: Table) -> None:
    shown = invoke("data", "check", pets).stdout
    assert table(shown) == [["class", "train", "val"], ["cat", "5", "2"], ["dog", "5", "2"]]
    assert table(shown.partition("\n\n")[2]) == [
        ["split", "pictures", "width × height", "modes", "turned", "repeated", "left out"],
        ["train", "10", "12×9", "10 RGB", "0", "0", "–"],
        ["val", "4", "12×9", "4 RGB", "0", "0", "–"],
    ]
    assert shown.endswith("\n\nclassification, 14 pictures: nothing wrong\n")


def test_a_good_data_set_with_masks(streets: Path, invoke: Invoke, table: Table) -> None:
    shown = invoke("data", "check", streets, "--classes", 4).stdout
    assert table(shown) == [
        ["pixels of", "all"],
        ["0", "25.93%"],
        ["1", "25.93%"],
        ["2", "12.96%"],
        ["3", "12.96%"],
        ["255 (ignored)", "22.22%"],
    ]
    assert shown.endswith("\n\nsegmentation, 6 pictures: nothing wrong\n")


def test_everything_that_is_wrong_with_classes(
    pets: Path, invoke: Invoke, invoke_json: InvokeJson
) -> None:
    train = pets / "train"
    cut = save(train / "cat" / "cut.bmp")
    cut.write_bytes(cut.read_bytes()[:-100])
    (train / "cat" / "empty.jpg").touch()
    (train / "cat" / "text.jpg").write_text("no picture")
    (train / "cat" / "photo.HEIC").write_bytes(b"x")
    (train / "cat" / "gone.png").symlink_to(train / "nowhere.png")
    save(train / "cat" / "depth.tif", np.ones((4, 4), np.float32))
    (train / "bird").mkdir()
    save(train / "loose.png")
    shutil.copy(train / "dog" / "1.png", pets / "val" / "dog" / "leak.png")
    Image.open(train / "dog" / "2.png").save(pets / "val" / "cat" / "leak.tif")
    shutil.copy(train / "dog" / "3.png", train / "zebra.png")
    shutil.copy(train / "dog" / "3.png", train / "dog" / "again.png")
    shutil.copy(train / "cat" / "3.png", train / "dog" / "cat.png")
    save(pets / "extra" / "cat" / "1.png")
    for name in ("notes.txt", ".DS_Store", "README"):
        (train / "dog" / name).touch()
    lonely = (
        "it is in no class's folder, so it is left out",
        "move it into one, or away",
    )
    expected = {
        "extra": ("it is in no split, so it is left out", "move it into one, or away"),
        "train/bird": ("the class has no pictures", "put some in, or remove the folder"),
        "train/cat/cut.bmp": (
            "it cannot be read: image file is truncated (8 bytes not processed)",
            AGAIN,
        ),
        "train/cat/depth.tif": (
            "its floating-point and 32-bit values have no agreed scale",
            "save it with 8 or 16 bits",
        ),
        "train/cat/empty.jpg": ("it is empty", AGAIN),
        "train/cat/gone.png": ("it is a link to nothing", "mend or remove the link"),
        "train/cat/photo.HEIC": (
            ".heic files are not read, so it is left out",
            "save it as PNG or JPEG",
        ),
        "train/cat/text.jpg": (
            "it is no picture that can be read",
            "save it as one of BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP, or remove it",
        ),
        "train/dog/cat.png": (
            "another class has the same picture: train/cat/3.png",
            "keep the one that is right",
        ),
        "train/loose.png": lonely,
        "train/zebra.png": lonely,
        "val": (
            "it lacks the class 'bird', which train has",
            "add a folder with pictures of it, or name all classes with classes=",
        ),
        "val/cat/leak.tif": ("train has the same picture: train/dog/2.png", "keep one of them"),
        "val/dog/leak.png": ("train has the same picture: train/dog/1.png", "keep one of them"),
    }
    found = invoke_json("data", "check", pets, code=1)
    assert problems(found, pets) == expected
    train_seen = found["splits"][0]
    assert train_seen["classes"] == {"bird": 0, "cat": 10, "dog": 7}
    assert train_seen["repeated"] == 1
    assert train_seen["left_out"] == {".txt": 1, "": 1}
    shown = invoke("data", "check", pets, code=1).stdout
    assert shown.splitlines()[0].split("  ")[0] == "file"
    assert shown.endswith(f"\nclassification, {17 + 6} pictures: 14 problems\n")
    assert str(pets) not in shown
    assert "1 without suffix, 1 .txt" in shown


def test_everything_that_is_wrong_with_masks(streets: Path, invoke_json: InvokeJson) -> None:
    images, masks = streets / "images", streets / "masks"
    save(images / "lonely.png")
    save(masks / "also.png", np.zeros((9, 12), np.uint8))
    save(masks / "0.png", np.full((9, 12), 7, np.uint8))
    save(masks / "1.png")
    (masks / "2.png").unlink()
    save(masks / "2.jpeg", np.zeros((9, 12), np.uint8))
    save(masks / "3.png", np.zeros((12, 9), np.uint8))
    save(masks / "4.png", np.full((9, 12), 255, np.uint8))
    save(masks / "5.tif", np.zeros((9, 12), np.uint8))
    numbers = "save the class numbers as a grey or palette PNG"
    found = problems(invoke_json("data", "check", streets, "--classes", 4, code=1), streets)
    assert found == {
        "images/lonely.png": ("it has no mask", f"add {masks / 'lonely'}.png, or remove this"),
        "masks/0.png": (
            "it has the value 7, but classes are 0 to 3, and 255 is ignored",
            "correct it, or the number of classes",
        ),
        "masks/1.png": ("it has colours (RGB), not class numbers", numbers),
        "masks/2.jpeg": (
            "it is a JPEG file, which does not keep class numbers exactly",
            numbers,
        ),
        "masks/3.png": (
            f"it has 9×12 pixels, but its picture {images / '3.jpg'} 12×9",
            "turn one of them: pictures are shown as their EXIF orientation says",
        ),
        "masks/4.png": (
            "every pixel is ignored (255)",
            "leave it and its picture out, or correct it",
        ),
        "masks/5.tif": (
            "5.png beside it is called the same but for the suffix",
            "keep one of them",
        ),
        "masks/also.png": (
            "it has no picture",
            f"add {images / 'also'}.png, or remove this",
        ),
    }


def test_one_file_may_have_several_problems(streets: Path, invoke_json: InvokeJson) -> None:
    (streets / "images" / "0.jpg").write_bytes(b"")
    save(streets / "masks" / "0.png", np.full((5, 5), 9, np.uint8))
    save(streets / "masks" / "1.png", np.full((5, 5), 9, np.uint8))
    found = invoke_json("data", "check", streets, "--classes", 4, code=1)["problems"]
    assert [Path(row["file"]).name for row in found] == ["0.jpg", "0.png", "1.png", "1.png"]


def test_data_sets_raise_what_the_check_lists(
    pets: Path, streets: Path, invoke_json: InvokeJson
) -> None:
    (pets / "train" / "dog" / "3.png").write_bytes(b"GIF89a")
    save(streets / "masks" / "2.png", np.full((9, 12), 7, np.uint8))
    save(streets / "masks" / "5.png")
    classes = ClassificationDataset(pets, "train")
    masks = SegmentationDataset(streets / "images", streets / "masks", num_classes=4)
    for dataset, folder in ((classes, pets), (masks, streets)):
        raised = []
        for index in range(len(dataset)):
            try:
                dataset[index]
            except DataError as error:
                raised.append({"file": error.file, "problem": error.problem, "mend": error.mend})
        options = ["--classes", 4] if folder is streets else []
        assert invoke_json("data", "check", folder, *options, code=1)["problems"] == raised
        assert len(raised) == (1 if folder is pets else 2)


@pytest.mark.parametrize("layout", ["split/images", "images/split"])
@pytest.mark.parametrize("nested", [False, True])
def test_splits_with_masks(
    layout: str, nested: bool, tmp_path: Path, invoke_json: InvokeJson
) -> None:
    for split in ("train", "val"):
        for number in range(3):
            for what in ("images", "masks"):
                place = layout.replace("split", split).replace("images", what)
                picture = np.full((9, 12), number, np.uint8) if what == "masks" else None
                inside = f"{'ab'[number % 2]}/" if nested else ""
                save(tmp_path / place / f"{inside}{number}.png", picture)
    found = invoke_json("data", "check", tmp_path)
    assert found["kind"] == ("multitask" if nested else "segmentation")
    assert [split["split"] for split in found["splits"]] == ["train", "val"]
    for split in found["splits"]:
        assert split["pictures"] == 3
        assert split["mask_pixels"] == {"0": 108, "1": 108, "2": 108}
        assert split["classes"] == ({"a": 2, "b": 1} if nested else {})
        assert split["sizes"] == [{"width": 12, "height": 9, "pictures": 3}]
        assert split["modes"] == {"RGB": 3}
    assert problems(invoke_json("data", "check", tmp_path, "--classes", 2, code=1), tmp_path)
    shutil.rmtree(tmp_path / layout.replace("split", "val").replace("images", "masks"))
    [missing] = invoke_json("data", "check", tmp_path, code=1)["problems"]
    assert missing["problem"] == "there is no such folder of masks"


def test_the_number_of_classes(pets: Path, invoke_json: InvokeJson) -> None:
    assert invoke_json("data", "check", pets, "--classes", 2)["problems"] == []
    found = problems(invoke_json("data", "check", pets, "--classes", 3, code=1), pets)
    assert found == {".": ("it has 2 classes, not 3", "correct the folders, or the number")}


def test_masks_that_leave_nothing_to_learn(streets: Path, invoke_json: InvokeJson) -> None:
    for number in range(6):
        mask = np.zeros((9, 12), np.uint8)
        mask[4:] = 255
        save(streets / "masks" / f"{number}.png", mask)
    found = problems(invoke_json("data", "check", streets, code=1), streets)
    assert found == {
        ".": (
            "its masks have the values 0 and 255 only, and 255 is ignored",
            "save what is to be found as 1",
        )
    }
    assert invoke_json("data", "check", streets, "--ignore-index", -1)["problems"] == []


def test_many_strange_numbers_are_not_all_shown(streets: Path, invoke: Invoke) -> None:
    save(streets / "masks" / "0.png", np.arange(108, dtype=np.uint8).reshape(9, 12))
    shown = invoke("data", "check", streets).stdout
    assert "69 more" in shown
    assert len(shown.splitlines()) < 55


def test_turned_pictures_and_modes_are_counted(pets: Path, invoke_json: InvokeJson) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.tif", "a.jpg"):
        save(pets / "val" / "cat" / name, exif=exif)
    save(pets / "val" / "cat" / "b.png", Image.new("P", (20, 4)))
    val = invoke_json("data", "check", pets)["splits"][1]
    assert val["turned_by_exif"] == 2
    assert val["modes"] == {"RGB": 6, "P": 1}
    assert val["sizes"] == [
        {"width": 9, "height": 12, "pictures": 2},
        {"width": 12, "height": 9, "pictures": 4},
        {"width": 20, "height": 4, "pictures": 1},
    ]


def test_several_processes_see_the_same(pets: Path, invoke_json: InvokeJson) -> None:
    for number in range(300):
        file = save(pets / "train" / "cat" / f"more-{number}.png")
        if number % 25 == 0:
            file.write_bytes(file.read_bytes()[:90])
    alone = invoke_json("data", "check", pets, "--workers", 1, code=1)
    assert len(alone["problems"]) == 12
    assert invoke_json("data", "check", pets, "--workers", 2, code=1) == alone


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], ": there is no data set; there should be folders of classes with pictures, or "),
        (["1.png", "2.png"], ": there is no data set; "),
        (["images/1.png"], ": images has no folder masks beside it, where masks belong; and if "),
        (["train/images/1.png"], "train: images has no folder masks beside it"),
    ],
)
def test_what_is_no_data_set_is_one_error(
    files: list[str], problem: str, tmp_path: Path, invoke: Invoke
) -> None:
    for file in files:
        save(tmp_path / file)
    result = invoke("data", "check", tmp_path, code=1)
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert problem in line
    assert result.stdout == ""


def test_a_folder_that_is_not_there(tmp_path: Path, invoke: Invoke) -> None:
    assert "Directory" in invoke("data", "check", tmp_path / "gone", code=2).stderr


def test_it_needs_no_torch(pets: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from zoo_core.cli import cli; "
        "print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules))); "
        "done = CliRunner().invoke(cli, ['data', 'check', '.']); assert done.exit_code == 0, done; "
        "print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=pets, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "['PIL', 'numpy']"]


def test_a_bar_is_shown_on_a_terminal_only(
    pets: Path, zoo: Callable[..., Any], zoo_on_terminal: Callable[..., str]
) -> None:
    assert "100%" in zoo_on_terminal("data", "check", pets)
    finished = zoo("data", "check", pets)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "%" not in finished.stdout
