"""Traced models as files of ``torch.export`` without pickled objects, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import torch

from zoo_core.errors import ExportError
from zoo_core.exporting.tracing import Traced


def write(traced: Traced, path: Path, described: dict[str, str]) -> None:
    """Write one file that holds all, with what is told of the model as extra files.

    Raises:
        ExportError: If something in it would have to be pickled.
    """
    traced.program.example_inputs = None  # torch would pickle them
    torch.export.save(traced.program, path, extra_files=described)


def reader(path: Path) -> Callable[..., Any]:
    """Give the program of a file.

    Raises:
        ExportError: If something in it is pickled.
    """
    _check_unpickled(path)
    program: Callable[..., Any] = torch.export.load(path).module()
    return program


def _check_unpickled(path: Path) -> None:
    """Check that a file has tensors' plain bytes only, and nothing that loading would unpickle.

    Raises:
        ExportError: If it has, naming it.
    """
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            record = PurePosixPath(entry.filename)
            if record.suffix == ".pt" and entry.file_size:
                raise ExportError(f"torch pickled the model's {record.name}")
            if record.name.endswith("_config.json"):
                for name, payload in json.loads(archive.read(entry))["config"].items():
                    if payload["use_pickle"]:
                        raise ExportError(f"torch can only pickle {name}, which is no plain tensor")
