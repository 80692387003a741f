"""How well pictures are classified."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from zoo_core.evaluation.metrics import Metrics, all_finite, check_whole
from zoo_core.evaluation.shares import ratio

_SHIFT: Final = 36
"""Confidences are summed as whole multiples of 2 ** -36, which no order of addition changes."""


class ClassificationMetrics(Metrics):
    """Accuracy, top-5 accuracy, precision, recall, F1 and calibration.

    Batches may come on any device, and nothing waits for a GPU before the metrics are computed.
    The results are exactly the same however the samples are split into batches and processes.

    A class is predicted as ``argmax`` does: of equal logits, the lower class wins. The top-5
    accuracy ranks classes in the same way.

    Args:
        num_classes: How many classes there are, from 2.
        ignore_index: Samples with this target are left out, and so is a class of this index.
        calibration_bins: How many bins of equal width the calibration error sorts confidences
            into.

    Raises:
        InputError: If an argument cannot be.
    """

    _axes = ""

    def __init__(
        self, num_classes: int, ignore_index: int | None = -100, calibration_bins: int = 15
    ) -> None:
        check_whole("calibration_bins", calibration_bins, least=1)
        self.calibration_bins = calibration_bins
        sizes = {"top5": 1, "bins": 3 * (calibration_bins + 1)}
        super().__init__(num_classes, ignore_index, sizes)

    @torch.no_grad()
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            predictions: Logits ``[B, C]`` or class indices ``[B]``. A sample with a logit that is
                not finite is counted as such, and not scored.
            targets: Class indices ``[B]``.

        Raises:
            InputError: If types or shapes are wrong, or an index is no class; on another device
                than the CPU, that is found out by :meth:`compute`.
        """
        is_logits = self._is_logits(predictions, targets)
        targets = targets.to(predictions.device)
        if not targets.numel():
            return
        if not is_logits:
            self._count(predictions, targets)
            return
        highest, predicted = predictions.max(1)
        finite = all_finite(predictions.amin(1), highest)
        scored = self._count(predicted, targets, finite)
        self._rank(predictions, targets.long().masked_fill(~scored, 0), scored)
        self._calibrate(predictions, predicted == targets, scored)

    def _rank(self, logits: Tensor, targets: Tensor, scored: Tensor) -> None:
        own = logits.gather(1, targets[:, None])
        lower = torch.arange(self.num_classes, device=logits.device) < targets[:, None]
        before = ((logits > own) | ((logits == own) & lower)).sum(1)
        self._own["top5"].add_((scored & (before < 5)).sum())

    def _calibrate(self, logits: Tensor, correct: Tensor, scored: Tensor) -> None:
        bins = self.calibration_bins
        logits = logits if logits.dtype == torch.float64 else logits.float()
        confidence = logits.softmax(1).amax(1).masked_fill(~scored, 0)
        fixed = (confidence * 2**_SHIFT).round().long()
        # Bin b, from 0, holds what is above b / bins, up to (b + 1) / bins.
        places = ((fixed * bins + (2**_SHIFT - 1)) >> _SHIFT).sub(1).clamp(0, bins - 1)
        places = places.masked_fill(~scored, bins)
        for row, amounts in enumerate((scored.long(), (correct & scored).long(), fixed)):
            self._own.count("bins", places + row * (bins + 1), amounts)

    def compute(self) -> dict[str, Any]:
        """Give the metrics of all batches since the last reset.

        Returns:
            Numbers, NaN where nothing was counted:

            - ``"accuracy"``;
            - ``"top5_accuracy"``: how often the target is among the five likeliest classes, or
              among all if they are fewer; over the samples given as logits;
            - ``"macro_precision"``, ``"macro_recall"``, ``"macro_f1"``: averages over the classes
              that are among the targets or the predictions;
            - ``"weighted_precision"``, ``"weighted_recall"``, ``"weighted_f1"``: averages over
              classes, each weighing as much as it has targets;
            - ``"calibration_error"``: the expected calibration error of the likeliest class (Guo
              et al. 2017, https://arxiv.org/abs/1706.04599), over the samples given as logits;
            - ``"samples"``: how many were scored;
            - ``"non_finite"``: how many were not, as a logit was NaN or infinite.

        Raises:
            InputError: If an index was no class.
        """
        tally = self._counted()
        classes = self._classes(tally)
        bins = tally["bins"].view(3, -1)[:, :-1].tolist()
        with_logits = sum(bins[0])
        gaps = sum(abs((hits << _SHIFT) - sure) for _, hits, sure in zip(*bins, strict=True))
        shares = {"precision": classes.precision, "recall": classes.recall, "f1": classes.dice}
        return {
            "accuracy": classes.accuracy(),
            "top5_accuracy": ratio(int(tally["top5"]), with_logits),
            **{f"macro_{name}": float(values.nanmean()) for name, values in shares.items()},
            **{f"weighted_{name}": classes.weighted(values) for name, values in shares.items()},
            "calibration_error": ratio(gaps, with_logits << _SHIFT),
            "samples": int(classes.targets.sum()),
            "non_finite": int(tally["non_finite"]),
        }

    def per_class(self) -> dict[str, list[Any]]:
        """Give ``"precision"``, ``"recall"``, ``"f1"`` and ``"support"``, one a class.

        The support is the number of samples of the class. A class that is neither among the
        targets nor among the predictions has NaN.

        Raises:
            InputError: If an index was no class.
        """
        classes = self._classes(self._counted())
        columns = {
            "precision": classes.precision,
            "recall": classes.recall,
            "f1": classes.dice,
            "support": classes.targets,
        }
        return {name: column.tolist() for name, column in columns.items()}

    def _settings(self) -> tuple[type, dict[str, Any]]:
        kind, settings = super()._settings()
        return kind, {**settings, "calibration_bins": self.calibration_bins}
