"""How well pixels are classified."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from zoo_core.evaluation.metrics import Metrics, all_finite

_AT_ONCE: Final = 2**18
"""Pixels, in whole pictures, that a CPU counts at once: as many as it has at hand."""

_AT_ONCE_ELSEWHERE: Final = 16
"""How many times as many another device counts at once, so that little memory is needed."""


class SegmentationMetrics(Metrics):
    """Intersection over union, Dice and pixel accuracy, over all pixels together.

    Batches may come on any device and in any size, and nothing waits for a GPU before the metrics
    are computed. The results are exactly the same however the pictures are split into batches and
    processes.

    A class is predicted as ``argmax`` does: of equal logits, the lower class wins.

    Args:
        num_classes: How many classes there are, from 2.
        ignore_index: Pixels with this target are left out, and so is a class of this index.

    Raises:
        InputError: If an argument cannot be.
    """

    _axes = ", H, W"

    def __init__(self, num_classes: int, ignore_index: int | None = 255) -> None:
        super().__init__(num_classes, ignore_index, {})

    @torch.no_grad()
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            predictions: Logits ``[B, C, H, W]`` or class indices ``[B, H, W]``. A pixel with a
                logit that is not finite is counted as such, and not scored.
            targets: Class indices ``[B, H, W]``.

        Raises:
            InputError: If types or shapes are wrong, or an index is no class; on another device
                than the CPU, that is found out by :meth:`compute`.
        """
        is_logits = self._is_logits(predictions, targets)
        targets = targets.to(predictions.device)
        if not targets.numel():
            return
        most = _AT_ONCE * (1 if targets.device.type == "cpu" else _AT_ONCE_ELSEWHERE)
        step = max(1, most // targets[0].numel())
        pieces = zip(torch.split(predictions, step), torch.split(targets, step), strict=True)
        for some, wanted in pieces:
            if is_logits:
                highest, predicted = _highest(some)
                self._count(predicted, wanted, all_finite(some.amin(1), highest))
            else:
                self._count(some, wanted)

    def compute(self) -> dict[str, Any]:
        """Give the metrics of all batches since the last reset.

        Returns:
            Numbers, NaN where nothing was counted:

            - ``"mean_iou"``, ``"mean_dice"``: averages over the classes that are among the targets
              or the predictions;
            - ``"class_iou"``, ``"class_dice"``: a list each, NaN for the other classes;
            - ``"pixel_accuracy"``;
            - ``"pixels"``: how many were scored;
            - ``"non_finite"``: how many were not, as a logit was NaN or infinite.

        Raises:
            InputError: If an index was no class.
        """
        tally = self._counted()
        classes = self._classes(tally)
        iou, dice = classes.iou, classes.dice
        return {
            "mean_iou": float(iou.nanmean()),
            "class_iou": iou.tolist(),
            "mean_dice": float(dice.nanmean()),
            "class_dice": dice.tolist(),
            "pixel_accuracy": classes.accuracy(),
            "pixels": int(classes.targets.sum()),
            "non_finite": int(tally["non_finite"]),
        }

    def per_class(self) -> dict[str, list[Any]]:
        """Give ``"iou"``, ``"dice"``, ``"precision"``, ``"recall"``, ``"support"``, one a class.

        The support is the number of pixels of the class. A class that is neither among the targets
        nor among the predictions has NaN.

        Raises:
            InputError: If an index was no class.
        """
        classes = self._classes(self._counted())
        columns = {
            "iou": classes.iou,
            "dice": classes.dice,
            "precision": classes.precision,
            "recall": classes.recall,
            "support": classes.targets,
        }
        return {name: column.tolist() for name, column in columns.items()}


def _highest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Do what ``logits.max(1)`` does, in a third of its time on a CPU.

    Where a logit is NaN, so is the highest one, and the class is any.
    """
    classes = logits.shape[1]
    if logits.device.type != "cpu" or classes > 255:
        highest, predicted = logits.max(1)
        return highest, predicted
    highest = logits.amax(1)
    marks = (logits == highest[:, None]).view(torch.uint8)
    marks *= torch.arange(classes, 0, -1, dtype=torch.uint8)[:, None, None]
    return highest, (classes - marks.amax(1).long()).clamp_(max=classes - 1)
