"""Filling a component from a safetensors file, with an account of every tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo_core.catalogue import registry
from zoo_core.contracts import Backbone
from zoo_core.errors import DamagedFileError, WeightsError
from zoo_core.manifest import WeightsEntry
from zoo_core.store import fetch, fetch_again
from zoo_core.weights.blank import fillable
from zoo_core.weights.finding import find_entry
from zoo_core.weights.plan import Plan, arrangement
from zoo_core.weights.report import LoadReport
from zoo_core.weights.tensorfile import Reading, TensorFile

if TYPE_CHECKING:
    from os import PathLike


def load(
    module: nn.Module,
    path: str | PathLike[str],
    layout: str | None = None,
    *,
    sha256: str | None = None,
    head: nn.Linear | None = None,
    headless: str = "this module has no classification head",
    report_as: str = "",
) -> LoadReport:
    """Fill one component from a file; nothing is changed unless everything is explained.

    Names, shapes and types are compared before a tensor is read, and nothing is changed before
    all are read, the hash agrees and the values are finite (buffers may hold infinities). A
    module built blank (:func:`zoo_core.weights.blank`) takes the tensors as they are; in others
    values are replaced. The first convolution is adapted to another number of input channels:
    summed over the file's for one, else repeated in turn and scaled so that activations keep
    their size.

    Args:
        module: A backbone, or any module whose state dict has the file's names.
        path: A ``.safetensors`` file.
        layout: Whose names the file has; by default any that the module reads.
        sha256: The hash that the file must have, compared with the very bytes that are loaded; an
            unchanged file that had it before is not hashed again.
        head: The layer to fill from the file's classifier.
        headless: Why the file's classifier has no layer to go to, if ``head`` is ``None``.
        report_as: What stands before the names of the module's tensors in the report; those of
            the head begin with ``classifier.``.

    Raises:
        DamagedFileError: If the file has another hash, or is changed while it is read.
        WeightsError: If the file cannot be read, or a tensor is missing, unexpected, of another
            shape or of another kind of number, or holds NaN or infinite values.
    """
    with TensorFile(path, sha256) as file:
        blank = any(tensor.is_meta for tensor in module.state_dict().values())
        if blank and not fillable(module):
            raise _on_meta(module, file)
        begun = filling(module, file, layout, head=head, headless=headless, report_as=report_as)
        return begun.finish()


class Filling:
    """A component being filled: its tensors are on their way into memory.

    Args:
        plan: Where they go.
        reading: Where they come from.
    """

    def __init__(self, plan: Plan, reading: Reading) -> None:
        self._plan = plan
        self._reading = reading
        # Blank modules come to stand where modules are constructed at the moment.
        self._device = torch.get_default_device()

    def finish(self) -> LoadReport:
        """Wait for the tensors and put them in their places; see :func:`load`."""
        return self._plan.carry_out(self._reading, self._device)


def filling(
    module: nn.Module,
    file: TensorFile,
    layout: str | None = None,
    *,
    head: nn.Linear | None = None,
    headless: str = "this module has no classification head",
    report_as: str = "",
) -> Filling:
    """Begin to fill a component, so that other work can go on meanwhile; see :func:`load`.

    A blank module must be :func:`fillable`.
    """
    _check_layout(module, layout, file)
    if torch.get_default_device().type == "meta":
        raise _on_meta(module, file)
    plan = Plan(module, head, headless, report_as, file.path)
    plan.settle(file.told, layout)
    return Filling(plan, file.begin(plan.wanted, plan.infinite))


def load_pretrained(backbone: Backbone, component: str, tag: str | None = None) -> LoadReport:
    """Fetch the weights of a component of the catalogue and fill a backbone with them.

    A damaged file of the cache is fetched again. The report stays with the backbone too, as
    ``load_report``, and so do ``weights_source`` and ``licence``.

    Raises:
        WeightsError: If there are none, or they cannot be fetched or loaded.
    """
    entry = find_entry(registry.backbones[component], tag)
    check_settings(backbone, entry)
    file = fetch(entry)
    try:
        report = load(backbone, file.path, entry.layout, sha256=file.sha256)
    except DamagedFileError as error:
        file = fetch_again(entry, file, error)
        report = load(backbone, file.path, entry.layout, sha256=file.sha256)
    backbone.load_report = report
    backbone.weights_source = f"{entry.repository} ({entry.revision or 'main, unpinned'})"
    backbone.licence = entry.licence
    return report


def classes_in(path: str | PathLike[str], backbone: Backbone) -> int | None:
    """Give the number of classes of the classifier in a file, ``None`` without one.

    Raises:
        WeightsError: If the file cannot be read.
    """
    with TensorFile(path) as file:
        return classes_of(file, backbone)


def classes_of(file: TensorFile, backbone: Backbone, layout: str | None = None) -> int | None:
    """Give the number of classes of the classifier in an open file, ``None`` without one."""
    if backbone.classifier is None:
        return None
    arranged = arrangement(backbone, file.path, file.told, layout)
    origin = arranged.origins.get(f"{backbone.classifier}.weight")
    if origin is None:
        return None
    weight = origin.change(*[file.told[name] for name in origin.names])
    return weight.shape[0] if weight.ndim else None


def check_settings(backbone: nn.Module, entry: WeightsEntry) -> None:
    """Check that a backbone computes as the model did that weights were made with.

    Raises:
        WeightsError: If its activation or epsilon, which no tensor shows, is another.
    """
    here = backbone.constructor_arguments if isinstance(backbone, Backbone) else {}
    for name in ("activation", "eps"):
        said = getattr(entry, name)
        if said is not None and name in here and here[name] != said:
            raise WeightsError(
                f"weights {entry.name} are of a model with {name}={said!r}, and this one has "
                f"{name}={here[name]!r}"
            )


def _on_meta(module: nn.Module, file: TensorFile) -> WeightsError:
    what = type(module).__name__
    return WeightsError(f"{file.path}: {what} is on the meta device and cannot be filled")


def _check_layout(module: nn.Module, layout: str | None, file: TensorFile) -> None:
    readable = module.layouts if isinstance(module, Backbone) else ()
    if layout is not None and layout not in readable:
        raise WeightsError(
            f"{file.path}: {type(module).__name__} cannot read layout {layout!r}; it reads "
            f"{', '.join(readable) or 'its own names only'}"
        )
