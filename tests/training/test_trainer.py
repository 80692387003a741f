"""The trainer on one process: what it learns, counts, keeps and refuses."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

import zoo_core as zoo
from zoo_core import hookimpl
from zoo_core.errors import InputError, TrainingError
from zoo_core.training import CSVLog, Losses, Trainer, cosine_schedule, layerwise


def blobs(count: int = 60, seed: int = 0) -> TensorDataset:
    """Points around three centres."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    return TensorDataset(centres[labels] + torch.randn(count, 4, generator=generator), labels)


def network(dropout: float = 0.0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def trainer_of(model: nn.Module, **options: Any) -> Trainer:
    options = {"max_epochs": 3, "seed": 0, "device": "cpu", "progress": False} | options
    optimizer = options.pop("optimizer", None) or torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9
    )
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, **options)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_does_what_a_loop_by_hand_does() -> None:
    model, by_hand = network(), network()
    loader = DataLoader(blobs(), batch_size=16)
    history = trainer_of(model, gradient_clip_value=0.5).train(loader)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(3):
        total = 0.0
        for pictures, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(by_hand(pictures), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / 60)
    for found, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert history["train_loss"] == pytest.approx(losses, rel=1e-6)


def test_the_history_has_an_entry_for_each_epoch_and_validation() -> None:
    loader = DataLoader(blobs(), batch_size=16, shuffle=True)
    val = DataLoader(blobs(30, seed=1), batch_size=16)
    model = network()
    history = trainer_of(model, max_epochs=5, validation_freq=2).train(loader, val)
    assert len(history["train_loss"]) == len(history["learning_rate"]) == 5
    assert len(history["val_loss"]) == 3  # after epochs 2, 4 and the last
    assert len(history["val_metrics"]["accuracy"]) == 3
    assert history["val_metrics"]["accuracy"][-1] > 0.8
    pictures, labels = blobs(30, seed=1).tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(pictures), labels)
        right = (model(pictures).argmax(1) == labels).float().mean()
    assert history["val_loss"][-1] == pytest.approx(float(loss), rel=1e-5)
    assert history["val_metrics"]["accuracy"][-1] == pytest.approx(float(right))
    json.dumps(history)


def test_early_stopping_counts_validations() -> None:
    loader = DataLoader(blobs(), batch_size=16)
    model = network()
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = trainer_of(model, optimizer=frozen, max_epochs=50, early_stopping_patience=3)
    assert len(trainer.train(loader, loader)["val_loss"]) == 4


@pytest.mark.parametrize("batch", [8, 16])
def test_accumulating_is_one_large_batch(batch: int) -> None:
    """Also where the last window is short, and batches ignore different numbers of samples."""
    data = blobs(56)
    data.tensors[1][3:20] = -100
    one, other = network(), network()
    trainer_of(one, accumulate=48 // batch).train(DataLoader(data, batch_size=batch))
    trainer_of(other).train(DataLoader(data, batch_size=48))
    for found, wanted in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_a_seed_decides_all_and_the_global_generator_nothing() -> None:
    models = []
    for global_seed in (1, 2):
        model = network()
        torch.manual_seed(global_seed)
        trainer_of(model).train(DataLoader(blobs(), batch_size=16, shuffle=True))
        models.append(model)
    assert equal(*models)
    other = network()
    trainer_of(other, seed=1).train(DataLoader(blobs(), batch_size=16, shuffle=True))
    assert not equal(models[0], other)


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Draws from every global generator."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import random

        import numpy as np

        noise = random.random() + np.random.rand() + float(torch.rand(()))
        return torch.full((4,), noise + index), torch.tensor(index % 3)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_change_nothing(persistent: bool) -> None:
    models = []
    for workers in (0, 2):
        model = network()
        loader = DataLoader(
            Noisy(), batch_size=5, shuffle=True, num_workers=workers,
            persistent_workers=persistent and workers > 0,
        )  # fmt: skip
        trainer_of(model).train(loader)
        models.append(model)
    assert equal(*models)


def test_samples_differ_from_epoch_to_epoch() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().sort(0).values)
            result: Tensor = self.inner(x)
            return result

    trainer_of(Watching(), max_epochs=2).train(DataLoader(Noisy(), batch_size=20))
    first, second = seen
    assert not torch.equal(first, second)


