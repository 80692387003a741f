"""Traced models as ONNX files, and those files as functions. Importing this imports onnx."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime  # type: ignore[import-untyped]
import torch
from onnxscript import INT64
from onnxscript import opset18 as op
from torch import Tensor

from zoo_core.errors import ExportError
from zoo_core.exporting.tracing import AXES, Traced


def write(traced: Traced, path: Path, described: dict[str, str]) -> None:
    """Write one file that holds all, with what is told of the model as its metadata.

    Raises:
        ExportError: If it would be too large for that.
    """
    converted: Any = torch.onnx.export(
        traced.program,
        (),
        input_names=["image"],
        output_names=list(traced.outputs),
        dynamic_shapes=({index: name for name, index in AXES.items()},),
        custom_translation_table={operator.floordiv: _floor_division},
        verbose=False,
    )
    converted.model.metadata_props.update(described)
    converted.save(path)
    if len(list(path.parent.iterdir())) > 1:
        raise ExportError(
            "the model has more values than one ONNX file holds; a file of format torch-export "
            "holds them"
        )


def _floor_division(dividend: INT64, divisor: INT64) -> INT64:
    """Divide sizes as Python does.

    ONNX's own division rounds towards zero, so that -(-side // 16) would come out one too small.
    """
    return op.Div(op.Sub(dividend, op.Mod(dividend, divisor)), divisor)


def reader(path: Path) -> Callable[[Tensor], dict[str, Tensor]]:
    """Give a function that runs a file on pictures, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised too
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {"image": images.numpy()})
        return dict(zip(names, map(torch.from_numpy, found), strict=True))

    return run
