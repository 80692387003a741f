"""A run as ``zoo train`` makes it: data, model and trainer from plain settings, into a folder."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Subset

from zoo_core.building import build
from zoo_core.data.base import SampleDataset
from zoo_core.data.examining import count_pixels
from zoo_core.data.opening import DataFolder
from zoo_core.data.transforms import Transforms
from zoo_core.errors import InputError, OptionError
from zoo_core.evaluation import Evaluator, UnpaddedSampler, set_seed
from zoo_core.models import MultitaskModel
from zoo_core.training.checkpoints import Checkpoints, read_checkpoint
from zoo_core.training.losses import TaskWeights
from zoo_core.training.precision import HALF
from zoo_core.training.schedules import cosine_schedule, layerwise
from zoo_core.training.settings import Settings
from zoo_core.training.state import restore_model
from zoo_core.training.trainer import Scheduler, Trainer
from zoo_core.training.world import join

_MOST_WORKERS: Final = 8


class Job:
    """Everything that a run needs, ready to go.

    Args:
        settings: What was asked for.
        parts: Options of the model's parts, as ``zoo.build`` takes them.
        folder: Where the run's checkpoints go.
        callbacks: What is told of the run.

    Attributes:
        model: What is trained.
        trainer: What trains it.
        train_data: What it is trained on.
        val_data: What it is validated on; ``None`` for nothing.

    Raises:
        ZooError: If the data, the recipe or a setting cannot be.
    """

    def __init__(
        self,
        settings: Settings,
        parts: dict[str, Any],
        folder: Path,
        callbacks: Iterable[object] = (),
    ) -> None:
        self.settings = settings
        self.world = join(settings.device)
        self._workers = count_workers(settings.workers)
        source = DataFolder(settings.data)
        names = _lines(settings.mask_names)
        with self.world.main_first():  # one process fetches weights, and the others find them
            pixels = self._count_pixels(source, names)
            mask_classes = None if pixels is None else len(pixels)
            self.model = _model(settings, parts, source, mask_classes)
        self._open(source, names, mask_classes)
        self.trainer = self._trainer(folder, pixels, callbacks)

    def run(self, resume: bool | Path) -> dict[str, Any]:
        """Train, leave the best weights in the model, and give the history.

        With ``resume`` it goes on from the newest checkpoint, or from the one in that folder.

        The best are those with the lowest validation loss; without validation, the last.
        """
        history = self.trainer.train(self._train_loader, self._val_loader, resume=resume)
        assert self.trainer.checkpoints is not None
        best = self.trainer.checkpoints.best()
        if best is not None:
            tensors = read_checkpoint(best).tensors
            restore_model(self.model, tensors["model"] | tensors.get("average", {}))
        self.model.eval()
        return history

    def evaluate(self) -> Evaluator | None:
        """Measure the model on the validation data; every process has to ask."""
        if self.val_data is None:
            return None
        return evaluate(
            self.model, self.val_data, self.settings.batch_size, self._workers,
            device=self.world.device, ignore_index=self.settings.ignore_index,
        )  # fmt: skip

    def _count_pixels(self, source: DataFolder, names: Sequence[str]) -> list[int] | None:
        """Give the pixels of each class in masks; the numbers are 0 where nobody has to count."""
        settings = self.settings
        if source.kind == "classification":
            for option, given in (
                ("--mask-names", settings.mask_names), ("--seg-classes", settings.seg_classes),
            ):  # fmt: skip
                if given is not None:
                    raise OptionError(f"{option}: {source.root} has no masks")
            return None
        known = settings.seg_classes or len(names)
        if names and known != len(names):
            raise OptionError(f"--seg-classes is {known}, but --mask-names has {len(names)}")
        if known and not settings.balance:
            return [0] * known
        masks = [job.mask for job in source.part(source.training()).jobs if job.mask is not None]
        found: Counter[int] = Counter()
        for counts in _shown(count_pixels(masks, self._workers or 1), len(masks), "masks"):
            found.update(counts)
        found.pop(settings.ignore_index, None)
        if not found:
            raise InputError(f"{source.root}: the masks have no pixel that counts")
        return [found[number] for number in range(known or max(2, max(found) + 1))]

    def _open(self, source: DataFolder, names: Sequence[str], mask_classes: int | None) -> None:
        settings, model = self.settings, self.model
        preprocessing = model.preprocessing
        assert preprocessing is not None
        channels = len(preprocessing.mean)
        if channels not in (1, 3):
            raise OptionError(f"--in-channels is {channels}; pictures give 1 (grey) or 3 (RGB)")
        classes = source.classes or None
        if classes and model.labels.get("classification", classes) != classes:
            classes = _as_in_model(model, source)

        def opened(split: str | None, augment: bool) -> SampleDataset:
            transform = Transforms.like(
                preprocessing, augment, flip=settings.flip, jitter=settings.jitter,
                ignore_index=settings.ignore_index,
            )  # fmt: skip
            return source.dataset(
                split, transform, classes=classes, mask_classes=mask_classes,
                mask_names=names or None, ignore_index=settings.ignore_index, channels=channels,
            )  # fmt: skip

        split = source.training()
        train = opened(split, augment=True)
        val_split = source.first("val", "valid", "validation")
        self.train_data: Dataset[Any] = train
        self.val_data: Dataset[Any] | None = None
        if val_split is not None:
            self.val_data = opened(val_split, augment=False)
        elif settings.val_share:
            held, kept = _parted(len(train), settings.val_share, settings.seed)
            self.train_data = Subset(train, kept)
            self.val_data = Subset(opened(split, augment=False), held)
        model.labels |= train.labels
        self._train_loader = self._loader(self.train_data, shuffle=True)
        self._val_loader = (
            None if self.val_data is None else self._loader(self.val_data, shuffle=False)
        )

    def _loader(self, data: Dataset[Any], *, shuffle: bool) -> DataLoader[Any]:
        size = self.settings.batch_size
        return DataLoader(
            data, size, shuffle=shuffle, num_workers=self._workers,
            # A last batch of one picture has no statistics for a batch norm.
            drop_last=shuffle and len(data) > size,  # type: ignore[arg-type]
            pin_memory=self.world.device.type == "cuda",
        )  # fmt: skip

    def _trainer(
        self, folder: Path, pixels: list[int] | None, callbacks: Iterable[object]
    ) -> Trainer:
        settings = self.settings
        set_seed(settings.seed)
        optimizer = _optimizer(settings, self.model)
        scheduler: Scheduler | None = None
        if settings.schedule == "cosine":
            per_epoch = math.ceil(len(self._train_loader) / settings.accumulate)
            if settings.warmup >= settings.epochs:
                raise OptionError(
                    f"--warmup is {settings.warmup:g} epochs of {settings.epochs}; it must be "
                    f"fewer than all"
                )
            scheduler = cosine_schedule(
                optimizer, settings.epochs * per_epoch, int(settings.warmup * per_epoch)
            )
        return Trainer(
            self.model,
            _criteria(settings, self.train_data, pixels),
            optimizer,
            settings.epochs,
            early_stopping_patience=settings.patience,
            mixed_precision=HALF.get(settings.precision, False),
            gradient_clip_value=settings.clip,
            device=self.world.device,
            scheduler=scheduler,
            scheduler_interval="step",
            accumulate=settings.accumulate,
            ema=settings.ema,
            task_weights=_task_weights(settings.task_weights),
            frozen=settings.freeze,
            channels_last=settings.channels_last,
            compile=settings.compile,
            strategy=cast(Literal["ddp", "fsdp"], settings.strategy),
            seed=settings.seed,
            ignore_index=settings.ignore_index,
            callbacks=callbacks,
            checkpoints=Checkpoints(folder / "checkpoints", every_steps=settings.save_every),
        )


def evaluate(
    model: nn.Module,
    data: Dataset[Any],
    batch_size: int,
    workers: int,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    ignore_index: int = 255,
) -> Evaluator:
    """Measure a model on a data set, shared among all processes; give what did, with metrics."""
    loader = DataLoader(
        data, batch_size, sampler=UnpaddedSampler(cast(Any, data)), num_workers=workers
    )
    evaluator = Evaluator(model, device, mixed_precision=dtype, ignore_index=ignore_index)
    evaluator.evaluate(loader)
    return evaluator


def _model(
    settings: Settings, parts: dict[str, Any], source: DataFolder, mask_classes: int | None
) -> MultitaskModel:
    classes = len(source.classes)
    if Path(settings.recipe, "config.json").is_file():
        return MultitaskModel.from_pretrained(
            settings.recipe,
            num_classes_classification=classes,
            num_classes_segmentation=mask_classes or 0,
            seed=settings.seed,
        ).train()
    return build(
        settings.recipe,
        num_classes_classification=classes,
        num_classes_segmentation=mask_classes or 0,
        pretrained=settings.pretrained,
        weights=settings.weights,
        licences=settings.licences,
        in_channels=settings.in_channels,
        image_size=settings.image_size,
        seed=settings.seed,
        **parts,
    )


def _as_in_model(model: MultitaskModel, source: DataFolder) -> tuple[str, ...]:
    """Give a saved model's own order of classes, if the data have no others."""
    known = model.labels["classification"]
    return known if set(source.classes) <= set(known) else source.classes


