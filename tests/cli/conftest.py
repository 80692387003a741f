"""Running the command line, in children and in this process, and reading what it prints."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from skimage import data

Finished = subprocess.CompletedProcess[str]
Zoo = Callable[..., Finished]
Invoke = Callable[..., Result]
Table = list[list[str]]

COMMAND = Path(sys.executable).parent / "zoo"


def _environment(changes: dict[str, str]) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    one_thread = {"OMP_NUM_THREADS": "1"}  # children of several workers share the cores
    return plain | one_thread | changes


@pytest.fixture(scope="session")
def zoo() -> Zoo:
    """Run the installed command in a child whose output is a pipe."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Finished:
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            env=_environment(environment),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def zoo_on_terminal() -> Callable[..., str]:
    """Run the installed command under a pseudo-terminal of some width; give what it shows."""

    def run(*arguments: object, columns: int = 200, **environment: str) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        command = [str(COMMAND), *map(str, arguments)]
        settings = _environment(environment)
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=settings) as child:
            os.close(theirs)
            shown = b""
            while block := _read(ours):
                shown += block
        os.close(ours)
        assert child.returncode == 0
        return shown.decode().replace("\r\n", "\n")

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process, which has torch already: for all but what only a child shows.

    It must exit with ``code``.
    """
    from zoo_core.cli import cli

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def invoke_json(invoke: Invoke) -> Callable[..., Any]:
    """Run a command in this process with ``--json``; give what it prints."""

    def run(*arguments: object, code: int = 0) -> Any:
        return json.loads(invoke(*arguments, "--json", code=code).stdout)

    return run


@pytest.fixture(scope="session")
def table() -> Callable[[str], Table]:
    """Read the table that a text begins with: the cells of each row, the header's first."""

    def read(text: str) -> Table:
        lines = text.partition("\n\n")[0].splitlines()
        return [re.split(r"\s{2,}", line.strip()) for line in lines]

    return read


@pytest.fixture(scope="session")
def one_error() -> Callable[..., str]:
    """Check that a child refused in one line, with nothing on stdout; give that line."""

    def check(finished: Finished, code: int = 2) -> str:
        assert finished.returncode == code, finished
        assert finished.stdout == ""
        (line,) = finished.stderr.splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")

    return check


@pytest.fixture(scope="session")
def usage_error() -> Callable[[Finished], str]:
    """Check that a child showed the usage and one error; give the error."""

    def check(finished: Finished) -> str:
        assert finished.returncode == 2, finished
        assert finished.stdout == ""
        usage, hint, empty, error = finished.stderr.splitlines()
        assert usage.startswith("Usage: zoo ")
        assert hint.endswith("--help' for help.")
        assert empty == ""
        assert error.startswith("Error: ")
        return error.removeprefix("Error: ")

    return check


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    """scikit-image's photograph of a cat, 451 × 300."""
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory, cat: Image.Image) -> dict[str, Path]:
    """The cat in every form that a picture file may have."""
    folder = tmp_path_factory.mktemp("forms")
    grey = np.asarray(cat.convert("L"))
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be shown turned by 90° clockwise
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (cat, {}),
        "grey.png": (cat.convert("L"), {}),
        "rgba.png": (cat.convert("RGBA"), {}),
        "palette.png": (cat.quantize(), {}),
        "bits.png": (cat.convert("1"), {}),
        "sixteen.png": (Image.fromarray(grey.astype(np.uint16) * 257), {}),
        "cmyk.jpg": (cat.convert("CMYK"), {"quality": 95}),
        "rotated.png": (cat.transpose(Image.Transpose.ROTATE_90), {"exif": sideways}),
        "still.gif": (cat, {}),
        "lossless.webp": (cat, {"lossless": True}),
        "plain.TIF": (cat, {}),
        "plain.bmp": (cat, {}),
    }
    paths = {}
    for name, (picture, options) in saved.items():
        paths[name] = folder / name
        picture.save(paths[name], **options)
    return paths
