"""Which tasks a batch has targets of, and a model gives logits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

from zoo_core.errors import InputError

KEYS: Final = {"classification": "label", "segmentation": "mask"}
"""The tasks, each with the key of its targets in a batch."""

_TARGET_DIMS: Final = {1: "classification", 3: "segmentation"}
_LOGIT_DIMS: Final = {2: "classification", 4: "segmentation"}


def split_batch(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Give a batch's pictures, and its targets by task.

    Args:
        batch: A mapping with ``"image"`` and ``"label"``, ``"mask"`` or both; ``(images,
            targets)``, where targets ``[B]`` are labels and ``[B, H, W]`` are masks; or ``(images,
            labels, masks)``.

    Raises:
        InputError: If it is of another form.
    """
    images: Any = None
    found: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        images = batch.get("image")
        found = {task: batch[key] for task, key in KEYS.items() if batch.get(key) is not None}
    elif isinstance(batch, list | tuple) and len(batch) == 3:
        images, *targets = batch
        found = dict(zip(KEYS, targets, strict=True))
    elif isinstance(batch, list | tuple) and len(batch) == 2:
        images, target = batch
        task = _TARGET_DIMS.get(target.dim()) if isinstance(target, Tensor) else None
        found = {task: target} if task else {}
    if not found or not all(isinstance(value, Tensor) for value in (images, *found.values())):
        raise InputError(
            "a batch must be a mapping with 'image' and 'label' or 'mask', or (images, labels "
            "[B]), (images, masks [B, H, W]) or (images, labels, masks), all tensors, not "
            f"{_form(batch)}"
        )
    return images, found


def split_output(output: Any) -> dict[str, Tensor]:
    """Give the logits in a model's output, by task.

    Args:
        output: Logits ``[B, C]`` or ``[B, C, H, W]``, a mapping with such in
            ``"classification"`` and ``"segmentation"``, or in ``"out"`` as torchvision's models
            have it, or an object with such in ``logits`` as those of transformers have it.

    Raises:
        InputError: If it is of another form.
    """
    if isinstance(output, Mapping):
        found = {task: output[task] for task in KEYS if task in output}
        if found and all(isinstance(logits, Tensor) for logits in found.values()):
            return found
        logits = output.get("out", output.get("logits"))
    else:
        logits = getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.dim() in _LOGIT_DIMS:
        return {_LOGIT_DIMS[logits.dim()]: logits}
    raise InputError(
        "a model must give logits [B, C] or [B, C, H, W], or a mapping with 'classification', "
        f"'segmentation', 'out' or 'logits', not {_form(output)}"
    )


def _form(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        items = (f"{key!r}: {_form(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_form, value))})"
    return type(value).__name__