def _optimizer(settings: Settings, model: nn.Module) -> Optimizer:
    for name in settings.freeze:
        try:
            model.get_submodule(name)
        except AttributeError as error:
            known = ", ".join(name for name, _ in model.named_children())
            raise OptionError(f"--freeze {name}: the model has {known}") from error
    frozen = {p for name in settings.freeze for p in model.get_submodule(name).parameters()}
    decay = 1.0 if settings.layer_decay is None else settings.layer_decay
    groups = layerwise(model, settings.lr, decay, settings.weight_decay)
    groups = [g | {"params": [p for p in g["params"] if p not in frozen]} for g in groups]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise OptionError("--freeze leaves nothing to train")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr)


def _criteria(
    settings: Settings, data: Dataset[Any], pixels: list[int] | None
) -> dict[str, nn.Module]:
    """Give the loss of each task; with ``balance``, classes are weighed by how rare they are."""
    weights: dict[str, torch.Tensor | None] = {"classification": None, "segmentation": None}
    if settings.balance:
        if pixels is not None:
            weights["segmentation"] = _rarity(pixels)
        labels = _labels(data)
        if labels:
            counts = Counter(labels)
            weights["classification"] = _rarity([counts[k] for k in range(_classes(data))])
    return {
        task: nn.CrossEntropyLoss(weight, label_smoothing=settings.label_smoothing)
        for task, weight in weights.items()
    }


