"""Where each tensor of a file goes, settled before any is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_core.contracts import Backbone
from zoo_core.errors import WeightsError
from zoo_core.loader import describe
from zoo_core.weights.arranging import Arrangement, Origin, as_named
from zoo_core.weights.blank import assign, assignment
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import Reading

_COUNTER = "num_batches_tracked"
_COUNTS = "a counter, which starts at zero"


@dataclass(frozen=True)
class Move:
    """A value on its way from the file to its place.

    Attributes:
        origin: What of the file it is made of.
        owner: The module it goes to.
        key: Its name in that module's state dict.
        target: What stands there now.
        change: Gives it the target's shape.
    """

    origin: Origin
    owner: nn.Module
    key: str
    target: Tensor
    change: Callable[[Tensor], Tensor]

    def overflows(self, value: Tensor) -> bool:
        """Whether finite numbers of a tensor of the file are infinite in the target's type."""
        given, here = value.dtype, self.target.dtype
        if not given.is_floating_point or torch.finfo(given).max <= torch.finfo(here).max:
            return False
        return bool((value.isfinite() & ~value.to(here).isfinite()).any())

    def made(self, values: Mapping[str, Tensor]) -> Tensor:
        """Make the value of the file's tensors."""
        return self.change(self.origin.change(*[values[name] for name in self.origin.names]))

    def prepared(self, values: Mapping[str, Tensor], device: torch.device) -> Callable[[], object]:
        """Prepare to put the value in its place; the call does it.

        Blank places take over what is in the file as it is.
        """
        if not self.target.is_meta:
            return lambda: self.target.copy_(self.made(values))
        value = self.made(values).to(device, self.target.dtype)
        return assignment(self.owner, self.key, value)


