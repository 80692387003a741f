"""Running a model over data and measuring it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, cast
from warnings import warn

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from zoo_core.errors import InputError, ZooWarning
from zoo_core.evaluation.classification import ClassificationMetrics
from zoo_core.evaluation.losses import Criterion, MeanLoss
from zoo_core.evaluation.modes import evaluating
from zoo_core.evaluation.segmentation import SegmentationMetrics
from zoo_core.evaluation.tally import is_sharded, sum_over_ranks
from zoo_core.evaluation.tasks import KEYS, split_batch, split_output

_IGNORED_LABEL: Final = -100


class Evaluator:
    """Measures a model on the batches of a loader, whatever its tasks are.

    A batch is a mapping with ``"image"`` and ``"label"``, ``"mask"`` or both, or a tuple:
    ``(images, targets)``, where targets ``[B]`` are labels and ``[B, H, W]`` are masks, or
    ``(images, labels, masks)``. The model is any module that takes images and gives logits ``[B,
    C]`` or ``[B, C, H, W]``, a mapping with such as ``"classification"`` and ``"segmentation"``, or
    what torchvision's and transformers' models give. Logits of another height and width than the
    masks are resized to theirs, bilinearly. What only the model or only the batch has is left out.

    With several processes of ``torch.distributed``, each evaluates batches of its own and gets
    the results of all together, so each must call :meth:`evaluate`. Every sample must be given to
    one process only, as :class:`~zoo_core.evaluation.UnpaddedSampler` does; some may get fewer, or
    none. A model in DistributedDataParallel is run without it, with the buffers of the first
    process. One that communicates in its forward, as with FSDP, needs as many batches in each
    process; fill up with targets that are ignored.

    Args:
        model: What to measure.
        device: Where to; the model is moved there, and stays. By default, where it is.
        criterion: A loss to report as well, given logits in float32 (or float64) and targets; or
            one for each task, by its name.
        mixed_precision: ``torch.float16`` or ``torch.bfloat16`` to run the model in.
        ignore_index: Pixels with this target are left out, and so are those of a criterion.
            Labels of -100 are left out always.

    Attributes:
        metrics: Those of the last evaluation by task, for tables and confusion matrices.

    Raises:
        InputError: If an argument cannot be.
    """

    metrics: dict[str, ClassificationMetrics | SegmentationMetrics]

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None = None,
        *,
        criterion: Criterion | Mapping[str, Criterion] | nn.ModuleDict | None = None,
        mixed_precision: torch.dtype | None = None,
        ignore_index: int | None = 255,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        if mixed_precision not in (None, torch.float16, torch.bfloat16):
            raise InputError(
                f"mixed_precision is torch.float16 or torch.bfloat16, not {mixed_precision!r}"
            )
        self.model = model
        self.device = None if device is None else torch.device(device)
        self.metrics = {}
        self._criteria = _by_task(criterion)
        self._mixed_precision = mixed_precision
        self._ignored = {"classification": _IGNORED_LABEL, "segmentation": ignore_index}

    def evaluate(self, loader: Iterable[Any]) -> dict[str, Any]:
        """Run the model over all batches, and measure it.

        The model runs in eval mode and without gradients; afterwards it is in the mode it was in.

        Returns:
            What :meth:`ClassificationMetrics.compute` or :meth:`SegmentationMetrics.compute` give,
            and ``"loss"`` if there is a criterion: its mean over all samples or pixels that count.
            For two tasks, a dict of each under ``"classification"`` and ``"segmentation"``.

        Raises:
            InputError: If there is no batch, or a batch or the model's output cannot be used.
        """
        _warn_of_padding(loader)
        self.metrics = {}
        losses = {
            task: MeanLoss(criterion, self._ignored[task])
            for task, criterion in self._criteria.items()
        }
        if self.device is not None:
            self.model.to(self.device)
        device = self.device or _device_of(self.model)
        model = _bare(self.model)
        with evaluating(self.model), torch.no_grad():
            for batch in _shown(loader):
                images, targets = split_batch(batch)
                outputs = self._outputs(model, images.to(device, non_blocking=True), targets)
                for task, logits in outputs.items():
                    wanted = targets[task].to(device, non_blocking=True)
                    self._score(task, logits, wanted, losses.get(task))
        self._share()
        results = {}
        for task, metrics in self.metrics.items():
            results[task] = metrics.compute()
            if task in losses:
                results[task]["loss"] = losses[task].compute()
        return next(iter(results.values())) if len(results) == 1 else results

    def _outputs(
        self, model: nn.Module, images: Tensor, targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Give the logits of the tasks that have targets."""
        from zoo_core.models.multitask import MultitaskModel

        inputs: Any = images
        if isinstance(model, MultitaskModel):  # runs only the branches that are asked for
            heads = {"classification": model.classifier, "segmentation": model.decoder}
            asked = {KEYS[task]: targets[task] for task in targets if heads[task] is not None}
            inputs = {"image": images, **asked}
        dtype = self._mixed_precision
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            outputs = split_output(model(inputs))
        used = {task: logits for task, logits in outputs.items() if task in targets}
        if not used:
            raise InputError(
                f"the batch has targets for {' and '.join(targets)}, but the model gives logits "
                f"for {' and '.join(outputs)} only"
            )
        return used

    def _score(self, task: str, logits: Tensor, targets: Tensor, loss: MeanLoss | None) -> None:
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        size = targets.shape[1:]
        if logits.dim() == 4 and len(size) == 2 and logits.shape[2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        metrics = self.metrics.get(task)
        if metrics is None:
            metrics = self.metrics[task] = self._new(task, logits.shape[1])
            metrics.update(logits, targets)
            metrics.compute()  # tells of wrong targets, which a GPU would hold back until the end
        else:
            metrics.update(logits, targets)
        if loss is not None:
            loss.add(logits, targets)

    def _new(self, task: str, classes: int) -> ClassificationMetrics | SegmentationMetrics:
        kind = ClassificationMetrics if task == "classification" else SegmentationMetrics
        return kind(classes, self._ignored[task])

    def _share(self) -> None:
        """Sum the counts over processes, some of which may have had no batch of a task."""
        known = [self.metrics[task].num_classes if task in self.metrics else 0 for task in KEYS]
        if is_sharded():
            known = sum_over_ranks(torch.tensor(known), largest=True).tolist()
        if not any(known):
            raise InputError("the loader gave no batch")
        everywhere = {}
        for task, classes in zip(KEYS, known, strict=True):
            if classes:
                everywhere[task] = self.metrics.get(task) or self._new(task, classes)
                everywhere[task].synchronize()
        self.metrics = everywhere


def _by_task(criterion: Any) -> dict[str, Criterion]:
    if criterion is None:
        return {}
    several = isinstance(criterion, Mapping | nn.ModuleDict)
    criteria = dict(criterion.items()) if several else dict.fromkeys(KEYS, criterion)
    for task, value in criteria.items():
        if task not in KEYS or not callable(value):
            raise InputError(
                f"criterion must be a loss, or a mapping with losses for {' and '.join(KEYS)}, not "
                f"{task!r}: {value!r}"
            )
    return criteria


def _bare(model: nn.Module) -> nn.Module:
    """Take a model out of DistributedDataParallel, the same one in every process.

    Its forward counts on as many batches in every process.
    """
    if not isinstance(model, nn.parallel.DistributedDataParallel):
        return model
    if model.broadcast_buffers:  # as its forward would; so far each process has its own
        for buffer in model.module.buffers():
            dist.broadcast(buffer, group=model.process_group, group_src=0)
    return cast(nn.Module, model.module)


def _device_of(model: nn.Module) -> torch.device:
    tensors = chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _shown(loader: Iterable[Any]) -> Iterator[Any]:
    """Show a progress bar on a terminal, of the first process, while batches are taken."""
    from huggingface_hub.utils.tqdm import tqdm

    hidden = True if is_sharded() and dist.get_rank() > 0 else None
    with tqdm(loader, desc="evaluating", disable=hidden, leave=False) as batches:  # type: ignore[no-untyped-call]
        yield from batches


def _warn_of_padding(loader: Iterable[Any]) -> None:
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler):
        return
    dataset: Any = sampler.dataset
    if sampler.total_size != len(dataset):
        warn(
            f"DistributedSampler gives {sampler.total_size} samples of {len(dataset)}, so the "
            "results are not exact; use zoo_core.evaluation.UnpaddedSampler",
            ZooWarning,
            stacklevel=3,
        )
