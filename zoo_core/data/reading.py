"""Pictures as their files have them: upright, grey or RGB, 8 bits. Nothing here needs torch."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo_core.data.errors import DataError
from zoo_core.errors import InputError

# By content, whatever a file is called: Pillow would hand a PostScript file to Ghostscript.
FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

MODES: Final = {1: "L", 3: "RGB"}
"""Pillow's mode for pictures of so many channels."""

AGAIN: Final = "fetch or save it again, or remove it"

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ScaleError(ValueError):
    """Nobody knows which value of a picture is white."""


def check_channels(channels: object) -> None:
    """Check that pictures can have so many channels.

    Raises:
        InputError: If they cannot.
    """
    if channels not in MODES:
        raise InputError(f"channels must be 3 (RGB) or 1 (grey), not {channels!r}")


def read_picture(file: str | Path, channels: int = 3) -> Image.Image:
    """Read a picture upright, in grey for one channel and in RGB for three.

    16-bit grey is scaled to 8 bits, transparency is dropped, and of several frames the first is
    taken.

    Raises:
        DataError: If the file is no picture, is damaged, or has too many pixels.
    """
    with opened(file) as picture:
        return to_channels(upright(picture), channels)


@contextmanager
def opened(file: str | Path) -> Iterator[Image.Image]:
    """Open a picture; whatever cannot be read of it within is a :class:`DataError`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata, mostly; what matters is an error
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            _check_ordinary(Path(file))
            with Image.open(file, formats=FORMATS) as picture:
                yield picture
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            problem = (
                f"it has more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are safe to read"
            )
            raise DataError(file, problem, "make it smaller") from error
        except UnidentifiedImageError as error:
            names = ", ".join(FORMATS[:-1])
            mend = f"save it as one of {names} or {FORMATS[-1]}, or remove it"
            raise DataError(file, "it is no picture that can be read", mend) from error
        except PermissionError as error:
            raise DataError(file, "it may not be read", "give yourself the right to") from error
        except ScaleError as error:
            raise DataError(file, f"its {error}", "save it with 8 or 16 bits") from error
        except Exception as error:  # Decoders raise what they like.
            text = " ".join(str(error).split()) or type(error).__name__
            raise DataError(file, f"it cannot be read: {text}", AGAIN) from error


def _check_ordinary(path: Path) -> None:
    """Check that there is something to read; opening a pipe may wait for ever."""
    try:
        about = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DataError(path, "it is a link to nothing", "mend or remove the link") from error
        raise DataError(path, "there is no such file", "make the data set anew") from error
    if not stat.S_ISREG(about.st_mode):
        raise DataError(path, "it is no ordinary file", "remove it")
    if about.st_size == 0:
        raise DataError(path, "it is empty", AGAIN)


def orientation(picture: Image.Image) -> int:
    """Give the EXIF orientation, 1 (upright) to 8; 1 where there is none or it makes no sense."""
    with suppress(Exception):  # Damaged metadata do not make a picture unreadable.
        found = picture.getexif().get(_ORIENTATION, 1)
        return found if found in _TURNS else 1
    return 1


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says."""
    picture.load()  # which turns TIFFs, and says so in their metadata
    turn = _TURNS.get(orientation(picture))
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    for key in ("exif", "xmp", "XML:com.adobe.xmp"):
        turned.info.pop(key, None)  # so that nobody turns it again
    return turned


def to_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Give a picture in grey or RGB, and itself if it is so already.

    Raises:
        ScaleError: If nobody knows which of its values is white.
    """
    if picture.mode in ("F", "I"):
        raise ScaleError("floating-point and 32-bit values have no agreed scale")
    if picture.mode.startswith("I;16"):
        eight = np.rint(np.asarray(picture).astype(np.float32) / 257)
        picture = Image.fromarray(eight.astype(np.uint8))
    mode = MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)