class Plan:
    """Where each tensor of a file goes; carried out only when all are accounted for."""

    def __init__(
        self, module: nn.Module, head: nn.Linear | None, headless: str, report_as: str, file: Path
    ) -> None:
        self.backbone = module if isinstance(module, Backbone) else None
        self.report_as = report_as
        self.file = file
        self.module = module
        self.head = head
        self.headless = headless
        self.prefix = module.state_prefix if isinstance(module, Backbone) else ""
        self.classifier = module.classifier if isinstance(module, Backbone) else None
        self.left_out = module.left_out if isinstance(module, Backbone) else {}
        self.state = module.state_dict(keep_vars=True)
        self.missing = dict.fromkeys(self.state)
        self.problems: list[str] = []
        self.moves: list[Move] = []
        self.loaded: list[Fate] = []
        self.adapted: list[Fate] = []
        self.dropped: list[Fate] = []
        self.heads: dict[str, tuple[Origin, Tensor]] = {}

    def settle(self, told: Mapping[str, Tensor], layout: str | None) -> None:
        """Find a place for every tensor of the file.

        Args:
            told: The tensors without values.
            layout: Whose names they are said to be.

        Raises:
            WeightsError: If a tensor is missing, unexpected, of another shape or kind of number,
                or the names are those of another layout.
        """
        arranged = arrangement(self.module, self.file, told, layout)
        for name, origin in arranged.origins.items():
            self.place(name, origin, told)
        left_out = {**self.left_out, **arranged.left_out}
        for name in told.keys() - {name for o in arranged.origins.values() for name in o.names}:
            if name in left_out:
                self._drop(name, told[name], left_out[name])
            else:
                self.problems.append(f"{name} is in the file but not in the model")
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
        return {
            name
            for move in self.moves
            if not isinstance(move.target, nn.Parameter)
            for name in move.origin.names
        }

    @property
    def wanted(self) -> set[str]:
        """The file's names of what is to be read."""
        return {name for move in self.moves for name in move.origin.names}

    def place(self, name: str, origin: Origin, told: Mapping[str, Tensor]) -> None:
        """Find the place of one value, of which name, shape and type are known."""
        key = self.prefix + name
        is_head = self.classifier is not None and name.startswith(f"{self.classifier}.")
        if key not in self.state and not is_head:
            if name in self.left_out:
                for given in origin.names:
                    self._drop(given, told[given], self.left_out[name])
            else:
                given = " and ".join(origin.names)
                self.problems.append(f"{given} is in the file but not in the model")
            return
        try:
            value = origin.change(*[told[given] for given in origin.names])
        except (RuntimeError, IndexError) as error:
            shapes = ", ".join(f"{given} {list(told[given].shape)}" for given in origin.names)
            self.problems.append(f"{name} cannot be made of {shapes}: {describe(error)}")
            self.missing.pop(key, None)
            return
        if key in self.state:
            del self.missing[key]
            self._fill(key, name, origin, value)
        else:
            self.heads[name] = origin, value

    def _fill(self, key: str, name: str, origin: Origin, value: Tensor) -> None:
        target = self.state[key]
        given = " and ".join(origin.names)
        if value.is_floating_point() != target.is_floating_point():
            self.problems.append(f"{given} is {value.dtype} in the file and {target.dtype} here")
            return
        if value.shape == target.shape:
            self.moves.append(Move(origin, self.module, key, target, _same))
            self.loaded.append(Fate(self.report_as + key, target.numel()))
            return
        adapted = self.backbone and self.backbone.adaptation(name, value.shape, target.shape)
        if adapted:
            change, words = adapted
            self.moves.append(Move(origin, self.module, key, target, change))
            self.adapted.append(Fate(self.report_as + key, target.numel(), words))
        else:
            self.problems.append(
                f"{given} is {list(value.shape)} in the file and {list(target.shape)} here"
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
        for name, (origin, tensor) in self.heads.items():
            if reason:
                self._drop(" and ".join(origin.names), tensor, reason)
            else:
                key = name.removeprefix(f"{self.classifier}.")
                assert self.head is not None
                fit = partial(torch.reshape, shape=wanted[name].shape)
                self.moves.append(Move(origin, self.head, key, wanted[name], fit))
                self.loaded.append(Fate(f"classifier.{key}", tensor.numel()))

    def _problems_of_classifier(self, wanted: dict[str, Tensor]) -> list[str]:
        problems = []
        known = [f"{self.classifier}.{key}" for key in ("weight", "bias")]
        for name, (_, tensor) in self.heads.items():
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
            value = self.heads[name][1]
            if not _same_but_for_ones(value, wanted[name]):
                here, there = list(wanted[name].shape), list(value.shape)
                return f"{name} is {there}, and the head has {here}"
        return ""

    def _drop(self, name: str, tensor: Tensor, reason: str) -> None:
        self.dropped.append(Fate(name, tensor.numel(), reason))

    @torch.no_grad()
    def carry_out(self, reading: Reading, device: torch.device) -> LoadReport:
        """Put the file's tensors in their places, once they are proved.

        What is to be done for that is done while the hash is still being computed.

        Args:
            reading: What brings them.
            device: Where values of blank modules go.

        Raises:
            DamagedFileError: If the file is another one than it must be; nothing is changed then.
            WeightsError: If a value must not be, or is too large for the model's type; nothing is
                changed then.
        """
        tensors = reading.arrived()
        prepared = [move.prepared(tensors, device) for move in self.moves]
        reading.prove()
        for move in self.moves:
            for name in move.origin.names:
                if move.overflows(tensors[name]):
                    here = str(move.target.dtype).removeprefix("torch.")
                    raise WeightsError(f"{self.file}: {name} holds values too large for {here}")
        for put in prepared:
            put()
        counters = list(self.missing)
        for key in counters:
            if self.state[key].is_meta:
                assign(self.module, key, torch.zeros_like(self.state[key], device=device))
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


def arrangement(
    module: nn.Module, file: Path, told: Mapping[str, Tensor], layout: str | None
) -> Arrangement:
    """Tell which of a file's tensors make each tensor of a module.

    Raises:
        WeightsError: If their names are those of another layout.
    """
    if not isinstance(module, Backbone):
        return as_named(told)
    try:
        return module.arrange({name: tensor.shape for name, tensor in told.items()}, layout)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
