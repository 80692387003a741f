"""One run of a trainer, from its first step or from a checkpoint to its last."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import Subset

from zoo_core.errors import CheckpointError, InputError, TrainingError
from zoo_core.evaluation.classification import ClassificationMetrics
from zoo_core.evaluation.modes import evaluating
from zoo_core.evaluation.segmentation import SegmentationMetrics
from zoo_core.evaluation.tasks import KEYS as TASKS
from zoo_core.evaluation.tasks import split_output
from zoo_core.training import state as states
from zoo_core.training.averaging import MovingAverage
from zoo_core.training.checkpoints import read_checkpoint
from zoo_core.training.loading import Batch, Batches, mixed
from zoo_core.training.parallel import Replica, like, whole

if TYPE_CHECKING:
    from zoo_core.training.trainer import Trainer

TERMINATED: Final = 143
_MOST_SKIPPED: Final = 50


class Run:
    """What a run has and does; the trainer says how."""

    def __init__(
        self, trainer: Trainer, train_loader: Iterable[Any], val_loader: Iterable[Any] | None
    ) -> None:
        self._trainer = trainer
        self._world = trainer.world
        self._loaders = (train_loader, val_loader)
        self._stack = ExitStack()
        self._is_stopping = False
        self._position = 0
        self._sums: dict[str, list[float]] = {}
        self._best = math.inf
        self._worse = 0
        self._skipped = 0
        self._is_over = False
        trainer.epoch = trainer.step = 0
        trainer.history = {"train_loss": [], "val_loss": [], "val_metrics": {}, "learning_rate": []}

    def __enter__(self) -> Self:
        trainer = self._trainer
        self._stack.enter_context(_terminating(self._stop))
        self._stack.enter_context(_flags_kept(trainer.model))
        try:
            self._prepare()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        trainer = self._trainer
        self._stack.enter_context(_frozen(trainer.model, trainer.frozen))
        if trainer.channels_last:
            trainer.model.to(memory_format=torch.channels_last)
        self._replica = Replica(
            trainer.model, trainer.optimizer, self._world, trainer.strategy, trainer.compile
        )
        self._stack.callback(self._replica.close)
        self._losses = trainer.losses.to(self._world.device)
        ignored = trainer.ignore_index
        if ignored is None:
            ignored = _ignored_by(getattr(self._loaders[0], "dataset", None))
        self._losses.ignored["segmentation"] = ignored
        self._learnt = list(self._losses.parameters())
        # Not as a warm-up has it at first.
        rate = _highest_rate(trainer.optimizer, "initial_lr")
        self._spreads = torch.optim.Adam(self._learnt, lr=rate) if self._learnt else None
        model = self._replica.model
        self._names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        self._average = None if trainer.ema is None else MovingAverage(model, trainer.ema)
        self._format = torch.channels_last if trainer.channels_last else torch.preserve_format

    def start(self, resume: bool | str | Path) -> None:
        """Begin, or take a checkpoint up.

        Raises:
            CheckpointError: If there is none to take up, or it does not fit.
        """
        trainer, world = self._trainer, self._world
        keeper = trainer.checkpoints
        if keeper is not None:
            self._on_main(lambda: keeper.start(resumes=bool(resume)))
        path = world.from_main(self._found(resume))
        seed = trainer.seed
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        self._seed = world.from_main(seed)
        if path is not None:
            self._restore(path)
            if keeper is not None and not isinstance(resume, bool):
                self._on_main(lambda: keeper.set_aside_after(path))
        elif world.size > 1:
            torch.default_generator.manual_seed(mixed(self._seed, "rank", world.rank))
            if world.device.type == "cuda":
                torch.cuda.manual_seed(mixed(self._seed, "rank", world.rank))
        train_loader, val_loader = self._loaders
        self._train = Batches(train_loader, world, self._seed)
        self._val = None if val_loader is None else Batches(val_loader, world, self._seed)
        if world.is_main:
            trainer.callbacks.hook.run_started(trainer=trainer)

    def _found(self, resume: bool | str | Path) -> Path | None:
        if not isinstance(resume, bool):
            return Path(resume)
        if not resume:
            return None
        if self._trainer.checkpoints is None:
            raise CheckpointError(
                "resume=True needs the trainer's checkpoints=FOLDER, or give the folder of one "
                "checkpoint"
            )
        paths = self._trainer.checkpoints.paths()
        return paths[-1] if paths else None

    def go(self) -> dict[str, Any]:
        """Run all epochs that are left, and give the history."""
        trainer = self._trainer
        while trainer.epoch < trainer.max_epochs and not self._is_over:
            self._run_epoch()
            self._finish_epoch()
        if self._average is not None:
            self._average.copy_to_model(self._average.averages)
        if self._world.is_main:
            trainer.callbacks.hook.run_finished(trainer=trainer, history=trainer.history)
        return trainer.history

    def _run_epoch(self) -> None:
        trainer, world = self._trainer, self._world
        number = trainer.epoch
        self._set_training()
        batches = self._train.epoch(number, self._position)
        with _bar(self._train, f"epoch {number + 1}", self._position, self._is_hidden) as bar:
            while window := list(islice(batches, trainer.accumulate)):
                # Without samples a batch norm counts nothing of this process.
                window = [b.to(world.device, self._format).counted() for b in window]
                losses = self._step(window)
                self._position += len(window)
                if not bar.disable:
                    told = {task: f"{loss:.4f}" for task, loss in losses.items()}
                    bar.set_postfix(told, refresh=False)
                    bar.update(world.size * sum(len(batch.images) for batch in window))
                if world.is_main:
                    trainer.callbacks.hook.step_finished(
                        trainer=trainer, step=trainer.step, losses=losses
                    )
                keeper = trainer.checkpoints
                if keeper and keeper.every_steps and trainer.step % keeper.every_steps == 0:
                    self._save()
                if self._must_stop():
                    if keeper is not None:
                        self._save()
                    raise SystemExit(TERMINATED)
        if not self._position:
            raise InputError("the training loader has no batches")

    def _step(self, window: list[Batch]) -> dict[str, float]:
        """Take one step, and give each task's loss."""
        trainer, world, losses = self._trainer, self._world, self._losses
        # Before the forward, as a GPU is waited for here.
        counts = self._counted(window).tolist()
        summed = torch.zeros(len(TASKS), dtype=torch.float64, device=world.device)
        for number, batch in enumerate(window, start=1):
            is_last = number == len(window)
            with nullcontext() if is_last else self._replica.accumulating():
                with trainer.amp.autocast(), _lone_pictures_told(batch.images):
                    outputs = split_output(self._replica.call(batch.images))
                sums = losses.sums(outputs, self._targets(batch, outputs))
                loss = self._loss(outputs, sums, counts, 1 / len(window))
                trainer.amp.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for index, task in enumerate(TASKS):
                if task in sums and batch.counts:
                    summed[index] += sums[task].detach()
        totals = world.sum(summed).tolist()
        averages = {
            task: total / count
            for task, total, count in zip(TASKS, totals, counts, strict=True)
            if count > 0
        }
        is_finite = all(map(math.isfinite, averages.values()))
        if not is_finite and not trainer.amp.scaler.is_enabled():
            raise self._not_finite(averages, window)
        self._update(averages, window)
        trainer.step += 1
        for task, total, count in zip(TASKS, totals, counts, strict=True):
            if task in averages and is_finite:
                sums_of = self._sums.setdefault(task, [0.0, 0.0])
                sums_of[0] += total
                sums_of[1] += count
        return averages

    def _counted(self, window: list[Batch]) -> Tensor:
        """Give what each task's losses are averages of, over the whole of a step."""
        counts = torch.zeros(len(TASKS), dtype=torch.float64, device=self._world.device)
        for batch in window:
            if not batch.counts:
                continue
            found = self._losses.counts(batch.targets)
            for index, task in enumerate(TASKS):
                if task in found:
                    counts[index] += found[task]
        return self._world.sum(counts)

    def _targets(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the targets of the tasks that the model does."""
        targets = {task: target for task, target in batch.targets.items() if task in outputs}
        if not targets:
            raise InputError(
                f"the model gives {' and '.join(outputs)}, and the batch has targets of "
                f"{' and '.join(batch.targets)} only"
            )
        return targets

    def _loss(
        self,
        outputs: Mapping[str, Tensor],
        sums: Mapping[str, Tensor],
        counts: Sequence[float],
        share: float,
    ) -> Tensor:
        """Give what this process's backward begins with: its part of the average, and no less.

        Gradients are averaged over processes, so each part is as many times as large. Outputs that
        nothing is known of count nothing, but all parameters take part.
        """
        parts = {}
        for index, task in enumerate(TASKS):
            if task in sums:
                factor = self._world.size / counts[index] if counts[index] > 0 else 0.0
                parts[task] = sums[task] * factor
        loss = self._losses.total(parts, share)
        for task, output in outputs.items():
            if task not in sums:
                loss = loss + output.float().sum() * 0
        return loss

    def _update(self, averages: Mapping[str, float], window: list[Batch]) -> None:
        """Step, unless the gradients have overflowed."""
        trainer = self._trainer
        parameters = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        for spread in self._learnt:
            if spread.grad is not None:
                spread.grad = self._world.sum(spread.grad) / self._world.size
        if trainer.amp.unscale([*parameters, *self._learnt]):
            self._skipped = 0
            if trainer.gradient_clip_value is not None:
                nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip_value)
            trainer.optimizer.step()
            if self._spreads is not None:
                self._spreads.step()
            if self._average is not None:
                self._average.update()
        else:
            self._skipped += 1
            if self._skipped >= _MOST_SKIPPED:
                raise self._not_finite(averages, window)
        trainer.optimizer.zero_grad()
        if self._spreads is not None:
            self._spreads.zero_grad()
        scheduler = trainer.scheduler
        if scheduler is None or isinstance(scheduler, ReduceLROnPlateau):
            return
        if trainer.scheduler_interval == "step":
            scheduler.step()

    def _not_finite(self, averages: Mapping[str, float], window: list[Batch]) -> TrainingError:
        trainer = self._trainer
        trainer.optimizer.zero_grad()
        told = ", ".join(f"{task} {loss}" for task, loss in averages.items())
        indices = [index for batch in window for index in batch.indices]
        which = f"; samples {', '.join(map(str, indices))}" if indices else ""
        what = "the loss is not finite"
        if self._skipped:
            what = f"gradients overflowed {self._skipped} times in a row"
        keeper = trainer.checkpoints
        paths = keeper.paths() if keeper else []
        kept = f"; the last good checkpoint is {paths[-1]}" if paths else ""
        return TrainingError(
            f"{what} at step {trainer.step + 1} (epoch {trainer.epoch + 1}): {told}{which}{kept}"
        )

    def _finish_epoch(self) -> None:
        """Validate, note, and write a checkpoint."""
        trainer, history = self._trainer, self._trainer.history
        averages = {task: total / count for task, (total, count) in self._sums.items()}
        results = {"train_loss": self._weighed(averages)}
        results |= {f"train_loss/{task}": loss for task, loss in averages.items()}
        history["train_loss"].append(results["train_loss"])
        rate = _highest_rate(trainer.optimizer)
        history["learning_rate"].append(rate)
        results["learning_rate"] = rate
        number = trainer.epoch + 1
        score = None
        is_due = number % trainer.validation_freq == 0 or number == trainer.max_epochs
        if self._val is not None and is_due:
            score, metrics = self._validate()
            history["val_loss"].append(score)
            _append(history["val_metrics"], metrics)
            results |= {"val_loss": score} | dict(_numbers(metrics))
            self._worse = 0 if score < self._best else self._worse + 1
            self._best = min(self._best, score)
            patience = trainer.early_stopping_patience
            stops = patience is not None and self._worse >= patience
            self._is_over = self._world.from_main(stops)
        self._schedule(score)
        trainer.epoch = number
        self._position = 0
        self._sums = {}
        if self._world.is_main:
            trainer.callbacks.hook.epoch_finished(trainer=trainer, epoch=number, results=results)
        keeper = trainer.checkpoints
        is_last = self._is_over or number == trainer.max_epochs
        if keeper and keeper.every_epochs and (number % keeper.every_epochs == 0 or is_last):
            self._save(score)

    def _schedule(self, score: float | None) -> None:
        trainer = self._trainer
        scheduler = trainer.scheduler
        if isinstance(scheduler, ReduceLROnPlateau):
            if score is not None:
                scheduler.step(score)
        elif scheduler is not None and trainer.scheduler_interval == "epoch":
            scheduler.step()

    @torch.no_grad()
    def _weighed(self, averages: Mapping[str, float]) -> float:
        if not averages:
            return math.nan
        device = self._world.device
        given = {task: torch.tensor(loss, device=device) for task, loss in averages.items()}
        return float(self._losses.total(given))

    def _validate(self) -> tuple[float, dict[str, Any]]:
        """Give the loss on the validation data, and the metrics of each task."""
        trainer, world, losses = self._trainer, self._world, self._losses
        assert self._val is not None
        metrics: dict[str, ClassificationMetrics | SegmentationMetrics] = {}
        totals = torch.zeros(2, len(TASKS), dtype=torch.float64, device=world.device)
        averaged = nullcontext() if self._average is None else self._average.applied()
        with torch.no_grad(), averaged, evaluating(self._replica.model):
            for given in self._val.epoch(0):
                batch = given.to(world.device, self._format)
                with trainer.amp.autocast():
                    outputs = split_output(self._replica.call(batch.images))
                targets = self._targets(batch, outputs)
                if not batch.counts:
                    continue
                sums, counts = losses.sums(outputs, targets), losses.counts(targets)
                for index, task in enumerate(TASKS):
                    if task not in targets:
                        continue
                    totals[0, index] += sums[task]
                    totals[1, index] += counts[task]
                    if task not in metrics:
                        metrics[task] = self._metrics(task, outputs[task])
                    metrics[task].update(outputs[task].float(), targets[task])
        totals = world.sum(totals)
        averages = {
            task: float(totals[0, index] / totals[1, index])
            for index, task in enumerate(TASKS)
            if totals[1, index] > 0
        }
        results: dict[str, Any] = {}
        for task in TASKS:
            if task in averages:
                found = metrics[task]
                found.synchronize()
                results[task] = found.compute()
        if not results:
            raise InputError("the validation loader has no targets that count")
        return self._weighed(averages), results if len(results) > 1 else next(
            iter(results.values())
        )

    def _metrics(self, task: str, output: Tensor) -> ClassificationMetrics | SegmentationMetrics:
        ignored = self._losses.ignored[task]
        if task == "classification":
            return ClassificationMetrics(output.shape[1], ignore_index=ignored)
        return SegmentationMetrics(output.shape[1], ignore_index=ignored)

    def _set_training(self) -> None:
        self._replica.model.train()
        self._replica.call.train()
        for name in self._trainer.frozen:
            self._replica.model.get_submodule(name).eval()

    def _save(self, score: float | None = None) -> None:
        trainer, world = self._trainer, self._world
        keeper = trainer.checkpoints
        assert keeper is not None
        model = self._replica.model
        tensors = {"model": states.model_state(model)}
        optimizing, rest = states.optimizer_state(trainer.optimizer, self._names)
        tensors["optimizer"] = optimizing
        state: dict[str, Any] = {
            "epoch": trainer.epoch,
            "position": self._position,
            "step": trainer.step,
            "seed": self._seed,
            "sums": self._sums,
            "best": self._best,
            "worse": self._worse,
            "is_over": self._is_over,
            "skipped": self._skipped,
            "history": trainer.history,
            "optimizer": rest,
            "scaler": trainer.amp.state_dict(),
            "scheduler": None if trainer.scheduler is None else trainer.scheduler.state_dict(),
            "processes": world.size,
        }
        if self._average is not None:
            tensors["average"] = {name: whole(t) for name, t in self._average.averages.items()}
            state["average_steps"] = self._average.steps
        if self._spreads is not None:
            names: dict[Tensor, str] = {p: name for name, p in self._losses.named_parameters()}
            tensors["losses"] = states.model_state(self._losses)
            tensors["losses_optimizer"], state["losses_optimizer"] = states.optimizer_state(
                self._spreads, names
            )
        drawn = world.gather(states.generators_state(world.device))
        for rank, (values, words) in enumerate(drawn):
            tensors[f"generators-{rank}"] = values
            state[f"generators-{rank}"] = words
        path = self._on_main(lambda: keeper.save(trainer.step, state, tensors, score))
        if world.is_main:
            trainer.callbacks.hook.checkpoint_saved(trainer=trainer, path=path)

    def _restore(self, path: Path) -> None:
        trainer, world = self._trainer, self._world
        checkpoint = read_checkpoint(path)
        state, tensors = checkpoint.state, checkpoint.tensors
        model = self._replica.model
        states.restore_model(model, tensors["model"])
        states.restore_optimizer(
            trainer.optimizer, self._names, tensors["optimizer"], state["optimizer"]
        )
        for what, ours, theirs in (
            ("a scheduler", trainer.scheduler is not None, state["scheduler"] is not None),
            ("ema", self._average is not None, "average" in tensors),
            ("learnt task weights", self._spreads is not None, "losses" in tensors),
            ("a float16 scale", trainer.amp.scaler.is_enabled(), bool(state["scaler"])),
        ):
            if ours != theirs:
                has, lacks = ("checkpoint", "trainer") if theirs else ("trainer", "checkpoint")
                raise CheckpointError(f"{path}: the {has} has {what}, and the {lacks} has none")
        if trainer.scheduler is not None:
            trainer.scheduler.load_state_dict(state["scheduler"])
        if self._average is not None:
            own = self._average.averages
            for name, value in tensors["average"].items():
                own[name].copy_(like(value, own[name]))
            self._average.steps = state["average_steps"]
        if self._spreads is not None:
            names: dict[Tensor, str] = {p: name for name, p in self._losses.named_parameters()}
            states.restore_model(self._losses, tensors["losses"])
            states.restore_optimizer(
                self._spreads, names, tensors["losses_optimizer"], state["losses_optimizer"]
            )
        trainer.amp.load_state_dict(state["scaler"])
        trainer.epoch, trainer.step = state["epoch"], state["step"]
        trainer.history = state["history"]
        self._position, self._sums = state["position"], state["sums"]
        self._best, self._worse = state["best"], state["worse"]
        self._is_over, self._skipped = state["is_over"], state["skipped"]
        self._seed = state["seed"]
        if f"generators-{world.rank}" in tensors:
            key = f"generators-{world.rank}"
            states.restore_generators(world.device, tensors[key], state[key])

    def _on_main(self, do: Any) -> Any:
        """Let the main process do something, and all know how that went."""
        outcome: Any = None
        if self._world.is_main:
            try:
                outcome = do()
            except CheckpointError as error:
                outcome = error
        outcome = self._world.from_main(outcome)
        if isinstance(outcome, CheckpointError):
            raise outcome
        return outcome

    def _must_stop(self) -> bool:
        if self._world.size == 1:
            return self._is_stopping
        flag = torch.tensor([float(self._is_stopping)], device=self._world.device)
        return bool(self._world.sum(flag) > 0)

    def _stop(self) -> None:
        self._is_stopping = True

    @property
    def _is_hidden(self) -> bool | None:
        """Whether there is no bar; ``None`` is tqdm's word for: unless on a terminal."""
        progress = self._trainer.progress if self._world.is_main else False
        return None if progress is None else not progress


def _highest_rate(optimizer: Optimizer, key: str = "lr") -> float:
    return max(float(group.get(key, group["lr"])) for group in optimizer.param_groups)


def _ignored_by(dataset: object) -> int:
    """Give the mask value of pixels that count nothing; one that no mask has, if all count."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    ignored: int | None = getattr(dataset, "ignore_index", 255)
    return -100 if ignored is None else ignored


def _append(history: dict[str, Any], metrics: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            _append(history.setdefault(name, {}), value)
        else:
            history.setdefault(name, []).append(value)


def _numbers(metrics: Mapping[str, Any], prefix: str = "val") -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value


@contextmanager
def _bar(batches: Batches, title: str, done: int, is_hidden: bool | None) -> Iterator[Any]:
    """Show how many pictures of an epoch were seen, and how fast."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    total = batches.pictures
    seen = total * done // len(batches) if total and done else 0
    with tqdm(
        total=total, initial=seen, desc=title, unit="img", leave=False, disable=is_hidden
    ) as bar:
        yield bar


@contextmanager
def _lone_pictures_told(images: Tensor) -> Iterator[None]:
    """Say what to do about a batch whose only picture a batch norm cannot train on."""
    try:
        yield
    except ValueError as error:
        if len(images) == 1 and "more than 1 value per channel" in str(error):
            raise InputError(
                "a batch norm cannot train on a batch of one picture, which it sees as one pixel; "
                "take another batch size, larger pictures, or drop_last=True"
            ) from error
        raise


@contextmanager
def _terminating(stop: Any) -> Iterator[None]:
    """Note SIGTERM for a while, instead of dying of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _frozen(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Train nothing of some submodules for a while."""
    parameters = [p for name in names for p in model.get_submodule(name).parameters()]
    frozen = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def _flags_kept(model: nn.Module) -> Iterator[None]:
    """Give each module its own training flag back."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