def _rarity(counts: Sequence[int]) -> torch.Tensor:
    """Give weights that make every class there is count as much: all / (classes · its count)."""
    there = sum(count > 0 for count in counts)
    whole = sum(counts)
    return torch.tensor([whole / (there * count) if count else 1.0 for count in counts])


def _labels(data: Dataset[Any]) -> list[int]:
    if isinstance(data, Subset):
        labels = _labels(data.dataset)
        return [labels[index] for index in data.indices] if labels else []
    return list(getattr(data, "targets", ()))


def _classes(data: Any) -> int:
    return _classes(data.dataset) if isinstance(data, Subset) else int(data.num_classes)


def _parted(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Draw the samples that are held out, and give those and the rest."""
    held = max(1, round(count * share))
    if held >= count:
        raise InputError(
            f"{count} pictures are too few to hold {share:g} of them out; --val-share 0 does not"
        )
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(drawn[:held]), sorted(drawn[held:])


def _task_weights(text: str | None) -> TaskWeights:
    if text is None or text == "uncertainty":
        return text
    weights: dict[str, float] = {}
    for item in text.split(","):
        task, _, number = item.partition("=")
        try:
            weights[task.strip()] = float(number)
        except ValueError:
            raise OptionError(
                f"--task-weights {text!r}: write uncertainty, or classification=1,segmentation=0.5"
            ) from None
    return weights


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    names = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [name for name in names if name]


def count_workers(given: int | None) -> int:
    """Give how many processes read pictures: one a core, shared with processes beside this."""
    if given is not None:
        return given
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, (os.cpu_count() or 1) // beside)


def _shown(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    from huggingface_hub.utils.tqdm import tqdm

    yield from tqdm(items, total=count, desc=f"reading {what}", disable=None, leave=False)  # type: ignore[no-untyped-call]
