"""Attacks by pictures."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

from attacks import forge
from attacks.attack import Attack, Mount
from attacks.stage import TIMM, TORCHVISION, ZOO, Stage, Trial

GHOSTSCRIPT: Final = "#!/bin/sh\n: > '{canary}'\n"


def _of_bytes(content: bytes, name: str = "picture.png") -> dict[str, Mount]:
    """Give the libraries a file as a picture."""

    def mount(stage: Stage) -> Trial:
        file = _place(stage, name)
        file.write_bytes(content)
        return Trial(call=_read(stage, file))

    return dict.fromkeys((ZOO, TIMM, TORCHVISION), mount)


def _place(stage: Stage, name: str = "picture.png") -> Path:
    file = stage.work / "pictures" / name
    file.parent.mkdir()
    return file


def _read(stage: Stage, file: Path) -> Any:
    if stage.victim == ZOO:
        arguments = ["predict", "timm/test_resnet", str(file)]
        return stage.call("zoo_command", arguments=arguments)
    if stage.victim == TIMM:
        return stage.call("timm_picture", folder="pictures")
    return stage.call("torchvision_picture", path=str(file))


def _postscript(stage: Stage) -> Trial:
    """Have a program of PostScript's interpreter's name tell whether it is called."""
    program = stage.folder / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(GHOSTSCRIPT.format(canary=stage.canary))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    stage.environment["PATH"] = f"{program.parent}{os.pathsep}{stage.environment['PATH']}"
    file = _place(stage)
    file.write_bytes(forge.postscript())
    return Trial(call=_read(stage, file))


def _piped(stage: Stage) -> Trial:
    file = _place(stage)
    os.mkfifo(file)
    return Trial(call=_read(stage, file))


def _everywhere(mount: Mount) -> dict[str, Mount]:
    return dict.fromkeys((ZOO, TIMM, TORCHVISION), mount)


ATTACKS: Final = [
    Attack(
        name="picture-bomb",
        title="a PNG of 20 kB and 169 megapixels",
        mounts=_of_bytes(forge.png(13_000, 13_000)),
    ),
    Attack(
        name="picture-thread",
        title="a PNG of 1 × 65,000 pixels, which becomes huge when its short side is scaled",
        mounts=_of_bytes(forge.png(1, 65_000)),
    ),
    Attack(
        name="picture-truncated",
        title="a PNG cut in half",
        mounts=_of_bytes(forge.photo()[:6000]),
    ),
    Attack(
        name="picture-postscript",
        title="a PostScript program named `picture.png`",
        mounts=_everywhere(_postscript),
    ),
    Attack(
        name="picture-text", title="a text named `picture.png`", mounts=_of_bytes(b"no picture\n")
    ),
    Attack(
        name="picture-pipe",
        title="a named pipe among pictures",
        mounts=_everywhere(_piped),
        seconds=20,
    ),
]
