"""Filling a component from a safetensors file, with an account of every tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoo_core.catalogue import registry
from zoo_core.contracts import Backbone
from zoo_core.errors import WeightsError
from zoo_core.weights.fetching import fetch
from zoo_core.weights.finding import find_entry
from zoo_core.weights.report import Fate, LoadReport

if TYPE_CHECKING:
    from os import PathLike

_COUNTER = "num_batches_tracked"
_COUNTS = "a counter, which starts at zero"


def load(
    module: nn.Module,
    path: str | PathLike[str],
    layout: str | None = None,
    *,
    head: nn.Linear | None = None,
    headless: str = "this module has no classification head",
    report_as: str = "",
) -> LoadReport:
    """Fill one component from a file; nothing is changed unless everything is explained.

    The first convolution is adapted to another number of input channels: summed over the file's
    for one, else repeated in turn and scaled so that activations keep their size.

    Args:
        module: A backbone, or any module whose state dict has the file's names.
        path: A ``.safetensors`` file.
        layout: Whose names the file has; by default any that the module reads.
        head: The layer to fill from the file's classifier.
        headless: Why the file's classifier has no layer to go to, if ``head`` is ``None``.
        report_as: What stands before the names of the module's tensors in the report; those of
            the head begin with ``classifier.``.

    Raises:
        WeightsError: If the file cannot be read, or a tensor is missing, unexpected, of another
            shape or of another kind of number.
    """
    file = Path(path)
    _check_layout(module, layout, file)
    with _opened(file) as tensors:
        plan = _Plan(module, head, headless, report_as, file)
        for name in tensors.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            plan.place(name, tensors.get_tensor(name))
    return plan.execute()


def load_pretrained(backbone: Backbone, component: str, tag: str | None = None) -> LoadReport:
    """Fetch the weights of a component of the catalogue and fill a backbone with them.

    The report stays with the backbone too, as ``load_report``.

    Raises:
        WeightsError: If there are none, or they cannot be fetched or loaded.
    """
    entry = find_entry(registry.backbones[component], tag)
    backbone.load_report = load(backbone, fetch(entry), entry.layout)
    return backbone.load_report


def classes_in(path: str | PathLike[str], backbone: Backbone) -> int | None:
    """Give the number of classes of the classifier in a file, ``None`` without one.

    Raises:
        WeightsError: If the file cannot be read.
    """
    with _opened(Path(path)) as tensors:
        name = f"{backbone.classifier}.weight"
        if backbone.classifier is None or name not in tensors.keys():  # noqa: SIM118
            return None
        shape = tensors.get_slice(name).get_shape()
        return int(shape[0]) if shape else None


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if file.suffix != ".safetensors":
        raise WeightsError(f"{file}: weights are read from .safetensors files only")
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        if not file.exists():
            raise WeightsError(f"{file}: there is no such file") from error
        raise WeightsError(f"{file}: this is no readable safetensors file: {error}") from error


def _check_layout(module: nn.Module, layout: str | None, file: Path) -> None:
    readable = module.layouts if isinstance(module, Backbone) else ()
    if layout is not None and layout not in readable:
        raise WeightsError(
            f"{file}: {type(module).__name__} cannot read layout {layout!r}; it reads "
            f"{', '.join(readable) or 'its own names only'}"
        )


class _Plan:
    """Where each tensor of a file goes; carried out only when all are accounted for."""

    def __init__(
        self, module: nn.Module, head: nn.Linear | None, headless: str, report_as: str, file: Path
    ) -> None:
        self.report_as = report_as
        self.file = file
        self.what = type(module).__name__
        self.head = head
        self.headless = headless
        self.prefix = module.state_prefix if isinstance(module, Backbone) else ""
        self.first_conv = module.first_conv if isinstance(module, Backbone) else None
        self.classifier = module.classifier if isinstance(module, Backbone) else None
        self.left_out = module.left_out if isinstance(module, Backbone) else {}
        self.state = module.state_dict()
        self.missing = dict.fromkeys(self.state)
        self.problems: list[str] = []
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.loaded: list[Fate] = []
        self.adapted: list[Fate] = []
        self.dropped: list[Fate] = []
        self.heads: dict[str, Tensor] = {}
        if any(tensor.is_meta for tensor in self.state.values()):
            raise WeightsError(f"{file}: {self.what} is on the meta device and cannot be filled")

    def place(self, name: str, tensor: Tensor) -> None:
        key = self.prefix + name
        if key in self.state:
            del self.missing[key]
            self.fill(key, name, tensor)
        elif self.classifier is not None and name.startswith(f"{self.classifier}."):
            self.heads[name] = tensor
        elif name in self.left_out:
            self.drop(name, tensor, self.left_out[name])
        else:
            self.problems.append(f"{name} is in the file but not in the model")

    def fill(self, key: str, name: str, tensor: Tensor) -> None:
        target = self.state[key]
        if tensor.is_floating_point() != target.is_floating_point():
            self.problems.append(f"{name} is {tensor.dtype} in the file and {target.dtype} here")
        elif tensor.shape == target.shape:
            self.copies.append((target, tensor))
            self.loaded.append(Fate(self.report_as + key, target.numel()))
        elif name == f"{self.first_conv}.weight" and _differ_in_input(tensor, target):
            self.copies.append((target, adapt_input(tensor, target.shape[1])))
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
            own = self.head.state_dict()
            wanted = {f"{self.classifier}.{key}": target for key, target in own.items()}
        problems = self.problems_of_classifier(wanted)
        self.problems += problems
        if problems:
            return
        reason = self.reason_to_drop_classifier(wanted)
        for name, tensor in self.heads.items():
            if reason:
                self.drop(name, tensor, reason)
            else:
                self.copies.append((wanted[name], tensor.reshape(wanted[name].shape)))
                key = name.removeprefix(f"{self.classifier}.")
                self.loaded.append(Fate(f"classifier.{key}", tensor.numel()))

    def problems_of_classifier(self, wanted: dict[str, Tensor]) -> list[str]:
        problems = []
        known = [f"{self.classifier}.{key}" for key in ("weight", "bias")]
        for name, tensor in self.heads.items():
            if not tensor.is_floating_point():
                problems.append(f"{name} is {tensor.dtype} in the file")
            elif name not in (wanted or known):
                problems.append(f"{name} is in the file but not in the model")
        missing = sorted(wanted.keys() - self.heads.keys())
        return problems + [f"{name} is in the model but not in the file" for name in missing]

    def reason_to_drop_classifier(self, wanted: dict[str, Tensor]) -> str:
        if self.head is None:
            return self.headless
        for name in sorted(self.heads, reverse=True):  # the weight tells more than the bias
            if not _same_but_for_ones(self.heads[name], wanted[name]):
                here, there = list(wanted[name].shape), list(self.heads[name].shape)
                return f"{name} is {there}, and the head has {here}"
        return ""

    def drop(self, name: str, tensor: Tensor, reason: str) -> None:
        self.dropped.append(Fate(name, tensor.numel(), reason))

    def execute(self) -> LoadReport:
        self.place_classifier()
        counters = [key for key in self.missing if key.endswith(_COUNTER)]
        lost = [key for key in self.missing if key not in counters]
        self.problems += [f"{key} is in the model but not in the file" for key in lost]
        if self.problems:
            more = f", and {len(self.problems) - 4} more" if len(self.problems) > 4 else ""
            raise WeightsError(
                f"{self.file}: does not fit {self.what}: {'; '.join(self.problems[:4])}{more}"
            )
        with torch.no_grad():
            for target, tensor in self.copies:
                target.copy_(tensor)
        return LoadReport(
            source=str(self.file),
            loaded=tuple(self.loaded),
            adapted=tuple(self.adapted),
            random=tuple(Fate(self.report_as + key, 1, _COUNTS) for key in counters),
            dropped=tuple(self.dropped),
        )


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
