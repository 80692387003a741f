"""What a component of each kind must do. Importing this module imports torch."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError

if TYPE_CHECKING:
    from zoo_core.manifest import WeightsEntry
    from zoo_core.weights import LoadReport
    from zoo_core.weights.arranging import Arrangement


class ChannelSchedule(tuple[int, ...]):
    """Channels of a backbone's maps, shallow to deep, that also knows their strides.

    Made from plain channels, the strides are taken to be 4, 8, 16, 32 and so on.

    Args:
        channels: One positive number a map.
        strides: Pixels of the input per pixel of each map, never decreasing.

    Raises:
        InputError: If a number is not positive, or the two differ in length.
    """

    strides: tuple[int, ...]

    def __new__(
        cls, channels: Sequence[int], strides: Sequence[int] | None = None
    ) -> ChannelSchedule:
        """Make a schedule; see the class."""
        if isinstance(channels, ChannelSchedule) and strides is None:
            strides = channels.strides
        schedule = super().__new__(cls, (int(c) for c in channels))
        if strides is None:
            strides = [4 * 2**level for level in range(len(schedule))]
        schedule.strides = tuple(int(s) for s in strides)
        if not schedule or min(schedule) < 1 or min(schedule.strides, default=0) < 1:
            raise InputError(
                f"a channel schedule needs positive channels and strides, "
                f"not {list(channels)} and {list(strides)}"
            )
        if len(schedule) != len(schedule.strides):
            raise InputError(
                f"{len(schedule)} channels but {len(schedule.strides)} strides in a schedule: "
                f"{list(channels)} and {list(strides)}"
            )
        if list(schedule.strides) != sorted(schedule.strides):
            raise InputError(f"strides go from shallow to deep, not {list(strides)}")
        return schedule

    def __getnewargs__(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(self), self.strides

    def __repr__(self) -> str:
        return f"ChannelSchedule({tuple(self)}, strides={self.strides})"


class Features(NamedTuple):
    """What a backbone makes of a picture.

    Attributes:
        maps: ``[B, C, H / stride, W / stride]`` each, shallow to deep.
        pooled: ``[B, D]``, the backbone's own summary of the picture.
    """

    maps: list[Tensor]
    pooled: Tensor


class Component(nn.Module, ABC):
    """A module that remembers what it was constructed with, so that it can be saved by value."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Component:
        """Remember the arguments before the constructor sees them."""
        component = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        # Copying makes an empty object first and fills in the original's arguments later.
        bound = signature.bind_partial(component, *args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(value)
            elif kind is not inspect.Parameter.VAR_POSITIONAL or value:
                arguments[name] = value
        component.__dict__["_constructor_arguments"] = arguments
        return component

    @property
    def constructor_arguments(self) -> dict[str, Any]:
        """The arguments of the constructor by name, defaults included."""
        return dict(self.__dict__["_constructor_arguments"])


class Backbone(Component):
    """Turns pictures into a pyramid of feature maps.

    A backbone takes ``in_channels`` in its constructor, and ``image_size`` (height, width) if it
    must know the size of the pictures then.

    What loading weights looks at:
        layouts: Whose names it can read.
        state_prefix: What stands before the names of the weights' own tensors in the state dict.
        first_conv: The convolution, by its name in the weights, that sees the picture.
        classifier: The linear layer, by its name in the weights, that reads the pooled vector.
        left_out: Tensors of the weights that this backbone has no use for, each with the reason.

    Attributes:
        load_report: What became of the weights that its constructor loaded.
        weights_source: What those weights are.
        licence: Their licence.
    """

    layouts: ClassVar[tuple[str, ...]] = ("timm",)
    state_prefix: ClassVar[str] = ""
    first_conv: str | None = None
    classifier: str | None = None
    left_out: Mapping[str, str] = MappingProxyType({})
    load_report: LoadReport | None = None
    weights_source: str | None = None
    licence: str | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of pictures ``[B, C, H, W]``, shallow to deep.

        The map of stride ``s`` is ``[B, channels, ceil(H / s), ceil(W / s)]``.
        """

    @abstractmethod
    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the maps."""

    @property
    def pooled_channels(self) -> int:
        """Length of the pooled vector; that of the last map's channels unless overridden."""
        return self.get_channel_schedule()[-1]

    def forward_features(self, x: Tensor) -> Features:
        """Give maps and pooled vector in one pass; the last map's average unless overridden."""
        maps = self(x)
        return Features(maps, maps[-1].mean((-2, -1)))

    @classmethod
    def constructed_for(cls, entry: WeightsEntry) -> dict[str, Any]:
        """Give the constructor arguments that weights ask for, where the user gives no others."""
        return {}

    def arrange(self, file: Mapping[str, torch.Size], layout: str | None) -> Arrangement:
        """Tell which of a file's tensors make each of this backbone's and of its classifier's.

        Unless overridden, they have the same names in both.

        Args:
            file: Names and shapes of the file's tensors.
            layout: Whose names they are said to be; ``None`` if nobody says.

        Raises:
            WeightsError: If they are those of another layout, or of none.
        """
        from zoo_core.weights.arranging import as_named

        return as_named(file)

    def adaptation(
        self, name: str, given: torch.Size, wanted: torch.Size
    ) -> tuple[Callable[[Tensor], Tensor], str] | None:
        """Give how a tensor of another shape is made to fit, in a function and in words.

        Unless overridden, that is the first convolution, which is adapted to the pictures'
        channels.

        Args:
            name: Its name, without ``state_prefix``.
            given: Its shape in the weights.
            wanted: Its shape here.
        """
        from zoo_core.weights.arranging import adapt_input, differ_in_input

        if name != f"{self.first_conv}.weight" or not differ_in_input(given, wanted):
            return None
        words = f"{given[1]} → {wanted[1]} input channels"
        return partial(adapt_input, channels=wanted[1]), words


class Attention(Component):
    """Refines one feature map; the constructor's first argument is ``in_channels``."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""


class Decoder(Component):
    """Turns a backbone's maps into one map of logits.

    The constructor's first two arguments are ``backbone_channels``, a :class:`ChannelSchedule` or
    plain channels, and ``output_channels``.
    """

    @abstractmethod
    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        """Give logits ``[B, output_channels, H, W]``.

        Args:
            features: The maps, shallow to deep.
            output_size: Height and width of the logits; without it, the shallowest map's size
                times its stride.
        """

    def reads(self, level: int) -> bool:
        """Tell whether the logits depend on a map, 1 being the shallowest.

        An attention on a map that nothing reads would learn nothing. Unless overridden, all maps
        are read.
        """
        return True


class BaseExplainer(ABC):
    """Attributes a model's output to its input."""

    @abstractmethod
    def explain(
        self,
        inputs: Tensor,
        model: nn.Module | None = None,
        target_class: int | Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Give a heatmap ``[B, H, W]`` or an attribution ``[B, C, H, W]`` of ``inputs``.

        Args:
            inputs: Pictures ``[B, C, H, W]``.
            model: The model to explain; optional if the constructor was given one.
            target_class: One class for all pictures, one a picture, or the predicted ones.
            options: What the method offers beside.
        """
