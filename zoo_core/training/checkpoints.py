"""Folders that a run can go on from: whole, or not there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo_core.errors import CheckpointError, InputError

FORMAT: Final = 1
_NAME: Final = re.compile(r"step-(\d{9})")
_STATE: Final = "state.json"
_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        state: Numbers and words.
        tensors: Tensors by name, by file.
    """

    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class Checkpoints:
    """A folder of checkpoints, each a folder of safetensors and JSON files.

    One is written beside the others under another name, with a manifest of its files' sha256, and
    all of it is on the disk before it gets its name. So whatever is called ``step-000000120`` is
    whole, at whichever moment a process or a machine stops. Older ones are deleted after that only.

    Args:
        folder: Where they lie; made if it is not there.
        every_epochs: After how many epochs one is written; 0 for none.
        every_steps: After how many steps one is written within an epoch; 0 for none.
        keep_last: How many of the newest are kept.
        keep_best: Whether the one with the lowest validation loss is kept too.

    Raises:
        InputError: If a number is not a whole one, or too low.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int = 0,
        keep_last: int = 2,
        keep_best: bool = True,
    ) -> None:
        for name, value, least in (
            ("every_epochs", every_epochs, 0),
            ("every_steps", every_steps, 0),
            ("keep_last", keep_last, 1),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number from {least}, not {value!r}")
        self.folder = Path(folder)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep_last = keep_last
        self.keep_best = keep_best

    def paths(self) -> list[Path]:
        """Give the checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def best(self) -> Path | None:
        """Give the checkpoint with the lowest validation loss, if one has any.

        Raises:
            CheckpointError: If a manifest cannot be read.
        """
        scored = [(score, path) for path in self.paths() if (score := _score(path)) is not None]
        return min(scored)[1] if scored else None

    def start(self, *, resumes: bool) -> None:
        """Make the folder ready for a run.

        Raises:
            CheckpointError: If it cannot be written to, or has checkpoints that the run does not
                go on from.
        """
        if not resumes and self.paths():
            raise CheckpointError(
                f"{self.folder} holds checkpoints of an earlier run; resume=True goes on with it, "
                f"and another folder begins anew"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob(".replaced-*"):
                whole = self.folder / path.name.removeprefix(".replaced-")
                if whole.exists():
                    shutil.rmtree(path)
                else:
                    path.rename(whole)
            for path in self.folder.glob(".writing-*"):
                shutil.rmtree(path)
            probe = self.folder / ".writing-probe"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise CheckpointError(
                f"checkpoints cannot be written to {self.folder}: {error.strerror}"
            ) from error

    def set_aside_after(self, path: Path) -> None:
        """Rename the checkpoints after one, which a run goes on from instead, to ``abandoned-…``.

        Raises:
            CheckpointError: If that cannot be.
        """
        if path.resolve().parent != self.folder.resolve():
            return
        for later in self.paths():
            if later.name > path.name:
                aside = self.folder / f"abandoned-{later.name}"
                number = 2
                while aside.exists():
                    aside = self.folder / f"abandoned-{later.name}-{number}"
                    number += 1
                try:
                    later.rename(aside)
                except OSError as error:
                    raise CheckpointError(
                        f"{later} cannot be set aside: {error.strerror}"
                    ) from error

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        tensors: Mapping[str, Mapping[str, Tensor]],
        score: float | None = None,
    ) -> Path:
        """Write a checkpoint, and delete those that need not be kept.

        Of the same step there is one already if that was the last of an epoch: it is replaced by
        the one that has the epoch's score.

        Args:
            step: Its number.
            state: Numbers and words.
            tensors: Tensors by name, by file.
            score: What the best one has the lowest of.

        Raises:
            CheckpointError: If it cannot be written; the others stay.
        """
        path = self.folder / f"step-{step:09d}"
        if path.exists() and score is None:
            return path
        aside = self.folder / f".writing-{path.name}"
        try:
            aside.mkdir(parents=True)
            for name, values in tensors.items():
                save_file(_unshared(values), aside / f"{name}.safetensors")
            (aside / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
            files = {file.name: _described(file) for file in sorted(aside.iterdir())}
            manifest = {"format": FORMAT, "step": step, "score": score, "files": files}
            (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            for file in aside.iterdir():
                _flush(file)
            _flush(aside)
            replaced = self.folder / f".replaced-{path.name}"
            if path.exists():
                path.rename(replaced)  # which start() takes back, if this is as far as it comes
            aside.rename(path)
            _flush(self.folder)
            if replaced.exists():
                shutil.rmtree(replaced)
            self._prune()
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            why = error.strerror if isinstance(error, OSError) else error
            kept = self.paths()
            raise CheckpointError(
                f"checkpoint {path} cannot be written: {why}; "
                + (f"the last good one is {kept[-1]}" if kept else "there is no earlier one")
            ) from error
        return path

    def _prune(self) -> None:
        paths = self.paths()
        kept = set(paths[-self.keep_last :])
        if self.keep_best and (best := self.best()) is not None:
            kept.add(best)
        for path in paths:
            if path not in kept:
                # Under another name first: what is half deleted must not look like a whole one.
                gone = path.rename(self.folder / f".writing-gone-{path.name}")
                shutil.rmtree(gone)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whole, each file compared with its hash.

    Raises:
        CheckpointError: If something is missing, or not as it was written.
    """
    manifest = _manifest(path)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is of format {manifest.get('format')!r}; this version of zoo-core reads "
            f"{FORMAT}"
        )
    for name, wanted in manifest["files"].items():
        file = path / name
        try:
            found = _described(file)
        except OSError as error:
            raise _damaged(path, f"{name} cannot be read: {error.strerror}") from error
        if found != wanted:
            raise _damaged(path, f"{name} is not as it was written")
    return Checkpoint(
        json.loads((path / _STATE).read_text(encoding="utf-8")),
        {
            Path(name).stem: load_file(path / name)
            for name in manifest["files"]
            if name.endswith(".safetensors")
        },
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path} is no checkpoint: {_MANIFEST} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise _damaged(path, f"{_MANIFEST} is no JSON") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise _damaged(path, f"{_MANIFEST} lists no files")
    return manifest


def _damaged(path: Path, what: str) -> CheckpointError:
    others = [other for other in Checkpoints(path.parent).paths() if other.name < path.name]
    mend = f"; resume from {others[-1]} to take the one before" if others else ""
    return CheckpointError(f"checkpoint {path} is damaged: {what}{mend}")


def _score(path: Path) -> float | None:
    score = _manifest(path).get("score")
    return float(score) if score is not None else None


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors as safetensors takes them: whole, and none a part of another."""
    seen: set[int] = set()
    given: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        where = tensor.untyped_storage().data_ptr()
        if where in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(where)
        given[name] = tensor
    return given
