"""What the tokens of each layer attend to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from zoo_attention_maps.layers import AttentionLayer, check_heads
from zoo_attention_maps.running import attention_of
from zoo_core.errors import InputError
from zoo_core.explainability.base import Attribution, ModelExplainer
from zoo_core.explainability.inquiry import Inquiry


class LayerTensors(dict[str, Tensor]):
    """A tensor for each layer by name, calculated each time it is read, so that none is kept."""

    def __init__(
        self, layers: Mapping[str, AttentionLayer], read: Callable[[AttentionLayer], Tensor]
    ) -> None:
        super().__init__(dict.fromkeys(layers))  # type: ignore[arg-type]
        self._layers, self._read = layers, read

    def __getitem__(self, name: str) -> Tensor:
        return self._read(self._layers[name])

    def __iter__(self) -> Iterator[str]:  # makes dict() and ** read by name
        return iter(self._layers)

    def get(self, name: str, default: Any = None) -> Any:
        """Give a layer's tensor, or the default if there is no such layer."""
        return self[name] if name in self._layers else default

    def values(self) -> Any:
        """Give the tensors one after another."""
        return (self[name] for name in self)

    def items(self) -> Any:
        """Give names and tensors one after another."""
        return ((name, self[name]) for name in self)

    def copy(self) -> dict[str, Tensor]:
        """Give a plain dictionary of all tensors."""
        return dict(self.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)


class AttentionByLayer(LayerTensors):
    """Attention weights ``[B, queries, keys]`` of each layer by name.

    With heads kept they are ``[B, heads, queries, keys]``. They are calculated, in float32 at
    least, each time they are read.

    Attributes:
        layers: What else is known of each layer: its kind, its grid, its windows by themselves.
        gradients: The score's gradient at each layer's weights, if they were asked for.
    """

    def __init__(
        self,
        layers: Mapping[str, AttentionLayer],
        heads: str | None,
        normalize: bool,
        gradients: bool,
    ) -> None:
        super().__init__(layers, lambda layer: layer.weights(heads, normalize=normalize))
        self.layers = layers
        self.gradients = (
            LayerTensors(layers, lambda layer: layer.gradient(heads)) if gradients else None
        )


class AttentionMaps(ModelExplainer):
    """What each token attends to, ``[B, queries, keys]`` for each layer by name.

    It takes any model: fused functions, ``nn.MultiheadAttention`` and attention that is written
    out are all seen while the model runs as it is. Keys and queries are tokens in the model's
    order, and rows sum to one. What attends to what differs: see :attr:`AttentionLayer.kind` of
    ``result.layers[name]``. The windows of a layer are put in place.

    ``explain`` takes ``heads``: ``"mean"``, ``"max"``, ``"min"``, or ``"none"`` or ``None`` for
    ``[B, heads, queries, keys]``; ``normalize=False`` to leave rows as they come out of that;
    ``layers``, one or several names or patterns such as ``"blocks.1*"``; and ``gradients=True``
    for ``result.gradients``, the score's gradients at the weights. Only they depend on the class.

    It does not apply to a model without attention, such as a CNN.
    """

    name: ClassVar[str] = "attention"
    options: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"heads": "mean", "normalize": True, "layers": None, "gradients": False}
    )

    def plan(self, inquiry: Inquiry) -> None:
        """Ask for nothing: attention is seen in a run of its own."""

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Run the model, and give its attention."""
        check_heads(options["heads"])
        layers = attention_of(inquiry, gradients=bool(options["gradients"]))
        layers = _chosen(layers, options["layers"])
        result = AttentionByLayer(
            layers, options["heads"], bool(options["normalize"]), bool(options["gradients"])
        )
        details = {"heads": options["heads"] or "none", "layers": tuple(layers)}
        return Attribution(result, details=details)


def _chosen(
    layers: dict[str, AttentionLayer], patterns: str | Sequence[str] | None
) -> dict[str, AttentionLayer]:
    """Give the layers of these names.

    Raises:
        InputError: If a name or pattern fits none.
    """
    if patterns is None:
        return layers
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not isinstance(pattern, str) or not any(fnmatchcase(name, pattern) for name in layers):
            raise InputError(
                f"no layer with attention fits {pattern!r}; they are {', '.join(layers)}"
            )
    return {
        name: layer
        for name, layer in layers.items()
        if any(fnmatchcase(name, pattern) for pattern in wanted)
    }
