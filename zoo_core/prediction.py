"""What a model says of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from zoo_core.errors import InputError
from zoo_core.models.multitask import MultitaskModel
from zoo_core.pictures import prepare, prepare_whole


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One class: its index, its name, and its probability or share of pixels, 0 to 1."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one picture.

    Attributes:
        classification: The likeliest classes, best first; ``None`` without that head.
        segmentation: Every class that covers some of the picture, largest first; ``None`` without
            that head.
        mask: Class of each pixel of the picture, ``[H, W]``; ``None`` without that head.
    """

    classification: list[Ranked] | None
    segmentation: list[Ranked] | None
    mask: NDArray[np.integer] | None


@torch.inference_mode()
def predict(model: MultitaskModel, picture: Image.Image, top: int = 5) -> Prediction:
    """Classify the centre of a picture and segment all of it, as far as the model has heads.

    The model must be in eval mode.

    Raises:
        InputError: If the model does not know its preprocessing.
    """
    if model.preprocessing is None:
        raise InputError("the model does not know its preprocessing; set model.preprocessing")
    device = next(model.parameters()).device
    classification = segmentation = mask = None
    if model.classifier is not None:
        image = prepare(picture, model.preprocessing).to(device)
        logits: Any = model.run(image[None], classification=True, segmentation=False)
        probabilities = logits[0].float().softmax(0)
        scores, indices = probabilities.topk(min(top, len(probabilities)))
        classification = [
            Ranked(index=index, label=_label(model, "classification", index), score=score)
            for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
        ]
    if model.decoder is not None:
        image = prepare_whole(picture, model.preprocessing).to(device)
        maps: Any = model.run(image[None], classification=False, segmentation=True)
        size = (picture.height, picture.width)
        resized = F.interpolate(maps.float(), size, mode="bilinear", align_corners=False)
        mask = resized[0].argmax(0).to(torch.int32).cpu().numpy()
        counts = np.bincount(mask.ravel())
        segmentation = [
            Ranked(
                index=int(index),
                label=_label(model, "segmentation", int(index)),
                score=float(counts[index] / mask.size),
            )
            for index in np.argsort(-counts, kind="stable")
            if counts[index]
        ]
    return Prediction(classification=classification, segmentation=segmentation, mask=mask)


def _label(model: MultitaskModel, head: str, index: int) -> str:
    names = model.labels.get(head)
    return names[index] if names else f"class {index}"
