"""Experiments: runs in folders, checkpoints, and the whole history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo_core import hookimpl
from zoo_core.errors import InputError
from zoo_core.evaluation import Evaluator, Experiment
from zoo_core.training import Checkpoints, Trainer


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    pictures = torch.randn(40, 6, generator=generator) + labels[:, None]
    return DataLoader(TensorDataset(pictures, labels), batch_size=10, shuffle=True)


class StopError(Exception):
    pass


class StopAt:
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    @hookimpl
    def epoch_finished(self, epoch: int) -> None:
        if epoch == self.epoch:
            raise StopError


def experiment(folder: Path | None, **options: Any) -> Experiment:
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, seed=0, device="cpu", progress=False, **options
    )
    evaluator = Evaluator(model=model, device="cpu")
    return Experiment(model, trainer, evaluator, num_epochs=3, checkpoint_dir=folder)


def test_a_run_keeps_checkpoints_and_the_whole_history(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    history = one.run(loader(), loader())
    assert len(history["train_loss"]) == len(history["val_loss"]) == 3
    assert len(history["val_metrics"]["accuracy"]) == 3
    assert history["evaluation"]["accuracy"] == history["val_metrics"]["accuracy"][-1]
    assert one.folder == tmp_path / "run-001"
    assert json.loads((one.folder / "history.json").read_text()).keys() == history.keys()
    assert len(Checkpoints(one.folder).paths()) == 2


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    one = experiment(tmp_path)
    one.run(loader(), loader())
    one.run(loader(), loader())
    assert [path.name for path in one.runs()] == ["run-001", "run-002"]


def test_the_last_run_is_gone_on_with(tmp_path: Path) -> None:
    whole = experiment(tmp_path / "whole").run(loader(), loader())
    with pytest.raises(StopError):
        experiment(tmp_path / "cut", callbacks=[StopAt(2)]).run(loader(), loader())
    cut = experiment(tmp_path / "cut")
    assert cut.run(loader(), loader(), resume=True) == whole
    assert [path.name for path in cut.runs()] == ["run-001"]


def test_nothing_is_kept_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiment(None).run(loader())["val_loss"] == []
    assert not list(tmp_path.iterdir())


def test_parts_of_another_model_are_refused() -> None:
    one = experiment(None)
    with pytest.raises(InputError, match="the trainer is of another model"):
        Experiment(nn.Linear(1, 1), one.trainer)
    with pytest.raises(InputError, match="the evaluator is of another model"):
        Experiment(one.model, one.trainer, Evaluator(nn.Linear(1, 1)))
    with pytest.raises(InputError, match="num_epochs must be a positive whole number, not 0"):
        Experiment(one.model, one.trainer, num_epochs=0)