def multitask() -> zoo.MultitaskModel:
    return zoo.build(
        "resnet18+linear", num_classes_classification=3, num_classes_segmentation=4, seed=0
    )


class Pictures(Dataset[dict[str, Tensor]]):
    """Both targets, of which every third sample lacks one."""

    ignore_index = 9

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(4, (32, 32), generator=generator)
        mask[:4] = 9
        label = torch.tensor(index % 3)
        if index % 3 == 1:
            label = torch.tensor(-100)
        if index % 3 == 2:
            mask = torch.full_like(mask, 9)
        return {"image": torch.randn(3, 32, 32, generator=generator), "label": label, "mask": mask}


def test_two_tasks_are_averaged_over_what_each_has() -> None:
    model, by_hand = multitask(), multitask()
    trainer = Trainer(
        model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01), max_epochs=1, seed=0,
        device="cpu", task_weights={"segmentation": 0.5}, progress=False,
    )  # fmt: skip
    loader = DataLoader(Pictures(), batch_size=6)
    history = trainer.train(loader, loader)
    [batch] = loader
    output = by_hand.train()(batch["image"])
    cross = nn.CrossEntropyLoss()
    classification = cross(output["classification"], batch["label"])
    segmentation = nn.CrossEntropyLoss(ignore_index=9)(output["segmentation"], batch["mask"])
    loss = classification + 0.5 * segmentation
    loss.backward()
    assert history["train_loss"] == [pytest.approx(loss.item(), rel=1e-5)]
    with torch.no_grad():
        for parameter in by_hand.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    for found, wanted in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
    assert set(history["val_metrics"]) == {"classification", "segmentation"}


def test_task_weights_can_be_learnt() -> None:
    model = multitask()
    trainer = Trainer(
        model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01), max_epochs=2, seed=0,
        device="cpu", task_weights="uncertainty", progress=False,
    )  # fmt: skip
    trainer.train(DataLoader(Pictures(), batch_size=3))
    assert trainer.losses.log_variances is not None
    assert all(float(value.detach()) != 0 for value in trainer.losses.log_variances.values())


def test_learnt_task_weights_do_not_stay_in_the_warm_up() -> None:
    model = multitask()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = Trainer(
        model, optimizer=optimizer, scheduler=cosine_schedule(optimizer, 10_000, 5_000),
        scheduler_interval="step", max_epochs=2, seed=0, device="cpu",
        task_weights="uncertainty", progress=False,
    )  # fmt: skip
    history = trainer.train(DataLoader(Pictures(), batch_size=3))
    assert history["learning_rate"][-1] < 1e-4
    assert trainer.losses.log_variances is not None
    # Adam's first steps are as long as its learning rate.
    assert all(
        float(value.detach().abs()) > 0.01 for value in trainer.losses.log_variances.values()
    )


def test_the_learning_rate_told_is_the_highest() -> None:
    model = network()
    groups = layerwise(model, lr=0.1, decay=0.5)
    optimizer = torch.optim.SGD(groups, lr=0.1)
    history = trainer_of(model, optimizer=optimizer).train(DataLoader(blobs(), batch_size=16))
    assert optimizer.param_groups[0]["lr"] < 0.1
    assert history["learning_rate"] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("criterion", ["weights", "smoothing", "both", "focal"])
def test_criteria_are_averaged_as_over_one_batch(criterion: str) -> None:
    class Focal(nn.Module):
        def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
            likely = logits.log_softmax(1).gather(1, targets[:, None])
            return -((1 - likely.exp()) ** 2 * likely).mean()

    weight = torch.tensor([1.0, 2.0, 5.0])
    made: dict[str, Callable[[], nn.Module]] = {
        "weights": lambda: nn.CrossEntropyLoss(weight),
        "smoothing": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
        "both": lambda: nn.CrossEntropyLoss(weight, label_smoothing=0.1),
        "focal": Focal,
    }
    data = blobs(50)
    models = []
    for batch, accumulate in ((50, 1), (12, 5)):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Trainer(
            model, made[criterion](), optimizer, max_epochs=2, accumulate=accumulate, seed=0,
            device="cpu", progress=False,
        ).train(DataLoader(data, batch_size=batch))  # fmt: skip
        models.append(model)
    for found, wanted in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_an_average_of_the_weights_is_what_is_validated_and_left() -> None:
    loader = DataLoader(blobs(), batch_size=16)
    seen: list[dict[str, Tensor]] = []

    class Watch:
        @hookimpl
        def step_finished(self, trainer: Trainer) -> None:
            seen.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})

    model = network()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = trainer_of(model, ema=0.5, callbacks=[Watch()]).train(loader, loader)
    average = start
    for step, weights in enumerate(seen, start=1):
        keep = min(0.5, (1 + step) / (10 + step))
        average = {name: keep * average[name] + (1 - keep) * weights[name] for name in average}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), average[name])
    pictures, labels = blobs().tensors
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(pictures), labels)
    assert history["val_loss"][-1] == pytest.approx(float(loss), rel=1e-5)


