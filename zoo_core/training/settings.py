"""What ``zoo train`` is told, and what a run folder remembers of it. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from zoo_core.errors import CheckpointError

OPTIMIZERS: Final = ("adamw", "adam", "sgd")
SCHEDULES: Final = ("cosine", "constant")
PRECISIONS: Final = ("float32", "bfloat16", "float16")
STRATEGIES: Final = ("ddp", "fsdp")

_MAY_CHANGE: Final = frozenset({"device", "workers", "tensorboard"})
"""What a run that goes on may be told otherwise: its result does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what a run learns, and how it computes; see ``zoo train --help``."""

    recipe: str
    data: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    schedule: str
    warmup: float
    accumulate: int
    clip: float | None
    ema: float | None
    freeze: tuple[str, ...]
    layer_decay: float | None
    label_smoothing: float
    balance: bool
    task_weights: str | None
    patience: int | None
    val_share: float
    flip: float
    jitter: float
    ignore_index: int
    mask_names: str | None
    seg_classes: int | None
    pretrained: bool
    weights: str | None
    licences: tuple[str, ...] | None
    in_channels: int | None
    image_size: int | tuple[int, int] | None
    settings: tuple[str, ...]
    seed: int
    precision: str
    channels_last: bool
    compile: bool
    strategy: str
    save_every: int
    device: str | None
    workers: int | None
    tensorboard: bool

    def to_yaml(self) -> str:
        """Give the settings as ``zoo train --config`` reads them."""
        values = {ALIASES.get(name, name): _plain(value) for name, value in asdict(self).items()}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def check_as_begun(self, begun: Settings, folder: Path) -> None:
        """Check that a run in a folder would go on as it was begun.

        Raises:
            CheckpointError: If it would not; the message names what differs.
        """
        for name in (field.name for field in fields(self)):
            now, before = _plain(getattr(self, name)), _plain(getattr(begun, name))
            if now != before and name not in _MAY_CHANGE:
                raise CheckpointError(
                    f"{folder} was begun with {ALIASES.get(name, name)}: {before}, not {now}; a "
                    f"run goes on as it was begun, and another --out begins anew"
                )


ALIASES: Final = {"settings": "set", "licences": "license"}
"""Settings whose option has another name."""


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
