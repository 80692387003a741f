"""Finding the logits in whatever a model gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.results import NotApplicableError
from zoo_core.models.multitask import MultitaskModel

TASKS: Final = ("classification", "segmentation")

# By what transformers, torchvision and open_clip call them; the first that is there is taken.
_NAMES: Final = ("logits", "out", "image_features", "image_embeds", "pooler_output")


def check_task(task: object) -> None:
    """Check that a task is one, or ``None``.

    Raises:
        InputError: If it is not.
    """
    if task is not None and task not in TASKS:
        raise InputError(f"task must be {' or '.join(map(repr, TASKS))}, not {task!r}")


def run_heads(
    model: nn.Module, images: Tensor, task: str | None, batch: int | None = None
) -> tuple[str, Tensor]:
    """Run a model, and give a task with its logits, ``[B, classes]`` or ``[B, classes, H, W]``.

    Of a model of the zoo with two heads only the one in question is run.

    Args:
        model: Any model of pictures.
        images: Pictures ``[B, C, H, W]``.
        task: What is asked for; ``None`` is what the model does, classification if it does both.
        batch: How many logits there are, if not one for each picture.

    Raises:
        InputError: If the output has no such logits.
    """
    output: Any
    if isinstance(model, MultitaskModel) and model.classifier and model.decoder:
        output = model({"image": images, "mask" if task == "segmentation" else "label": True})
    else:
        output = model(images)
    batch = len(images) if batch is None else batch
    heads = _heads(output, batch)
    chosen = task or ("classification" if "classification" in heads else "segmentation")
    if chosen not in heads:
        wanted = "logits" if task is None else f"logits for {task}"
        raise NotApplicableError(
            f"{type(model).__name__} gives no {wanted}, [B, classes] or [B, classes, H, W], but "
            f"{_described(output)}"
        )
    logits = heads[chosen]
    if len(logits) != batch or not logits.is_floating_point():
        raise InputError(
            f"{type(model).__name__} gives {_described(logits)} for {batch} pictures, which are no "
            f"logits"
        )
    return chosen, logits


def _heads(output: Any, batch: int) -> dict[str, Tensor]:
    """Give the logits of each task that an output has."""
    if isinstance(output, Mapping):
        named = {task: output[task] for task in TASKS if isinstance(output.get(task), Tensor)}
        if named:
            return {task: _with_classes(logits) for task, logits in named.items()}
        if "class_queries_logits" in output and "masks_queries_logits" in output:
            return {"segmentation": _from_queries(output)}
        values: Iterable[Any] = [*(output.get(name) for name in _NAMES), *output.values()]
    elif isinstance(output, Sequence):
        values = output
    else:
        values = [getattr(output, "logits", output)]
    heads: dict[str, Tensor] = {}
    for value in values:
        task = _task_of(value, batch)
        if task is not None:
            heads.setdefault(task, _with_classes(value))
    return heads


def _task_of(value: Any, batch: int) -> str | None:
    if not isinstance(value, Tensor):
        return None
    one_place = value.ndim == 4 and value.shape[2:] == (1, 1)
    if value.ndim == 2 or one_place or (value.ndim == 1 and len(value) == batch):
        return "classification"
    return "segmentation" if value.ndim == 4 else None


def _with_classes(logits: Tensor) -> Tensor:
    """Give one score a picture, and a convolution's score of one place, a dimension of classes."""
    if logits.ndim == 1:
        return logits[:, None]
    if logits.ndim == 4 and logits.shape[2:] == (1, 1):
        return logits.flatten(1)
    return logits


def _from_queries(output: Mapping[str, Any]) -> Tensor:
    """Give scores of pixels by class, as MaskFormer and Mask2Former add their masks up."""
    classes = output["class_queries_logits"].softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", classes, output["masks_queries_logits"].sigmoid())


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} of {value.dtype}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_described(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of " + ", ".join(map(_described, value[:3]))
    return type(value).__name__
