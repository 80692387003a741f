"""What a model says of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.inference import Inference
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


@dataclass(frozen=True)
class Prepared:
    """A picture as a model's heads take it.

    Attributes:
        size: Height and width of the picture.
        centre: What is classified, ``[C, h, w]``; ``None`` without that head.
        whole: What is segmented, ``[C, h, w]``; ``None`` without that head.
    """

    size: tuple[int, int]
    centre: Tensor | None
    whole: Tensor | None


class Predictor:
    """Says what a model sees in pictures.

    :meth:`prepare` may be called by several threads, while :meth:`predict` runs the model.

    Args:
        model: The model, in eval mode.
        top: How many classes are told.
        exact: Run the model just as it is; see :class:`zoo_core.inference.Inference`.
        mixed_precision: ``torch.float16`` or ``torch.bfloat16`` to run it in.

    Raises:
        InputError: If the model does not know its preprocessing.
    """

    def __init__(
        self,
        model: MultitaskModel,
        top: int = 5,
        exact: bool = False,
        mixed_precision: torch.dtype | None = None,
    ) -> None:
        if model.preprocessing is None:
            raise InputError("the model does not know its preprocessing; set model.preprocessing")
        self._model, self._preprocessing, self._top = model, model.preprocessing, top
        self._inference = Inference(model, exact, mixed_precision)

    def prepare(self, picture: Image.Image) -> Prepared:
        """Give a picture as the model's heads take it.

        Raises:
            InputError: If the picture would become too large for the model.
        """
        model, how = self._model, self._preprocessing
        return Prepared(
            size=(picture.height, picture.width),
            centre=None if model.classifier is None else prepare(picture, how),
            whole=None if model.decoder is None else prepare_whole(picture, how),
        )

    @torch.inference_mode()
    def predict(self, pictures: Sequence[Prepared]) -> list[Prediction]:
        """Classify the centres of pictures and segment all of them, as far as there are heads.

        Raises:
            InputError: If the model does not take one of them.
        """
        ranked: list[list[Ranked] | None] = [None] * len(pictures)
        masks: list[NDArray[np.integer] | None] = [None] * len(pictures)
        for rows, images in _alike([picture.centre for picture in pictures]):
            logits = self._inference.logits("classification", images)
            for row, each in zip(rows, logits, strict=True):
                ranked[row] = self._ranked(each)
        for rows, images in _alike([picture.whole for picture in pictures]):
            maps = self._inference.logits("segmentation", images)
            for row, each in zip(rows, maps, strict=True):
                masks[row] = _mask(each, pictures[row].size)
        return [
            Prediction(
                classification=classes,
                segmentation=None if mask is None else self._shares(mask),
                mask=mask,
            )
            for classes, mask in zip(ranked, masks, strict=True)
        ]

    def _ranked(self, logits: Tensor) -> list[Ranked]:
        probabilities = logits.softmax(0)
        scores, indices = probabilities.topk(min(self._top, len(probabilities)))
        return [
            Ranked(index=index, label=_label(self._model, "classification", index), score=score)
            for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
        ]

    def _shares(self, mask: NDArray[np.integer]) -> list[Ranked]:
        counts = np.bincount(mask.ravel())
        return [
            Ranked(
                index=int(index),
                label=_label(self._model, "segmentation", int(index)),
                score=float(counts[index] / mask.size),
            )
            for index in np.argsort(-counts, kind="stable")
            if counts[index]
        ]


def predict(model: MultitaskModel, picture: Image.Image, top: int = 5) -> Prediction:
    """Classify the centre of a picture and segment all of it, as far as the model has heads.

    The model must be in eval mode.

    Raises:
        InputError: If the model does not know its preprocessing.
    """
    predictor = Predictor(model, top, exact=True)
    return predictor.predict([predictor.prepare(picture)])[0]


def _alike(images: Sequence[Tensor | None]) -> Iterator[tuple[list[int], Tensor]]:
    """Give batches of the pictures of one size each, with their places."""
    rows: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(images):
        if image is not None:
            rows.setdefault(image.shape, []).append(row)
    for group in rows.values():
        yield group, torch.stack([image for row in group if (image := images[row]) is not None])


def _mask(maps: Tensor, size: tuple[int, int]) -> NDArray[np.integer]:
    resized = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)
    mask: NDArray[np.integer] = resized[0].argmax(0).to(torch.int32).cpu().numpy()
    return mask


def _label(model: MultitaskModel, head: str, index: int) -> str:
    names = model.labels.get(head)
    return names[index] if names else f"class {index}"
