"""What is explained: the score of a class, of the whole picture or of a region of it."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_core.errors import InputError, ZooWarning

Classes = int | Sequence[int] | Tensor | None
Region = Tensor | tuple[int, int] | str | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """One score for each picture of a batch.

    Attributes:
        task: ``classification`` or ``segmentation``.
        classes: ``[B]``, the class of each picture.
        predicted: Whether they are the model's own.
        region: In segmentation, the pixels ``[B, h, w]`` of the logits whose scores are summed.
        region_name: ``predicted``, ``mask`` or ``pixel``.
    """

    task: str
    classes: Tensor
    predicted: bool
    region: Tensor | None = None
    region_name: str | None = None

    def score(self, logits: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Give the scores ``[N]`` of logits whose pictures are the batch's ``rows``."""
        chosen = self._chosen(logits.to(_at_least_float(logits)), rows)
        return chosen if self.region is None else (chosen * self.region[rows]).sum((1, 2))

    def probability(self, logits: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Give probabilities ``[N]`` of the class, the average of the region's in segmentation."""
        logits = logits.to(_at_least_float(logits))
        shares = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
        chosen = self._chosen(shares, rows)
        if self.region is None:
            return chosen
        return (chosen * self.region[rows]).sum((1, 2)) / self.pixels[rows]

    @property
    def pixels(self) -> Tensor:
        """How many scores are summed for each picture, ``[B]``, at least one."""
        if self.region is None:
            return torch.ones_like(self.classes)
        return self.region.sum((1, 2)).clamp(min=1)

    @property
    def empty(self) -> Tensor:
        """Which pictures' regions have no pixel, ``[B]``."""
        if self.region is None:
            return torch.zeros_like(self.classes, dtype=torch.bool)
        return ~self.region.flatten(1).any(1)

    def _chosen(self, logits: Tensor, rows: Tensor | slice) -> Tensor:
        return logits[torch.arange(len(logits), device=logits.device), self.classes[rows]]


def joined_targets(targets: Sequence[Target]) -> Target:
    """Give the target of a batch from those of its parts."""
    first = targets[0]
    return Target(
        task=first.task,
        classes=torch.cat([target.classes for target in targets]),
        predicted=first.predicted,
        region=None
        if first.region is None
        else torch.cat([target.region for target in targets if target.region is not None]),
        region_name=first.region_name,
    )


def resolve(task: str, logits: Tensor, classes: Tensor | None, region: Region, size: Any) -> Target:
    """Give the target that is asked for.

    Args:
        task: ``classification`` or ``segmentation``.
        logits: ``[B, classes]`` or ``[B, classes, h, w]``.
        classes: ``[B]``; ``None`` is what the model predicts: for a picture, or most often for
            its pixels.
        region: In segmentation, the pixels: ``None`` or ``"predicted"`` are those where the
            model predicts the class, a mask is ``[B, H, W]`` or ``[B, 1, H, W]``, and a pixel its
            row and column in the picture.
        size: Height and width of the pictures.

    Raises:
        InputError: If there is no such class or region.
    """
    logits = logits.detach()
    count = logits.shape[1]
    if task == "classification" and region is not None:
        raise InputError("region is for segmentation, and classification is explained")
    winners = logits[:, 0].gt(0).logical_not().long() if count == 1 else logits.argmax(1)
    if classes is None:
        chosen = winners
        if task == "segmentation":
            pixels = winners.flatten(1)
            votes = pixels.new_zeros(len(pixels), max(count, 2))
            chosen = votes.scatter_add_(1, pixels, torch.ones_like(pixels)).argmax(1)
        chosen = chosen.clamp(max=count - 1)  # one score has one class
    else:
        chosen = classes.to(logits.device)
        wrong = [int(c) for c in chosen.tolist() if not 0 <= c < count]
        if wrong:
            raise InputError(
                f"target_class must be from 0 to {count - 1} for this model, not {wrong[0]}"
            )
    if task == "classification":
        return Target(task=task, classes=chosen, predicted=classes is None)
    name, mask = _region(region, winners, chosen, size)
    return Target(
        task=task, classes=chosen, predicted=classes is None, region=mask, region_name=name
    )


def _region(
    region: Region, winners: Tensor, classes: Tensor, size: tuple[int, int]
) -> tuple[str, Tensor]:
    """Give the name and the pixels, at the size of the logits, of a region."""
    if region is None or isinstance(region, str):
        return "predicted", winners == classes[:, None, None]
    height, width = winners.shape[1:]
    if isinstance(region, Tensor):
        mask = region.to(winners.device).reshape(-1, 1, *region.shape[-2:]).ne(0)
        if mask.shape[-2:] != (height, width):
            # A pixel of the logits belongs to it if one of the picture's pixels there does.
            mask = F.adaptive_max_pool2d(mask.float(), (height, width)).ne(0)
        return "mask", mask[:, 0].expand(len(winners), -1, -1)
    mask = torch.zeros_like(winners, dtype=torch.bool)
    mask[:, region[0] * height // size[0], region[1] * width // size[1]] = True
    return "pixel", mask


def warn_of_empty(target: Target) -> None:
    """Warn of pictures whose region has no pixel."""
    empty = target.empty.nonzero()[:, 0].tolist()
    if empty:
        what = "the mask is empty"
        if target.region_name == "predicted":
            what = f"no pixel is predicted as its class, {int(target.classes[empty[0]])}"
        warnings.warn(
            f"picture {', '.join(map(str, empty))}: {what}; there is nothing to explain, and its "
            f"map is zero",
            ZooWarning,
            stacklevel=2,
        )


def check_classes(target_class: Classes, batch: int) -> Tensor | None:
    """Give the class of each picture, ``[B]``, as far as that can be told without a model.

    Raises:
        InputError: If they are no classes, or of another number than the pictures.
    """
    if target_class is None:
        return None
    given = torch.as_tensor(target_class) if _is_row(target_class) else target_class
    if isinstance(given, Tensor) and given.ndim == 1:
        if given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
            raise InputError(f"target_class must be whole numbers, not {given.dtype}")
        if len(given) != batch:
            raise InputError(
                f"target_class has {len(given)} entries for {batch} pictures; give one class, or "
                f"one for each picture"
            )
        return given.detach().long()
    try:
        if isinstance(given, bool) or getattr(given, "dtype", None) == torch.bool:
            raise TypeError
        return torch.full((batch,), operator.index(given), dtype=torch.long)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"target_class must be None, a whole number or one for each picture, not "
            f"{_short(target_class)}"
        ) from None


def _is_row(value: object) -> bool:
    """Tell whether a value is a row of numbers that no tensor is made of yet."""
    if isinstance(value, list | tuple | range):
        return bool(value) and all(hasattr(item, "__index__") for item in value)
    return hasattr(value, "__array__") and not isinstance(value, Tensor) and hasattr(value, "shape")


def check_region(region: Region, batch: int, size: tuple[int, int]) -> Region:
    """Check a region as far as that can be done without a model.

    Raises:
        InputError: If it is none, or does not fit the pictures.
    """
    if region is None or (isinstance(region, str) and region == "predicted"):
        return region
    if isinstance(region, Tensor):
        plane = region[:, 0] if region.ndim == 4 and region.shape[1] == 1 else region
        if plane.ndim not in (2, 3) or (plane.ndim == 3 and len(plane) not in (1, batch)):
            raise InputError(
                f"region as a mask must be [H, W] or [{batch}, H, W], not {list(region.shape)}"
            )
        mask = plane.detach() if plane.ndim == 3 else plane.detach()[None]
        return mask.expand(batch, -1, -1)
    if isinstance(region, tuple | list) and len(region) == 2:
        inside = [
            hasattr(place, "__index__") and not isinstance(place, bool) and 0 <= place < side
            for place, side in zip(region, size, strict=True)
        ]
        if all(inside):
            return int(region[0]), int(region[1])
        raise InputError(
            f"region as a pixel must be its row and column in {size[0]}×{size[1]}, not "
            f"{tuple(region)}"
        )
    raise InputError(
        f"region must be 'predicted', a mask or a pixel (row, column), not {_short(region)}"
    )


def region_of(region: Region, rows: slice) -> Region:
    """Give the part of a region that belongs to some of the pictures."""
    return region[rows] if isinstance(region, Tensor) else region


def _at_least_float(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {value.dtype}"
    return repr(value) if len(repr(value)) < 60 else type(value).__name__
