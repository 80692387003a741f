"""Runs of a trainer, each in a folder of its own, with all that is known of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from zoo_core.errors import InputError
from zoo_core.evaluation.evaluator import Evaluator
from zoo_core.evaluation.tables import for_json
from zoo_core.evaluation.tasks import KEYS
from zoo_core.hookspecs import hookimpl
from zoo_core.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from zoo_core.training.trainer import Trainer
    from zoo_core.training.world import World

_NAME: Final = re.compile(r"run-(\d{3,})")


class Experiment:
    """Trains a model, evaluates it, and keeps checkpoints and results.

    Each :meth:`run` has a folder, ``run-001`` and so on, with its checkpoints and its history as
    ``history.json``, which is written anew after each epoch. Under ``torchrun`` the main process
    writes.

    Args:
        model: The model, the trainer's own.
        trainer: How it is trained.
        evaluator: How it is evaluated in the end; none by default.
        num_epochs: How often the data are gone through; by default as the trainer says.
        checkpoint_dir: Where the runs lie; without it, none is kept.

    Attributes:
        folder: That of the last run; ``None`` before the first.

    Raises:
        InputError: If trainer or evaluator are of another model, or ``num_epochs`` is no positive
            whole number.
    """

    def __init__(
        self,
        model: nn.Module,
        trainer: Trainer,
        evaluator: Evaluator | None = None,
        num_epochs: int | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if trainer.model is not model:
            raise InputError("the trainer is of another model than the experiment")
        if evaluator is not None and evaluator.model is not model:
            raise InputError("the evaluator is of another model than the experiment")
        if num_epochs is not None:
            if not isinstance(num_epochs, int) or isinstance(num_epochs, bool) or num_epochs < 1:
                raise InputError(f"num_epochs must be a positive whole number, not {num_epochs!r}")
            trainer.max_epochs = num_epochs
        self.model = model
        self.trainer = trainer
        self.evaluator = evaluator
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.folder: Path | None = None

    def runs(self) -> list[Path]:
        """Give the folders of the runs there are, oldest first."""
        if self.checkpoint_dir is None or not self.checkpoint_dir.is_dir():
            return []
        found = [path for path in self.checkpoint_dir.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name[4:]))

    def run(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        resume: bool = False,
    ) -> dict[str, Any]:
        """Train and evaluate, and give the history.

        Args:
            train_loader: Batches to train on.
            val_loader: Batches to validate on after each epoch, and to evaluate on in the end.
            resume: Whether to go on with the last run, if there is one, from its newest checkpoint.

        Returns:
            The trainer's history; with an evaluator and validation data, ``"evaluation"`` besides,
            all that the evaluator gives.

        Raises:
            InputError: If a batch cannot be trained on.
            TrainingError: If training cannot go on.
        """
        trainer = self.trainer
        if self.checkpoint_dir is not None:
            self.folder = trainer.world.from_main(self._next(self.checkpoint_dir, resume))
            given = trainer.checkpoints
            trainer.checkpoints = Checkpoints(
                self.folder,
                every_epochs=given.every_epochs if given else 1,
                every_steps=given.every_steps if given else 0,
                keep_last=given.keep_last if given else 2,
                keep_best=given.keep_best if given else True,
            )
        trainer.callbacks.register(self)
        try:
            history = trainer.train(train_loader, val_loader, resume=resume)
        finally:
            trainer.callbacks.unregister(self)
        if self.evaluator is not None and val_loader is not None:
            history["evaluation"] = self.evaluator.evaluate(_share(val_loader, trainer.world))
        self._write(history)
        return history

    @hookimpl
    def epoch_finished(self, trainer: Trainer) -> None:
        """Write the history as it is."""
        self._write(trainer.history)

    def _next(self, folder: Path, resume: bool) -> Path:
        runs = self.runs()
        if resume and runs:
            return runs[-1]
        number = int(runs[-1].name[4:]) + 1 if runs else 1
        return folder / f"run-{number:03d}"

    def _write(self, history: Mapping[str, Any]) -> None:
        if self.folder is None or not self.trainer.world.is_main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".history.json"
        text = json.dumps(for_json(dict(history)), indent=1)
        aside.write_text(f"{text}\n", encoding="utf-8")
        aside.replace(self.folder / "history.json")


def _share(loader: Iterable[Any], world: World) -> Iterable[Any]:
    """Give what one of several processes evaluates of a loader that all have."""
    if world.size == 1:
        return loader
    from zoo_core.training.loading import Batches

    return (
        {"image": batch.images} | {KEYS[task]: found for task, found in batch.targets.items()}
        for batch in Batches(loader, world, seed=0).epoch(0)
        if batch.counts
    )
