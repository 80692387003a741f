"""Training on one machine or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from zoo_core.errors import InputError
from zoo_core.training.callbacks import manager_of
from zoo_core.training.checkpoints import Checkpoints
from zoo_core.training.losses import Losses, TaskWeights
from zoo_core.training.parallel import STRATEGIES
from zoo_core.training.precision import MixedPrecisionManager
from zoo_core.training.run import Run
from zoo_core.training.world import World, join

Scheduler = LRScheduler | ReduceLROnPlateau


class Trainer:
    """Trains a model on classification, segmentation or both, as its batches have targets.

    The same script trains in one process, and under ``torchrun`` in many: a loader's batch is the
    whole one, of which each process gets its part, and losses are averaged over all that counts in
    it, however it is shared. A batch is a mapping with ``"image"``, ``"label"`` and ``"mask"``, or
    pictures and targets in a row. Any ``nn.Module`` will do, if it gives logits.

    Args:
        model: What is trained, in place.
        criterion: The loss of logits and targets, for both tasks, or one for each by the task's
            name; ``CrossEntropyLoss()`` by default.
        optimizer: Of the model's parameters; AdamW with a learning rate of 1e-3 by default.
        max_epochs: How often the data are gone through.
        validation_freq: After how many epochs the model is validated, and after the last.
        early_stopping_patience: After how many validations without a lower loss the run ends;
            ``None`` for no end before the last epoch.
        mixed_precision: Whether to run in half precision, or in which type; see
            :class:`MixedPrecisionManager`.
        gradient_clip_value: The norm of all gradients together, from which on they are made
            smaller; ``None`` for none.
        device: Where to train; by default a GPU, if there is one.
        scheduler: Of the optimizer's learning rate.
        scheduler_interval: Whether it is stepped each ``"epoch"`` or each ``"step"``. One that
            waits for a plateau is given each validation's loss.
        accumulate: Over how many batches gradients are added up for a step.
        ema: The share that a moving average of the weights keeps at a step, such as 0.999. The
            average is what is validated, and what the model has in the end; ``None`` for none.
        task_weights: What each task's loss is multiplied by, or ``"uncertainty"``; see
            :class:`Losses`.
        frozen: Names of submodules that are not trained, whose batch norms stay as they are.
        channels_last: Whether pictures and weights have their channels last in memory.
        compile: Whether the model is compiled by ``torch.compile``.
        strategy: With several processes, ``"ddp"`` for a replica in each, ``"fsdp"`` for shards
            (FSDP2) of a model that does not fit.
        seed: What the order of samples and their augmentation depend on; by default drawn from
            torch's generator.
        ignore_index: The mask value of pixels that count nothing; by default the data set's
            ``ignore_index``, of which ``None`` means that all count, or 255 if it has none.
        callbacks: Objects whose methods are marked with ``zoo_core.hookimpl``; the main process
            calls them. See :mod:`zoo_core.training.callbacks`.
        checkpoints: Where to write checkpoints, and when; a folder alone means after every epoch.
        progress: Whether to show a bar; by default on a terminal.

    Attributes:
        callbacks: What knows the callbacks, a ``pluggy.PluginManager``.
        epoch: Epochs that are finished.
        step: Steps that are taken.
        history: What :meth:`train` gives.
        world: The processes that train together.

    Raises:
        InputError: If an argument cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: nn.Module | Mapping[str, nn.Module] | None = None,
        optimizer: Optimizer | None = None,
        max_epochs: int = 10,
        validation_freq: int = 1,
        early_stopping_patience: int | None = None,
        mixed_precision: bool | torch.dtype = False,
        gradient_clip_value: float | None = None,
        device: torch.device | str | None = None,
        *,
        scheduler: Scheduler | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        accumulate: int = 1,
        ema: float | None = None,
        task_weights: TaskWeights = None,
        frozen: Sequence[str] = (),
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 - as torch calls it
        strategy: Literal["ddp", "fsdp"] = "ddp",
        seed: int | None = None,
        ignore_index: int | None = None,
        callbacks: Iterable[object] = (),
        checkpoints: Checkpoints | str | Path | None = None,
        progress: bool | None = None,
    ) -> None:
        _check_whole("max_epochs", max_epochs)
        _check_whole("validation_freq", validation_freq)
        _check_whole("accumulate", accumulate)
        if early_stopping_patience is not None:
            _check_whole("early_stopping_patience", early_stopping_patience)
        if gradient_clip_value is not None and not gradient_clip_value > 0:
            raise InputError(f"gradient_clip_value must be above 0, not {gradient_clip_value!r}")
        if strategy not in STRATEGIES:
            raise InputError(f"strategy is {' or '.join(map(repr, STRATEGIES))}, not {strategy!r}")
        if scheduler_interval not in ("epoch", "step"):
            raise InputError(f"scheduler_interval is 'epoch' or 'step', not {scheduler_interval!r}")
        for name in frozen:
            try:
                model.get_submodule(name)
            except AttributeError as error:
                raise InputError(f"frozen: the model has no submodule {name!r}") from error
        if optimizer is None:
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-3)
        own = set(model.parameters())
        if any(p not in own for group in optimizer.param_groups for p in group["params"]):
            raise InputError(
                "the optimizer has parameters that are not the model's; make it from "
                "model.parameters(), after the model's last change"
            )
        if scheduler is not None and scheduler.optimizer is not optimizer:
            raise InputError("the scheduler is of another optimizer")
        if isinstance(checkpoints, str | Path):
            checkpoints = Checkpoints(checkpoints)
        self.world: World = join(device)
        self.model = model
        self.losses = Losses(
            criterion, task_weights, ignore_mask=255 if ignore_index is None else ignore_index
        )
        self.ignore_index = ignore_index
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.validation_freq = validation_freq
        self.early_stopping_patience = early_stopping_patience
        is_type = isinstance(mixed_precision, torch.dtype)
        self.amp = MixedPrecisionManager(
            enabled=is_type or bool(mixed_precision),
            dtype=mixed_precision if isinstance(mixed_precision, torch.dtype) else None,
            device=self.world.device,
        )
        self.gradient_clip_value = gradient_clip_value
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.accumulate = accumulate
        self.ema = ema
        self.frozen = tuple(frozen)
        self.channels_last = channels_last
        self.compile = compile
        self.strategy = strategy
        self.seed = seed
        self.callbacks = manager_of(callbacks)
        self.checkpoints = checkpoints
        self.progress = progress
        self.epoch = 0
        self.step = 0
        self.history: dict[str, Any] = {}

    def train(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        resume: bool | str | Path = False,
    ) -> dict[str, Any]:
        """Train, and give the history.

        A second call is a new run on the weights as they are. On SIGTERM a checkpoint is written
        after the step at hand, and the process exits with 143.

        Args:
            train_loader: Batches to train on, whose order and augmentation the seed decides.
            val_loader: Batches to validate on.
            resume: Whether to go on from the newest checkpoint, if there is one; or the folder of
                one, those after which are renamed ``abandoned-…``. The run then ends as if it had
                not been interrupted, bit for bit, if it is of as many processes.

        Returns:
            ``"train_loss"``, one a finished epoch; ``"val_loss"``, one a validation;
            ``"val_metrics"``, lists of one value a validation by the metric's name, for two tasks
            by ``"classification"`` and ``"segmentation"`` before that; and ``"learning_rate"``,
            the highest of all groups of parameters, one an epoch.

        Raises:
            InputError: If a batch, or what the model makes of it, cannot be trained on.
            TrainingError: If a loss is not finite.
            CheckpointError: If a checkpoint cannot be written, read or gone on from.
        """
        with Run(self, train_loader, val_loader) as run:
            run.start(resume)
            return run.go()


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a positive whole number, not {value!r}")
