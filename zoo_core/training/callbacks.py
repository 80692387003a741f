"""What may happen at the moments of a run, as pluggy hooks."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from zoo_core.errors import InputError
from zoo_core.extras import require
from zoo_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo_core.training.trainer import Trainer

hookspec = pluggy.HookspecMarker("zoo")


class _Moments:
    """The hooks. Arguments that a callback has no use for may be left out."""

    @hookspec
    def run_started(self, trainer: Trainer) -> None:
        """Before the first step, or the first after a checkpoint."""

    @hookspec
    def step_finished(self, trainer: Trainer, step: int, losses: Mapping[str, float]) -> None:
        """After a step; each task's loss over the whole batch, of all processes."""

    @hookspec
    def epoch_finished(self, trainer: Trainer, epoch: int, results: Mapping[str, float]) -> None:
        """After an epoch, the first being 1, and its validation, with what both gave."""

    @hookspec
    def checkpoint_saved(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint was written."""

    @hookspec
    def run_finished(self, trainer: Trainer, history: Mapping[str, Any]) -> None:
        """After the last step."""


def manager_of(callbacks: Iterable[object]) -> pluggy.PluginManager:
    """Give what knows the callbacks, and calls their hooks.

    Raises:
        InputError: If a callback implements a hook that there is not, or none.
    """
    manager = pluggy.PluginManager("zoo")
    manager.add_hookspecs(_Moments)
    for callback in callbacks:
        try:
            manager.register(callback)
        except pluggy.PluginValidationError as error:
            raise InputError(str(error)) from error
        if not manager.get_hookcallers(callback):
            raise InputError(
                f"{type(callback).__name__} is no callback: none of its methods is marked with "
                f"zoo_core.hookimpl"
            )
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = [name for name in vars(_Moments) if not name.startswith("_")]
        raise InputError(f"{error}; the hooks are {', '.join(known)}") from error
    return manager


class CSVLog:
    """Writes a line of results an epoch to a file, which a resumed run goes on with.

    Args:
        path: The file; it begins anew with a new run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @hookimpl
    def run_started(self, trainer: Trainer) -> None:
        """Begin the file, or cut off what a resumed run does again."""
        rows = []
        if trainer.epoch and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= trainer.epoch]
        self._write(rows)

    @hookimpl
    def epoch_finished(self, epoch: int, results: Mapping[str, float]) -> None:
        """Add a line."""
        with self.path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        self._write([*rows, {"epoch": epoch, **results}])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        aside = self.path.with_name(f".{self.path.name}")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        aside.replace(self.path)  # a run that is killed meanwhile loses no line


class TensorBoardLog:
    """Writes losses of each step, and results of each epoch, for TensorBoard.

    Args:
        folder: Where its files go.

    Raises:
        MissingDistributionError: If tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        require("tensorboard", "TensorBoardLog", tensorboard="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    @hookimpl
    def step_finished(self, step: int, losses: Mapping[str, float]) -> None:
        """Write the losses."""
        for task, loss in losses.items():
            self._writer.add_scalar(f"loss/{task}", loss, step)

    @hookimpl
    def epoch_finished(self, epoch: int, results: Mapping[str, float]) -> None:
        """Write the results."""
        for name, value in results.items():
            self._writer.add_scalar(name, value, epoch)

    @hookimpl
    def run_finished(self) -> None:
        """Write what waits."""
        self._writer.close()
