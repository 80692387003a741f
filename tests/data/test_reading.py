"""Pictures of every kind are read as they are seen, or refused in one line that says what to do."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo_core.data.reading import read_picture
from zoo_core.errors import InputError
from zoo_core.pictures import read_picture as read_for_prediction

Put = Callable[..., Path]


def array(path: Path, channels: int = 3) -> np.ndarray[Any, Any]:
    return np.asarray(read_picture(path, channels)).astype(int)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.PNG", {}),
        ("a.bmp", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
    ],
)
def test_lossless_files_give_the_picture(
    name: str, options: dict[str, Any], put: Put, cat: Image.Image
) -> None:
    assert np.array_equal(array(put(name, **options)), np.asarray(cat))


@pytest.mark.parametrize(
    ("name", "mode", "off_by"),
    [
        ("a.jpg", "RGB", 2),
        ("a.jpeg", "CMYK", 2),
        ("a.tiff", "CMYK", 1),
        ("a.gif", "P", 8),
        ("a.png", "P", 8),
        ("a.jpg", "YCbCr", 2),
    ],
)
def test_other_colours_become_rgb(
    name: str, mode: str, off_by: float, put: Put, cat: Image.Image
) -> None:
    picture = cat.quantize(256) if mode == "P" else cat.convert(mode)
    assert abs(array(put(name, picture, quality=98)) - np.asarray(cat)).mean() < off_by


def test_transparency_is_dropped(put: Put, cat: Image.Image) -> None:
    clear = cat.copy()
    clear.putalpha(cat.convert("L"))
    assert np.array_equal(array(put("rgba.png", clear)), np.asarray(cat))
    palette = cat.quantize(64)
    file = put("palette.png", palette, transparency=bytes(range(64)))
    assert np.array_equal(array(file), np.asarray(palette.convert("RGB")))
    grey = cat.convert("LA")
    assert np.array_equal(array(put("la.png", grey), 1), np.asarray(cat.convert("L")))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled(channels: int, put: Put) -> None:
    """Every value comes out as near to its share of white as 8 bits allow."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for name in ("a.png", "a.tif"):
        given = array(put(name, values), channels)
        assert abs(given.reshape(256, 256, -1) / 255 - values[..., None] / 65535).max() <= 0.5 / 255
        assert given.shape[2:] == (() if channels == 1 else (3,))


def test_big_endian_sixteen_bits(put: Put, tmp_path: Path) -> None:
    values = np.arange(256, dtype=">u2").reshape(16, 16) * np.uint16(257)
    head = struct.pack(">2sHIH", b"MM", 42, 8, 8)
    entries = [(256, 3, 16), (257, 3, 16), (258, 3, 16), (259, 3, 1), (262, 3, 1),
               (273, 4, 8 + 2 + 8 * 12 + 4), (278, 3, 16), (279, 4, 512)]  # fmt: skip
    listed = b"".join(
        struct.pack(">HHIHH", tag, kind, 1, value, 0)
        if kind == 3
        else struct.pack(">HHII", tag, kind, 1, value)
        for tag, kind, value in entries
    )
    file = tmp_path / "big.tif"
    file.write_bytes(head + listed + bytes(4) + values.astype(">u2").tobytes())
    assert np.array_equal(array(file, 1), np.arange(256).reshape(16, 16))


def test_few_bits(put: Put, cat: Image.Image) -> None:
    assert set(np.unique(array(put("one.png", cat.convert("1"))))) == {0, 255}
    steps = np.tile(np.arange(16, dtype=np.uint8), (4, 1))
    assert np.array_equal(array(put("four.png", steps, bits=4), 1), steps * 17)


