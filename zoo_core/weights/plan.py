"""Where each tensor of a file goes, settled before any is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_core.contracts import Backbone
from zoo_core.errors import WeightsError
from zoo_core.store.header import Slot
from zoo_core.weights.blank import assign
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import DTYPES

_COUNTER = "num_batches_tracked"
_COUNTS = "a counter, which starts at zero"


@dataclass(frozen=True)
class Move:
    """One tensor of the file on its way to its place.

    Attributes:
        name: Its name in the file.
        owner: The module it goes to.
        key: Its name in that module's state dict.
        target: What stands there now.
        change: Turns the file's tensor into one of the target's shape.
    """

    name: str
    owner: nn.Module
    key: str
    target: Tensor
    change: Callable[[Tensor], Tensor]

    def overflows(self, value: Tensor) -> bool:
        """Whether finite numbers of the file are infinite in the target's type."""
        given, here = value.dtype, self.target.dtype
        if not given.is_floating_point or torch.finfo(given).max <= torch.finfo(here).max:
            return False
        return bool((value.isfinite() & ~value.to(here).isfinite()).any())

    def carry_out(self, value: Tensor, device: torch.device) -> None:
        """Put the file's value in its place; blank places take it over as it is."""
        changed = self.change(value)
        if self.target.is_meta:
            assign(self.owner, self.key, changed.to(device, self.target.dtype))
        else:
            self.target.copy_(changed)


