"""Masks are read as class numbers, whatever bits and palette they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zoo_core.data.masks import Rules, check_sizes, read_mask
from zoo_core.errors import InputError

Put = Callable[..., Path]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif"])
def test_grey_values_are_the_classes(name: str, put: Put, numbers: NDArray[np.uint8]) -> None:
    mask = read_mask(put(name, numbers))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, numbers)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_a_palette_are_the_classes(bits: int, put: Put) -> None:
    """The colours say nothing: they are those of PASCAL VOC, or any others."""
    numbers = (np.arange(240).reshape(12, 20) % 2**bits).astype(np.uint8)
    picture = Image.fromarray(numbers)
    picture.putpalette([128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128] * 64)
    assert picture.mode == "P"
    assert np.array_equal(read_mask(put("a.png", picture, bits=bits)), numbers)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_not_stretched(bits: int, put: Put) -> None:
    """Pillow would give 0, 85, 170 and 255 for the classes 0 to 3 in two bits."""
    numbers = (np.arange(240).reshape(12, 20) % 2**bits).astype(np.uint8)
    file = put("a.png", numbers, bits=bits)
    assert np.asarray(Image.open(file)).max() == 255
    assert np.array_equal(read_mask(file), numbers)


def test_one_bit_is_two_classes(put: Put, numbers: NDArray[np.uint8]) -> None:
    for name in ("a.png", "a.tif", "a.bmp"):
        mask = read_mask(put(name, numbers > 1))
        assert (mask.dtype, np.array_equal(mask, numbers > 1)) == (np.uint8, True)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_many_classes(kind: type[np.generic], put: Put) -> None:
    numbers = np.arange(40000).reshape(200, 200).astype(kind)
    for name in ("a.tif", *(["a.png"] if kind is np.uint16 else [])):
        mask = read_mask(put(name, numbers))
        assert (mask.dtype, np.array_equal(mask, numbers)) == (np.int32, True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_they_say(
    orientation: int, put: Put, numbers: NDArray[np.uint8]
) -> None:
    assert np.array_equal(read_mask(put("a.png", numbers, orientation)), numbers)


@pytest.mark.parametrize(
    ("name", "mode", "problem"),
    [
        ("a.png", "RGB", "it has colours (RGB), not class numbers; "),
        ("a.png", "RGBA", "it has colours (RGBA), not class numbers; "),
        ("a.png", "LA", "it has colours (LA), not class numbers; "),
        ("a.jpg", "L", "it is a JPEG file, which does not keep class numbers exactly; "),
        ("a.webp", "RGB", "it is a WEBP file, which does not keep class numbers exactly; "),
        ("a.pgm", "L", "it is a PPM file, which does not keep class numbers exactly; "),
    ],
)
def test_what_is_no_mask_is_refused(
    name: str, mode: str, problem: str, put: Put, cat: Image.Image
) -> None:
    file = put(name, cat.convert(mode))
    with pytest.raises(InputError) as caught:
        read_mask(file)
    expected = f"{file}: {problem}save the class numbers as a grey or palette PNG"
    assert str(caught.value) == expected


def test_wrong_numbers_are_named() -> None:
    rules = Rules(4)
    mask = np.array([[0, 3], [255, 255]], np.uint8)
    rules.check("m.png", mask)
    Rules(None).check("m.png", mask)
    Rules(256, None).check("m.png", mask)
    Rules(3, 3).check("m.png", np.array([[0, 3]], np.uint8))
    with pytest.raises(InputError) as caught:
        rules.check("m.png", np.array([[0, 9, 4, 255, 9]], np.uint8))
    assert str(caught.value) == (
        "m.png: it has the values 4, 9, but classes are 0 to 3, and 255 is ignored; correct it, or "
        "the number of classes"
    )
    with pytest.raises(InputError, match="has the value 255, but classes are 0 to 3; correct"):
        Rules(4, None).check("m.png", mask)
    with pytest.raises(InputError, match="has the value -1, but classes"):
        rules.check("m.png", np.array([[-1, 3]], np.int32))
    with pytest.raises(InputError, match="values 4, 5, 6, 7, 8, …, but"):
        rules.check("m.png", np.arange(200, dtype=np.uint8)[None])
    with pytest.raises(InputError, match="ignore_index must be a whole number or None, not 'x'"):
        Rules(4, "x")  # type: ignore[arg-type]


def test_sizes_that_differ_name_both_files() -> None:
    check_sizes("i.jpg", (3, 4), "m.png", (3, 4))
    with pytest.raises(InputError) as caught:
        check_sizes("i.jpg", (30, 40), "m.png", (15, 20))
    assert str(caught.value) == (
        "m.png: it has 15×20 pixels, but its picture i.jpg 30×40; make it anew for this picture, "
        "or resize it with nearest neighbours"
    )
    with pytest.raises(InputError, match="; turn one of them: pictures are shown as their EXIF"):
        check_sizes("i.jpg", (30, 40), "m.png", (40, 30))
