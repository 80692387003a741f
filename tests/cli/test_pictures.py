"""Reading pictures, and preparing them as timm does."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from skimage import data

from zoo_core.errors import InputError
from zoo_core.manifest import Preprocessing
from zoo_core.pictures import paint, prepare, prepare_whole, read_picture

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "astronaut"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop", "interpolation"),
    [
        ((224, 224), 0.875, "bicubic"),
        ((224, 224), 0.95, "bilinear"),
        ((288, 288), 1.0, "bicubic"),
        ((600, 600), 0.9, "bilinear"),
        ((256, 192), 0.875, "bicubic"),
        ((97, 131), 0.95, "bilinear"),
    ],
)
def test_a_photograph_is_prepared_as_timm_does(
    name: str, size: tuple[int, int], crop: float, interpolation: str, crop_mode: str
) -> None:
    photo = Image.fromarray(getattr(data, name)())
    config: dict[str, Any] = {
        "mean": MEAN,
        "std": STD,
        "interpolation": interpolation,
        "crop_pct": crop,
        "crop_mode": crop_mode,
    }
    theirs = timm.data.create_transform(input_size=(3, *size), is_training=False, **config)(photo)
    ours = prepare(
        photo,
        Preprocessing(
            size=size,
            crop=crop,
            crop_mode=crop_mode,
            interpolation=interpolation,
            mean=MEAN,
            std=STD,
        ),
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(600, 900, 235), (480, 640, 235), (300, 400, 224), (1080, 1920, 256), (333, 444, 248)],
)
def test_sizes_are_rounded_as_timm_rounds_them(height: int, width: int, side: int) -> None:
    """The pixel that floating point adds or takes would move the centre that is cut out."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    transform = timm.data.create_transform(
        input_size=(3, side, side), crop_pct=1.0, mean=MEAN, std=STD, interpolation="bilinear"
    )
    square = Preprocessing(
        size=(side, side), crop=1.0, interpolation="bilinear", mean=MEAN, std=STD
    )
    torch.testing.assert_close(prepare(picture, square), transform(picture), rtol=0, atol=1e-6)


def test_segmentation_sees_all_of_the_picture(cat: Image.Image) -> None:
    whole = prepare_whole(cat, Preprocessing(size=(64, 96), crop=0.875))
    assert whole.shape[1] >= 64
    assert whole.shape[2] >= 96
    assert whole.shape[2] / whole.shape[1] == pytest.approx(cat.width / cat.height, rel=0.02)


def test_a_picture_that_would_become_huge_is_refused() -> None:
    thread = Image.new("RGB", (1, 5000))
    with pytest.raises(InputError, match="a picture of 1×5000 pixels is too narrow; one side may"):
        prepare_whole(thread, Preprocessing(size=(224, 224)))
    assert prepare_whole(Image.new("RGB", (1, 50)), Preprocessing(size=(8, 8))).shape == (3, 400, 8)


def array(path: Path, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.asarray(read_picture(path, channels))


@pytest.mark.parametrize("name", ["rgb.png", "rgba.png", "lossless.webp", "plain.TIF", "plain.bmp"])
def test_lossless_forms_give_the_picture(
    name: str, forms: dict[str, Path], cat: Image.Image
) -> None:
    assert np.array_equal(array(forms[name]), np.asarray(cat))


@pytest.mark.parametrize("name", ["palette.png", "still.gif", "cmyk.jpg"])
def test_lossy_forms_give_nearly_the_picture(
    name: str, forms: dict[str, Path], cat: Image.Image
) -> None:
    assert abs(array(forms[name]).astype(int) - np.asarray(cat)).mean() < 12


@pytest.mark.parametrize("name", ["grey.png", "sixteen.png"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_of_eight_and_sixteen_bits(
    name: str, channels: int, forms: dict[str, Path], cat: Image.Image
) -> None:
    expected = np.asarray(cat.convert("L"))
    given = array(forms[name], channels)
    assert given.shape == ((300, 451) if channels == 1 else (300, 451, 3))
    assert np.array_equal(given, expected if channels == 1 else np.dstack([expected] * 3))


def test_black_and_white(forms: dict[str, Path]) -> None:
    assert set(np.unique(array(forms["bits.png"]))) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_shown_upright(orientation: int, tmp_path: Path, cat: Image.Image) -> None:
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = cat.transpose(turned[orientation]) if orientation in turned else cat
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(array(tmp_path / "turned.png"), np.asarray(cat))


def bomb(path: Path, side: int) -> Path:
    """Write a whole and valid PNG of many black pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (side + 7) // 8) * side))
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize("side", [10_000, 20_000])  # where Pillow warns, and where it refuses
def test_decompression_bombs_are_refused(side: int, tmp_path: Path) -> None:
    file = bomb(tmp_path / "bomb.png", side)
    assert file.stat().st_size < 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as on the command line
        with pytest.raises(InputError, match=rf"bomb.png: .*{side**2} pixels\) exceeds limit"):
            read_picture(file)
    assert read_picture(bomb(tmp_path / "large.png", 3000)).size == (3000, 3000)


def test_numbers_without_a_scale_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "depth.tiff"
    Image.fromarray(np.random.default_rng(0).random((8, 8), np.float32)).save(file)
    with pytest.raises(
        InputError, match=r"depth.tiff: .* floating-point and 32-bit values have no agreed"
    ):
        read_picture(file)


@pytest.mark.parametrize("name", ["rgb.png", "cmyk.jpg", "still.gif", "lossless.webp", "plain.TIF"])
def test_damaged_files_are_read_or_refused(
    name: str, forms: dict[str, Path], tmp_path: Path
) -> None:
    """Whatever is in a file, nothing but an ``InputError`` of one line comes of it."""
    whole = forms[name].read_bytes()
    random = np.random.default_rng(0)
    file = tmp_path / name
    problems = []
    for number in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 400 if number % 2 else len(whole)), 3):
            damaged[at] = random.integers(256)
        kept = len(whole) if number % 3 else int(random.integers(len(whole)))
        file.write_bytes(damaged[:kept])
        problems += problems_of(file)
    assert len(problems) > 5
    assert all(problem.startswith(f"{file}: ") for problem in problems)
    assert not any("\n" in problem for problem in problems)


def problems_of(file: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_picture(file)
        except InputError as error:
            return [str(error)]
    return []


def test_painting_keeps_the_picture_under_the_colours(cat: Image.Image) -> None:
    mask = np.zeros((cat.height, cat.width), np.int32)
    mask[:, 200:] = 3
    painted = np.asarray(paint(cat, mask, opacity=0.25)).astype(int)
    assert painted.shape == (300, 451, 3)
    faded = np.asarray(cat) * 0.75
    assert abs(painted[:, :200] - faded[:, :200]).max() <= 1
    colour = painted[:, 200:] - faded[:, 200:]
    assert np.ptp(colour, axis=(0, 1)).max() <= 2
    assert colour.mean() > 20