class Plan:
    """Where each tensor of a file goes; carried out only when all are accounted for."""

    def __init__(
        self, module: nn.Module, head: nn.Linear | None, headless: str, report_as: str, file: Path
    ) -> None:
        self.report_as = report_as
        self.file = file
        self.module = module
        self.head = head
        self.headless = headless
        self.prefix = module.state_prefix if isinstance(module, Backbone) else ""
        self.first_conv = module.first_conv if isinstance(module, Backbone) else None
        self.classifier = module.classifier if isinstance(module, Backbone) else None
        self.left_out = module.left_out if isinstance(module, Backbone) else {}
        self.state = module.state_dict(keep_vars=True)
        self.missing = dict.fromkeys(self.state)
        self.problems: list[str] = []
        self.moves: list[Move] = []
        self.loaded: list[Fate] = []
        self.adapted: list[Fate] = []
        self.dropped: list[Fate] = []
        self.heads: dict[str, Tensor] = {}

    def settle(self, slots: Iterable[Slot]) -> None:
        """Find a place for every tensor of the file.

        Raises:
            WeightsError: If a tensor is missing, unexpected, of another shape or kind of number.
        """
        for slot in slots:
            told = torch.empty(slot.shape, dtype=DTYPES[slot.dtype], device="meta")
            self.place(slot.name, told)
        self.place_classifier()
        lost = [key for key in self.missing if not key.endswith(_COUNTER)]
        self.problems += [f"{key} is in the model but not in the file" for key in lost]
        if self.problems:
            more = f", and {len(self.problems) - 4} more" if len(self.problems) > 4 else ""
            what = type(self.module).__name__
            raise WeightsError(
                f"{self.file}: does not fit {what}: {'; '.join(self.problems[:4])}{more}"
            )

    @property
    def infinite(self) -> set[str]:
        """The file's names of what may hold infinities: buffers, such as masks."""
        return {move.name for move in self.moves if not isinstance(move.target, nn.Parameter)}

    def place(self, name: str, tensor: Tensor) -> None:
        """Find the place of one tensor of the file, of which name, shape and type are known."""
        key = self.prefix + name
        if key in self.state:
            del self.missing[key]
            self._fill(key, name, tensor)
        elif self.classifier is not None and name.startswith(f"{self.classifier}."):
            self.heads[name] = tensor
        elif name in self.left_out:
            self._drop(name, tensor, self.left_out[name])
        else:
            self.problems.append(f"{name} is in the file but not in the model")

    def _fill(self, key: str, name: str, tensor: Tensor) -> None:
        target = self.state[key]
        if tensor.is_floating_point() != target.is_floating_point():
            self.problems.append(f"{name} is {tensor.dtype} in the file and {target.dtype} here")
        elif tensor.shape == target.shape:
            self.moves.append(Move(name, self.module, key, target, _same))
            self.loaded.append(Fate(self.report_as + key, target.numel()))
        elif name == f"{self.first_conv}.weight" and _differ_in_input(tensor, target):
            fit = partial(adapt_input, channels=target.shape[1])
            self.moves.append(Move(name, self.module, key, target, fit))
            change = f"{tensor.shape[1]} → {target.shape[1]} input channels"
            self.adapted.append(Fate(self.report_as + key, target.numel(), change))
        else:
            self.problems.append(
                f"{name} is {list(tensor.shape)} in the file and {list(target.shape)} here"
            )

    def place_classifier(self) -> None:
        """Fill the head from the file's classifier, or drop that whole, with the reason."""
        wanted: dict[str, Tensor] = {}
        if self.head is not None and self.heads:
            own = self.head.state_dict(keep_vars=True)
            wanted = {f"{self.classifier}.{key}": target for key, target in own.items()}
        problems = self._problems_of_classifier(wanted)
        self.problems += problems
        if problems:
            return
        reason = self._reason_to_drop_classifier(wanted)
        for name, tensor in self.heads.items():
            if reason:
                self._drop(name, tensor, reason)
            else:
                key = name.removeprefix(f"{self.classifier}.")
                assert self.head is not None
                fit = partial(torch.reshape, shape=wanted[name].shape)
                self.moves.append(Move(name, self.head, key, wanted[name], fit))
                self.loaded.append(Fate(f"classifier.{key}", tensor.numel()))

    def _problems_of_classifier(self, wanted: dict[str, Tensor]) -> list[str]:
        problems = []
        known = [f"{self.classifier}.{key}" for key in ("weight", "bias")]
        for name, tensor in self.heads.items():
            if not tensor.is_floating_point():
                problems.append(f"{name} is {tensor.dtype} in the file")
            elif name not in (wanted or known):
                problems.append(f"{name} is in the file but not in the model")
        missing = sorted(wanted.keys() - self.heads.keys())
        return problems + [f"{name} is in the model but not in the file" for name in missing]

    def _reason_to_drop_classifier(self, wanted: dict[str, Tensor]) -> str:
        if self.head is None:
            return self.headless
        for name in sorted(self.heads, reverse=True):  # the weight tells more than the bias
            if not _same_but_for_ones(self.heads[name], wanted[name]):
                here, there = list(wanted[name].shape), list(self.heads[name].shape)
                return f"{name} is {there}, and the head has {here}"
        return ""

    def _drop(self, name: str, tensor: Tensor, reason: str) -> None:
        self.dropped.append(Fate(name, tensor.numel(), reason))

    def carry_out(self, tensors: dict[str, Tensor], device: torch.device) -> LoadReport:
        """Put the file's tensors in their places; they are taken out of the mapping.

        Args:
            tensors: What was read, by the file's names.
            device: Where values of blank modules go.

        Raises:
            WeightsError: If a value is too large for the model's type; nothing is changed then.
        """
        for move in self.moves:
            if move.overflows(tensors[move.name]):
                here = str(move.target.dtype).removeprefix("torch.")
                raise WeightsError(f"{self.file}: {move.name} holds values too large for {here}")
        counters = list(self.missing)
        with torch.no_grad():
            for move in self.moves:
                move.carry_out(tensors.pop(move.name), device)
            for key in counters:
                if self.state[key].is_meta:
                    zero = torch.zeros_like(self.state[key], device=device)
                    assign(self.module, key, zero)
        return LoadReport(
            source=str(self.file),
            loaded=tuple(self.loaded),
            adapted=tuple(self.adapted),
            random=tuple(Fate(self.report_as + key, 1, _COUNTS) for key in counters),
            dropped=tuple(self.dropped),
        )


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _same_but_for_ones(tensor: Tensor, target: Tensor) -> bool:
    """Whether a 1×1 convolution's weight, say, is this linear layer's."""
    return tensor.numel() == target.numel() and tensor.shape[: target.dim()] == target.shape


def _differ_in_input(tensor: Tensor, target: Tensor) -> bool:
    return tensor.dim() == target.dim() == 4 and (
        (tensor.shape[0], *tensor.shape[2:]) == (target.shape[0], *target.shape[2:])
    )


def adapt_input(weight: Tensor, channels: int) -> Tensor:
    """Change a convolution's weight ``[O, I, h, w]`` to ``channels`` input channels.

    One channel gets the sum over all; otherwise the file's channels are repeated in turn and
    scaled by ``I / channels``, so that activations keep their size. timm does the same.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    order: Iterable[int] = (channel % given for channel in range(channels))
    return weight[:, list(order)] * (given / channels)