def test_frozen_parts_stay_as_they_are() -> None:
    model = multitask()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    head = model.classifier
    assert head is not None
    weight = head.weight.detach().clone()
    Trainer(
        model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1),
        max_epochs=1, frozen=["backbone"], device="cpu", progress=False,
    ).train(DataLoader(Pictures(), batch_size=3))  # fmt: skip
    after = model.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(head.weight, weight)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_schedulers_are_stepped_as_told() -> None:
    rates = []
    for interval in ("epoch", "step"):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scheduler = CosineAnnealingLR(optimizer, 3 if interval == "epoch" else 12)
        trainer = trainer_of(
            model, optimizer=optimizer, scheduler=scheduler, scheduler_interval=interval
        )
        trainer.train(DataLoader(blobs(), batch_size=16))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0, 0])
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    plateau = ReduceLROnPlateau(optimizer, patience=0, threshold=0.5, eps=0)
    loader = DataLoader(blobs(), batch_size=16)
    trainer_of(model, optimizer=optimizer, scheduler=plateau).train(loader, loader)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_learns_the_same(dtype: torch.dtype) -> None:
    loader = DataLoader(blobs(), batch_size=16, shuffle=True)
    models = [network(), network()]
    trainer_of(models[0]).train(loader)
    trainer_of(models[1], mixed_precision=dtype).train(loader)
    bound = 0.02 if dtype == torch.float16 else 0.1
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert float((one - other).detach().abs().max()) < bound


def test_a_loss_that_is_not_finite_ends_the_run_before_it_harms() -> None:
    data = blobs()
    data.tensors[0][37] = math.inf
    model = network()
    trainer = trainer_of(model)
    with pytest.raises(TrainingError) as failed:
        trainer.train(DataLoader(data, batch_size=16))
    assert str(failed.value) == (
        "the loss is not finite at step 3 (epoch 1): classification nan; samples "
        + ", ".join(map(str, range(32, 48)))
    )
    assert trainer.step == 2
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_model_keeps_its_modes() -> None:
    model = network()
    model[2].eval()
    trainer_of(model).train(DataLoader(blobs(), batch_size=16))
    assert model.training
    assert not model[2].training


def test_callbacks_are_told() -> None:
    told: list[str] = []

    class Listener:
        @hookimpl
        def run_started(self) -> None:
            told.append("start")

        @hookimpl
        def step_finished(self, step: int, losses: Mapping[str, float]) -> None:
            told.append(f"step {step} {sorted(losses)}")

        @hookimpl
        def epoch_finished(self, epoch: int, results: Mapping[str, float]) -> None:
            told.append(f"epoch {epoch}")
            assert {"train_loss", "val_loss", "val/accuracy", "learning_rate"} <= set(results)

        @hookimpl
        def run_finished(self, history: Mapping[str, Any]) -> None:
            told.append(f"end {len(history['train_loss'])}")

    loader = DataLoader(blobs(30), batch_size=15)
    trainer_of(network(), max_epochs=1, callbacks=[Listener()]).train(loader, loader)
    steps = ["step 1 ['classification']", "step 2 ['classification']"]
    assert told == ["start", *steps, "epoch 1", "end 1"]


def test_results_are_written_as_csv(tmp_path: Path) -> None:
    loader = DataLoader(blobs(), batch_size=16)
    path = tmp_path / "log.csv"
    history = trainer_of(network(), callbacks=[CSVLog(path)]).train(loader, loader)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Any:
        return iter(blobs(32))


