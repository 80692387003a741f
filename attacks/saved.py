"""Attacks by the folder of a saved model: whoever made it is hostile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from attacks import forge
from attacks.attack import Attack, Mount, everywhere
from attacks.files import ESCAPES
from attacks.stage import BARE, CONFIG, FILE, TIMM, TORCHVISION, ZOO, Stage, Trial

Changes = dict[str, dict[str, Any]]

NAME: Final = "model"
MODULE: Final = "open({canary!r}, 'w').close()\n"


@cache
def _kept() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="zoo-saved-")


def _folder(stage: Stage) -> Path:
    """Give the folder of an honest saved model."""
    folder = stage.work / NAME
    if stage.victim == ZOO:
        saved = Path(_kept().name, NAME)
        if not saved.exists():
            call = stage.call("zoo_save", folder=str(saved), recipe="timm/test_resnet", seed=0)
            stage.perform(call)
        shutil.copytree(saved, folder)
        return folder
    folder.mkdir()
    (folder / FILE).write_bytes(stage.written(stage.honest))
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_classes": 1000}))
    return folder


def _load(stage: Stage) -> Any:
    if stage.victim == ZOO:
        return stage.call("zoo_saved", name=NAME)
    if stage.victim == TIMM:
        return stage.call("timm_model", name=f"local-dir:{NAME}")
    return stage.call("bare_model", name=NAME)


def _says(changes: Changes) -> dict[str, Mount]:
    """Change keys of ``config.json``, by library; a dotted key is one within another."""

    def mount(stage: Stage) -> Trial:
        file = _folder(stage) / "config.json"
        config = json.loads(file.read_text())
        for key, value in changes[stage.victim].items():
            *path, last = key.split(".")
            inner = config
            for step in path:
                inner = inner.setdefault(step, {})
            inner[last] = value
        file.write_text(json.dumps(config))
        return Trial(call=_load(stage))

    return dict.fromkeys(changes, mount)


def _written(change: Callable[[str], str]) -> dict[str, Mount]:
    """Change the text of ``config.json``."""

    def mount(stage: Stage) -> Trial:
        file = _folder(stage) / "config.json"
        file.write_text(change(file.read_text()))
        return Trial(call=_load(stage))

    return everywhere(mount, TORCHVISION)


def _twice(text: str) -> str:
    key, value = next(iter(json.loads(text).items()))
    return f"{{{json.dumps(key)}: {json.dumps(value)}, {text.lstrip()[1:]}"


def _many(text: str) -> str:
    keys = ", ".join(f'"{number:x}": 0' for number in range(80_000))
    return f'{{{keys}, "again": 0, "again": 0, {text.lstrip()[1:]}'


def _code(stage: Stage) -> Trial:
    """Name code in the folder, as other libraries do that are asked to trust it."""
    folder = _folder(stage)
    (folder / "evil.py").write_text(MODULE.format(canary=str(stage.canary)))
    stage.path.append(str(folder))
    file = folder / "config.json"
    config = json.loads(file.read_text())
    code = {"auto_map": {"AutoModel": "evil.Model"}, "target": "evil:Model", "_target_": "evil.M"}
    file.write_text(json.dumps({**config, **code}))
    return Trial(call=_load(stage), harmless=lambda value: True)


def _component(stage: Stage) -> Trial:
    """Name a module's class where a component's or an architecture's name belongs."""
    folder = _folder(stage)
    (folder / "evil.py").write_text(MODULE.format(canary=str(stage.canary)))
    stage.path.append(str(folder))
    file = folder / "config.json"
    key = "recipe" if stage.victim == ZOO else "architecture"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: "evil:Model"}))
    return Trial(call=_load(stage))


def _weights(change: Callable[[Stage, Path], None]) -> dict[str, Mount]:
    """Change or replace the file of weights."""

    def mount(stage: Stage) -> Trial:
        change(stage, _folder(stage) / FILE)
        return Trial(call=_load(stage))

    return everywhere(mount, TORCHVISION)