def test_grey_and_colour_as_many_channels_as_asked(put: Put, cat: Image.Image) -> None:
    grey = np.asarray(cat.convert("L"))
    assert np.array_equal(array(put("rgb.png"), 1), grey)
    assert np.array_equal(array(put("grey.png", cat.convert("L"))), np.dstack([grey] * 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_pictures_are_turned_upright(
    name: str, orientation: int, put: Put, cat: Image.Image
) -> None:
    file = put(name, orientation=orientation, **({"lossless": True} if "webp" in name else {}))
    assert np.array_equal(array(file), np.asarray(cat))
    assert read_picture(file).getexif().get(0x0112, 1) == 1


def test_jpegs_are_turned_upright(put: Put, cat: Image.Image) -> None:
    assert abs(array(put("a.jpg", orientation=6, quality=98)) - np.asarray(cat)).mean() < 2


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_damaged_exif_does_no_harm(exif: bytes, put: Put, cat: Image.Image) -> None:
    file = put("a.jpg", exif=exif)
    assert np.array_equal(array(file), np.asarray(Image.open(put("b.jpg"))))


def test_an_animation_gives_its_first_frame(put: Put, cat: Image.Image) -> None:
    frames = [cat, cat.transpose(Image.Transpose.ROTATE_180)]
    file = put("a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(array(file), np.asarray(cat))


def test_it_reads_what_prediction_reads(put: Put, cat: Image.Image) -> None:
    files = [
        put("a.jpg", orientation=8),
        put("a.png", cat.convert("RGBA")),
        put("b.png", cat.quantize()),
        put("c.png", np.arange(60000, dtype=np.uint16).reshape(200, 300)),
        put("b.jpg", cat.convert("CMYK")),
        put("c.jpg", cat.convert("L")),
    ]
    for file in files:
        for channels in (1, 3):
            expected = np.asarray(read_for_prediction(file, channels))
            assert np.array_equal(array(file, channels), expected)


def refusal(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as users have it
        with pytest.raises(InputError) as caught:
            read_picture(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_unreadable_files_are_refused(put: Put, tmp_path: Path) -> None:
    whole = put("a.jpg").read_bytes()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    assert refusal(cut).startswith("it cannot be read: image file is truncated")
    assert refusal(cut).endswith("; fetch or save it again, or remove it")

    empty = tmp_path / "empty.png"
    empty.touch()
    assert refusal(empty) == "it is empty; fetch or save it again, or remove it"

    text = tmp_path / "text.png"
    text.write_text("version https://git-lfs.github.com/spec/v1")
    assert refusal(text).startswith("it is no picture that can be read; save it as one of BMP, GIF")

    assert refusal(tmp_path / "gone.png") == "there is no such file; make the data set anew"

    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "gone.png")
    assert refusal(link) == "it is a link to nothing; mend or remove the link"

    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert refusal(pipe) == "it is no ordinary file; remove it"

    program = tmp_path / "program.png"
    program.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    assert "it is no picture that can be read" in refusal(program)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_refused(put: Put) -> None:
    file = put("a.png")
    file.chmod(0)
    assert refusal(file) == "it may not be read; give yourself the right to"


def test_numbers_without_a_scale_are_refused(put: Put) -> None:
    for values in (np.random.default_rng(0).random((8, 8), np.float32), np.eye(8, dtype=np.int32)):
        file = put("depth.tif", values)
        assert refusal(file) == (
            "its floating-point and 32-bit values have no agreed scale; save it with 8 or 16 bits"
        )


@pytest.mark.parametrize("side", [10_000, 20_000])  # where Pillow warns, and where it refuses
def test_decompression_bombs_are_refused(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (side + 7) // 8) * side))
    file = tmp_path / "bomb.png"
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    expected = "it has more than the 89,478,485 pixels that are safe to read; make it smaller"
    assert refusal(file) == expected


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp", "a.tif", "a.bmp", "a.ppm"])
def test_damaged_files_are_read_or_refused(name: str, put: Put) -> None:
    """Whatever is in a file, nothing but an ``InputError`` of one line comes of it."""
    file = put(name)
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    problems = []
    for number in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 400 if number % 2 else len(whole)), 3):
            damaged[at] = random.integers(256)
        file.write_bytes(damaged[: len(whole) if number % 3 else int(random.integers(len(whole)))])
        try:
            read_picture(file)
        except InputError as error:
            problems.append(str(error))
    assert len(problems) > 5
    assert all(problem.startswith(f"{file}: ") for problem in problems)
    assert not any("\n" in problem for problem in problems)


def test_reading_needs_no_torch() -> None:
    code = "import sys, zoo_core.data.checking; print('torch' in sys.modules, 'PIL' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False True\n"