def test_any_loader_of_batches_trains() -> None:
    models = []
    for loader in (
        DataLoader(blobs(32), batch_size=8),
        DataLoader(Stream(), batch_size=8),
        list(DataLoader(blobs(32), batch_size=8)),
    ):
        model = network()
        trainer_of(model).train(loader)
        models.append(model)
    assert equal(models[0], models[1])
    assert equal(models[0], models[2])


def test_a_failed_write_leaves_the_lines_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = DataLoader(blobs(), batch_size=16)
    path = tmp_path / "log.csv"
    trainer_of(network(), max_epochs=1, callbacks=[CSVLog(path)]).train(loader)
    written = path.read_text()

    class Failing(csv.DictWriter):  # type: ignore[type-arg]
        def writerows(self, rows: Any) -> None:
            raise OSError("no space left")

    monkeypatch.setattr(csv, "DictWriter", Failing)
    with pytest.raises(OSError, match="no space left"):
        CSVLog(path).epoch_finished(epoch=2, results={"train_loss": 1.0})
    assert path.read_text() == written


def test_a_lone_picture_that_a_batch_norm_cannot_train_on_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    message = "a batch norm cannot train on a batch of one picture.*; take another batch size"
    with pytest.raises(InputError, match=message):
        trainer_of(model).train(DataLoader(blobs(5), batch_size=4))


@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_a_target_that_is_no_class_is_told(weight: Tensor | None) -> None:
    data = TensorDataset(torch.zeros(2, 4), torch.tensor([0, 7]))
    trainer = Trainer(network(), nn.CrossEntropyLoss(weight), device="cpu", progress=False)
    message = "classification: a target is class 7, but there are 3, 0 to 2"
    with pytest.raises(InputError, match=message):
        trainer.train(DataLoader(data, batch_size=2))


class Misspelt:
    @hookimpl
    def epoch_ended(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, "max_epochs must be a positive whole number, not 0"),
        ({"validation_freq": 1.5}, "validation_freq must be a positive whole number, not 1.5"),
        ({"early_stopping_patience": 0}, "early_stopping_patience must be a positive"),
        ({"gradient_clip_value": 0}, "gradient_clip_value must be above 0, not 0"),
        ({"strategy": "dp"}, "strategy is 'ddp' or 'fsdp', not 'dp'"),
        ({"scheduler_interval": "batch"}, "scheduler_interval is 'epoch' or 'step', not 'batch'"),
        ({"ema": 1.0}, "ema is a share from 0 to below 1"),
        ({"frozen": ["backbone"]}, "frozen: the model has no submodule 'backbone'"),
        ({"task_weights": "learned"}, "task weights are numbers by task, or 'uncertainty'"),
        (
            {"task_weights": {"detection": 1}},
            "and 'segmentation', not 'detection'",
        ),
        ({"mixed_precision": torch.float64}, r"not torch\.float64"),
        ({"device": "cuda"}, "torch finds no GPU"),
        ({"callbacks": [object()]}, "object is no callback"),
        ({"callbacks": [Misspelt()]}, "the hooks are run_started, step_finished, epoch_finished"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer_of(network(), **options).train(DataLoader(blobs(), batch_size=16))


def test_parts_that_do_not_belong_together_are_refused() -> None:
    model = network()
    other = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(InputError, match="parameters that are not the model's"):
        trainer_of(model, optimizer=other)
    with pytest.raises(InputError, match="the scheduler is of another optimizer"):
        trainer_of(model, scheduler=CosineAnnealingLR(other, 3))
    with pytest.raises(InputError, match="reduction='none'; it must give one number"):
        Losses(nn.CrossEntropyLoss(reduction="none"))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "the training loader has no batches"),
        ([torch.ones(2, 4)], "a batch must be a mapping with 'image'"),
        ([(torch.ones(2, 4), torch.zeros(2, 3, 3).long())], "the model gives classification, and"),
        (
            DataLoader(blobs(), sampler=DistributedSampler(blobs(), num_replicas=2, rank=0)),
            "leave it out: the Trainer gives each process its part",
        ),
    ],
)
def test_batches_that_cannot_be_trained_on_are_refused(loader: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer_of(network()).train(loader)
