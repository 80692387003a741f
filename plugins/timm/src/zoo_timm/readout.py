"""How a timm model's pooled vector is had, and whether a linear layer reads it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from zoo_timm.sizes import Size
from zoo_timm.twin import Twin


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Where the pooled vector comes from.

    Attributes:
        channels: Its length.
        classifier: The linear layer that reads it, by its name in timm; ``None`` where there is
            none or more than one.
        has_head: Whether timm's head makes it; else it is the last map's average.
    """

    channels: int
    classifier: str | None = None
    has_head: bool = False


def find_readout(twin: Twin, size: Size, last: int) -> Readout:
    """Find what a model's classifier reads, or what its head gives before the classifier.

    Args:
        twin: The model, with timm's own number of classes.
        size: Height and width of a picture that the model takes.
        last: Channels of the last map.
    """
    if not twin.has_head:
        return Readout(channels=last)
    classifier = twin.model.pretrained_cfg.get("classifier")
    if isinstance(classifier, str):
        width = _width_read(twin, classifier, size)
        if width is not None:
            return Readout(channels=width, classifier=classifier, has_head=True)
    return Readout(channels=twin.head(size, pre_logits=True).shape[1], has_head=True)


def _width_read(twin: Twin, name: str, size: Size) -> int | None:
    """Give the length of the one vector that a linear layer turns into the model's output."""
    try:
        layer = twin.model.get_submodule(name)
    except AttributeError:
        return None
    if not isinstance(layer, nn.Linear):
        return None
    calls: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _, args, out: calls.append((args[0], out)))
    try:
        logits = twin.head(size)
    finally:
        handle.remove()
    if len(calls) == 1 and calls[0][1] is logits and calls[0][0].ndim == 2:
        return layer.in_features
    return None