def _tampered(stage: Stage, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _pickled(stage: Stage, file: Path) -> None:
    file.write_bytes(forge.bare_pickle(stage.canary))


def _pickle_beside(stage: Stage, file: Path) -> None:
    content: dict[str, Any] = {**stage.honest, "payload": forge.Payload(stage.canary)}
    file.with_name("pytorch_model.bin").write_bytes(forge.checkpoint(content))
    file.unlink()


def _endless(stage: Stage, file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def _piped(stage: Stage, file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _piped_config(stage: Stage, file: Path) -> None:
    _piped(stage, file.with_name("config.json"))


def _endless_config(stage: Stage, file: Path) -> None:
    _endless(stage, file.with_name("config.json"))


def _nan(stage: Stage, file: Path) -> None:
    """Put a value that is not a number, and a hash that fits the file."""
    from safetensors.torch import load, save

    state = load(file.read_bytes())
    first = next(name for name in sorted(state) if state[name].is_floating_point())
    state[first] = forge.spoilt(state[first], float("nan"))
    content = save(state)
    file.write_bytes(content)
    if stage.victim == ZOO:
        config = json.loads(file.with_name("config.json").read_text())
        config["sha256"] = hashlib.sha256(content).hexdigest()
        config["checksums"] = " ".join(_checksum(state[name]) for name in sorted(state))
        file.with_name("config.json").write_text(json.dumps(config))


def _checksum(tensor: Any) -> str:
    [raw] = forge.raw({"": tensor}).values()
    return f"{zlib.crc32(raw.data):08x}"


def _large_pictures(stage: Stage) -> Trial:
    """Ask for pictures of four gigapixels."""
    file = _folder(stage) / "config.json"
    config = json.loads(file.read_text())
    picture = stage.work / "pictures" / "photo.png"
    picture.parent.mkdir()
    picture.write_bytes(forge.photo())
    if stage.victim == ZOO:
        config["preprocessing"]["size"] = [65_536, 65_536]
        call = stage.call("zoo_command", arguments=["predict", NAME, str(picture)])
    else:
        config["pretrained_cfg"]["input_size"] = [3, 65_536, 65_536]
        call = stage.call("timm_picture_of_model", name=f"local-dir:{NAME}", folder="pictures")
    file.write_text(json.dumps(config))
    return Trial(call=call)


ATTACKS: Final = [
    Attack(
        name="saved-code",
        title="a `config.json` with `auto_map` and `target`, which name code beside it",
        mounts=everywhere(_code, TORCHVISION),
    ),
    Attack(
        name="saved-component",
        title="a `config.json` with code in the place of the architecture",
        mounts={ZOO: _component, TIMM: _component},
    ),
    Attack(
        name="saved-twice",
        title="a `config.json` with a key twice",
        mounts=_written(_twice),
    ),
    Attack(
        name="saved-types",
        title="a `config.json` with text where numbers belong",
        mounts=_says(
            {
                ZOO: {"classes.classification": "1000"},
                TIMM: {"num_classes": "1000"},
                BARE: {"width": "200"},
            }
        ),
    ),
    Attack(
        name="saved-options",
        title="a `config.json` with an option that is none",
        mounts=_says(
            {
                ZOO: {"options.backbone.evil": 1},
                TIMM: {"model_args.evil": 1},
                BARE: {"evil": 1},
            }
        ),
    ),
    Attack(
        name="saved-memory",
        title="a `config.json` that asks for ten million classes or channels",
        mounts=_says(
            {
                ZOO: {"classes.classification": 9_999_999},
                TIMM: {"num_classes": 9_999_999},
                BARE: {"width": 9_999_999},
            }
        ),
    ),
    Attack(
        name="saved-pictures",
        title="a `config.json` that asks for pictures of 65,536 × 65,536",
        mounts={ZOO: _large_pictures, TIMM: _large_pictures},
    ),
    Attack(
        name="saved-depth",
        title="a `config.json` of a million lists in one another",
        mounts=_written(lambda text: "[" * 1_000_000 + "]" * 1_000_000),
    ),
    Attack(
        name="saved-keys",
        title="a `config.json` of 80,000 keys, the last one twice",
        mounts=_written(_many),
    ),
    Attack(
        name="saved-numbers",
        title="a `config.json` with a mean that is not a number",
        mounts=_says(
            {
                ZOO: {"preprocessing.mean": [float("nan")] * 3},
                TIMM: {"pretrained_cfg.mean": [float("nan")] * 3},
            }
        ),
    ),
    Attack(
        name="saved-names",
        title="a `config.json` with names of classes that clear the terminal",
        mounts=_says(
            {
                ZOO: {"labels.classification": [ESCAPES] * 1000},
                TIMM: {"label_names": [ESCAPES] * 1000},
            }
        ),
    ),
    Attack(
        name="saved-endless",
        title="a `config.json` that is a link to `/dev/zero`",
        mounts=_weights(_endless_config),
    ),
    Attack(
        name="saved-config-pipe",
        title="a `config.json` that is a named pipe",
        mounts=_weights(_piped_config),
        seconds=20,
    ),
    Attack(name="saved-tampered", title="a changed value", mounts=_weights(_tampered)),
    Attack(
        name="saved-nan",
        title="a value that is not a number, under a hash that fits",
        mounts=_weights(_nan),
    ),
    Attack(
        name="saved-pickle",
        title=f"a pickle with a payload, named `{FILE}`",
        mounts=_weights(_pickled),
    ),
    Attack(
        name="saved-bin",
        title=f"a `pytorch_model.bin` with a payload, and no `{FILE}`",
        mounts=_weights(_pickle_beside),
    ),
    Attack(
        name="saved-zero",
        title=f"a `{FILE}` that is a link to `/dev/zero`",
        mounts=_weights(_endless),
    ),
    Attack(
        name="saved-pipe",
        title=f"a `{FILE}` that is a named pipe",
        mounts=_weights(_piped),
        seconds=20,
    ),
]
