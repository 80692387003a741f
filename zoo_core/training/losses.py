"""What is minimised: one loss for each task, averaged over exactly what it counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Final

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.evaluation.tasks import KEYS as TASKS

UNCERTAINTY: Final = "uncertainty"

TaskWeights = Mapping[str, float] | str | None


class Losses(nn.Module):
    """The losses of a model's tasks, as sums and as what they are averages of.

    Averages of averages are wrong where batches differ in what they count: in pixels that are not
    ignored, in samples that have a label. So sums and counts are kept apart until the whole of a
    step is known, over all its batches and processes.

    A cross entropy counts its targets, weighted as it weighs them. Any other criterion counts
    samples, is averaged over those that have a target, and has to leave ignored pixels out itself.

    Args:
        criterion: One for both tasks, or one for each by the task's name; a cross entropy by
            default.
        weights: What a task's loss is multiplied by, by the task's name, else 1; or
            ``"uncertainty"``, for factors that are learnt (Kendall et al. 2018,
            https://arxiv.org/abs/1705.07115).
        ignore_label: The label of samples without one.
        ignore_mask: The mask value of pixels without one.

    Raises:
        InputError: If a criterion is not averaged or summed, or weights are not as they must be.
    """

    def __init__(
        self,
        criterion: nn.Module | Mapping[str, nn.Module] | None = None,
        weights: TaskWeights = None,
        ignore_label: int = -100,
        ignore_mask: int = 255,
    ) -> None:
        super().__init__()
        if criterion is None:
            criterion = nn.CrossEntropyLoss()
        if isinstance(criterion, nn.Module):
            criterion = dict.fromkeys(TASKS, criterion)
        _check_tasks("criterion", criterion)
        for task, module in criterion.items():
            if getattr(module, "reduction", "mean") not in ("mean", "sum"):
                raise InputError(
                    f"the criterion of {task} has reduction={module.reduction!r}; it must give one "
                    f"number, by 'mean' or 'sum'"
                )
        self.criteria = nn.ModuleDict(dict(criterion))
        self.ignored: Final = {"classification": ignore_label, "segmentation": ignore_mask}
        self.log_variances: nn.ParameterDict | None = None
        self.weights: dict[str, float] = {}
        if isinstance(weights, str):
            if weights != UNCERTAINTY:
                raise InputError(
                    f"task weights are numbers by task, or {UNCERTAINTY!r}, not {weights!r}"
                )
            self.log_variances = nn.ParameterDict(
                {task: nn.Parameter(torch.zeros(1)) for task in TASKS}
            )
        elif weights is not None:
            _check_tasks("task_weights", weights)
            self.weights = {task: float(weight) for task, weight in weights.items()}

    def counts(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tell how much each task's loss of a batch is an average of."""
        return {task: self._count(task, target) for task, target in targets.items()}

    def sums(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Give each task's loss of a batch, times its count."""
        return {
            task: self._sum(task, outputs[task].float(), target) for task, target in targets.items()
        }

    def total(self, averages: Mapping[str, Tensor], share: float = 1.0) -> Tensor:
        """Give the sum of the tasks' average losses, weighted.

        Args:
            averages: Each task's loss, or a part of it.
            share: Which part of a step this is, for what is added once a step.
        """
        terms = []
        for task, loss in averages.items():
            if self.log_variances is None:
                terms.append(loss * self.weights[task] if task in self.weights else loss)
            else:
                spread = self.log_variances[task].squeeze()
                terms.append(loss * torch.exp(-spread) + share * spread / 2)
        return reduce(torch.add, terms)

    def _count(self, task: str, target: Tensor) -> Tensor:
        criterion = self.criteria[task]
        if getattr(criterion, "reduction", None) == "sum":
            return torch.ones((), device=target.device)
        if target.is_floating_point():  # shares of classes, as mixing pictures gives them
            return torch.tensor(float(len(target)), device=target.device)
        present = target != self.ignored[task]
        if not _counts_targets(criterion):
            return _samples(present).sum().float()
        if criterion.weight is None:
            return present.sum().float()
        weight = torch.as_tensor(criterion.weight, device=target.device)
        with _classes_told(task, len(weight)):
            return weight[target.where(present, 0)].where(present, 0).sum()

    def _sum(self, task: str, output: Tensor, target: Tensor) -> Tensor:
        criterion = self.criteria[task]
        ignored = self.ignored[task]
        if hasattr(criterion, "ignore_index") and not target.is_floating_point():
            replacement = int(criterion.ignore_index)  # type: ignore[arg-type]
            target = target.masked_fill(target == ignored, replacement)
            ignored = replacement
        if _counts_targets(criterion):
            with _summing(criterion), _classes_told(task, output.shape[1]):
                return _scalar(task, criterion(output, target))
        present = _samples(target != ignored)
        if not present.any():
            return output.sum() * 0
        loss = _scalar(task, criterion(output[present], target[present]))
        is_sum = getattr(criterion, "reduction", None) == "sum"
        return loss if is_sum else loss * present.sum()


def _counts_targets(criterion: nn.Module) -> bool:
    return isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss)


@contextmanager
def _summing(criterion: nn.Module) -> Iterator[None]:
    """Let a criterion give sums for a while."""
    before = criterion.reduction
    criterion.reduction = "sum"  # type: ignore[assignment]
    try:
        yield
    finally:
        criterion.reduction = before


@contextmanager
def _classes_told(task: str, classes: int) -> Iterator[None]:
    """Say which classes there are, if a target is none of them."""
    try:
        yield
    except IndexError as error:
        found = re.search(r"-?\d+", str(error))
        which = found.group() if found else "another one"
        raise InputError(
            f"{task}: a target is class {which}, but there are {classes}, 0 to {classes - 1}"
        ) from error


def _samples(present: Tensor) -> Tensor:
    """Tell which samples have any target."""
    return present.flatten(1).any(1) if present.ndim > 1 else present


def _scalar(task: str, loss: Tensor) -> Tensor:
    if loss.numel() != 1:
        raise InputError(
            f"the criterion of {task} gives {tuple(loss.shape)}; it must give one number"
        )
    return loss if loss.ndim == 0 else loss.reshape(())


def _check_tasks(argument: str, given: Mapping[str, object]) -> None:
    unknown = [task for task in given if task not in TASKS]
    if unknown:
        raise InputError(
            f"{argument} is by task, {' and '.join(map(repr, TASKS))}, not {unknown[0]!r}"
        )
