"""Components under test: how they are constructed, fed and run."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from zoo_core.contracts import Attention, Backbone, BaseExplainer, ChannelSchedule, Decoder
from zoo_core.errors import ContractError
from zoo_core.spec import Spec
from zoo_core.targets import component_class, construct

Size = tuple[int, int]

SCHEDULES: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "strides 4, 8, 16, 32": ((8, 16, 24, 32), (4, 8, 16, 32)),
    "strides 2, 4, 8, 16, 32": ((4, 8, 16, 24, 32), (2, 4, 8, 16, 32)),
    "a last stage dilated to stride 16": ((8, 16, 24, 32), (4, 8, 16, 16)),
    "last stages dilated to stride 8": ((8, 16, 24, 32), (4, 8, 8, 8)),
    "a ViT's four maps of stride 14": ((16,) * 4, (14,) * 4),
    "a ViT's four maps of stride 16": ((16,) * 4, (16,) * 4),
    "a ViT's four maps of stride 8": ((16,) * 4, (8,) * 4),
    "two maps": ((16, 24), (8, 32)),
    "one map": ((16,), (16,)),
}
"""What decoders must take: channels and strides."""


class Subject(ABC):
    """A component under test.

    Args:
        component: Its spec, or the class itself.
        options: Constructor arguments beside those of the spec.

    Attributes:
        name: What messages call it.
        spec: Its spec, ``None`` for a class that is in no catalogue.
    """

    kind: ClassVar[str]
    contract: ClassVar[type]

    def __init__(self, component: Spec | type, options: Mapping[str, Any] | None = None) -> None:
        self.spec = component if isinstance(component, Spec) else None
        self._class = None if isinstance(component, Spec) else component
        self.options = dict(options or {})
        self.name = (
            component.qualified_name if isinstance(component, Spec) else component.__qualname__
        )

    @property
    def cls(self) -> type:
        """The class.

        Raises:
            PluginError: If it cannot be imported.
            ContractError: If it does not derive from the contract of its kind.
        """
        if self._class is None:
            assert self.spec is not None
            return component_class(self.spec)
        if not issubclass(self._class, self.contract):
            raise ContractError(f"{self.name} must derive from zoo_core.{self.contract.__name__}")
        return self._class

    def accepts(self, argument: str) -> bool:
        """Tell whether the constructor takes an argument."""
        given = parameters(self.cls)
        return argument in given or any(p.kind is p.VAR_KEYWORD for p in given.values())

    def construct(self, **wired: Any) -> Any:
        """Construct it as a composition does, with those arguments that it takes."""
        wired = {name: value for name, value in wired.items() if self.accepts(name)}
        if self.spec is not None:
            return construct(self.spec, self.early, **wired)
        return self.cls(**{**wired, **self.early})

    @property
    def early(self) -> dict[str, Any]:
        """The options of the constructor."""
        return self.options


class ModuleSubject(Subject):
    """A component that is a module: a backbone, an attention or a decoder."""

    @property
    @abstractmethod
    def wired(self) -> dict[str, Any]:
        """The constructor arguments that the composition gives."""

    @abstractmethod
    def inputs(self, batch: int, size: Size | None = None) -> list[Tensor]:
        """Give inputs, the same ones each time: of one picture's size, or an odd one."""

    def run(self, module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run a module, and give all tensors that it gives."""
        # A module that writes into its inputs breaks the rule about that, and no other.
        return list(self.adapted(module)(*(x.clone() for x in inputs)))

    @abstractmethod
    def adapted(self, module: nn.Module) -> nn.Module:
        """Give a module of plain tensors: what it takes as arguments, what it gives as a tuple."""

    def make(self, seed: int = 0, **wired: Any) -> nn.Module:
        """Construct it with torch's generator at a seed, in train mode."""
        torch.manual_seed(seed)
        module: nn.Module = self.construct(**{**self.wired, **wired})
        return module

    def make_ready(self, seed: int = 0, **wired: Any) -> nn.Module:
        """Construct it for inference, none of its values at a neutral initial one."""
        module = self.make(seed, **wired)
        perturb(module)
        return module.eval()

    def infer(self, module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run a module without gradients."""
        with torch.no_grad():
            return self.run(module, inputs)


class BackboneSubject(ModuleSubject):
    """A backbone, of pictures with three channels unless told otherwise."""

    kind = "backbone"
    contract = Backbone
    size: Size = (65, 97)

    @property
    def wired(self) -> dict[str, Any]:
        """The pictures' channels."""
        return {"in_channels": 3}

    def inputs(self, batch: int, size: Size | None = None) -> list[Tensor]:
        """Give pictures ``[batch, 3, height, width]``."""
        return [noise(batch, 3, *(size or self.size))]

    def adapted(self, module: nn.Module) -> nn.Module:
        """Give maps and pooled vector."""
        return _Featured(module)


class AttentionSubject(ModuleSubject):
    """An attention, for a map of 32 channels unless told otherwise."""

    kind = "attention"
    contract = Attention
    channels = 32

    @property
    def wired(self) -> dict[str, Any]:
        """The map's channels."""
        return {"in_channels": self.channels}

    def inputs(self, batch: int, size: Size | None = None) -> list[Tensor]:
        """Give a map ``[batch, 32, height, width]``."""
        return [noise(batch, self.channels, *(size or (9, 13)))]

    def adapted(self, module: nn.Module) -> nn.Module:
        """Give the refined map."""
        return _Single(module)


class DecoderSubject(ModuleSubject):
    """A decoder, for maps of strides 4, 8, 16 and 32 unless told otherwise."""

    kind = "decoder"
    contract = Decoder
    classes = 3

    @property
    def schedule(self) -> ChannelSchedule:
        """The usual schedule."""
        return ChannelSchedule(*SCHEDULES["strides 4, 8, 16, 32"])

    @property
    def wired(self) -> dict[str, Any]:
        """Schedule and classes."""
        return {"backbone_channels": self.schedule, "output_channels": self.classes}

    def inputs(self, batch: int, size: Size | None = None) -> list[Tensor]:
        """Give the maps of pictures of a size."""
        return self.maps(self.schedule, batch, size or (65, 97))

    def maps(self, schedule: ChannelSchedule, batch: int, size: Size) -> list[Tensor]:
        """Give maps of a schedule, for pictures of a size."""
        return [
            noise(batch, channels, -(-size[0] // stride), -(-size[1] // stride))
            for channels, stride in zip(schedule, schedule.strides, strict=True)
        ]

    def adapted(self, module: nn.Module) -> nn.Module:
        """Give the logits, of a list of maps."""
        return _Decoding(module)


class ExplainerSubject(Subject):
    """An explainer; its options may be those of its constructor and of ``explain``.

    Attributes:
        net: The small classifier that it applies to, once that is known.
    """

    kind = "explainer"
    contract = BaseExplainer
    net = ""

    @property
    def early(self) -> dict[str, Any]:
        """The options of the constructor."""
        return {name: value for name, value in self.options.items() if self.accepts(name)}

    @property
    def later(self) -> dict[str, Any]:
        """The options of ``explain``."""
        return {name: value for name, value in self.options.items() if not self.accepts(name)}


SUBJECTS: Final[Mapping[str, type[Subject]]] = {
    subject.kind: subject
    for subject in (BackboneSubject, AttentionSubject, DecoderSubject, ExplainerSubject)
}


class _Adapted(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # not set by train(), which would set the module's too


class _Featured(_Adapted):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps, pooled = self.module.forward_features(x)  # type: ignore[operator]
        return (*maps, pooled)


class _Single(_Adapted):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.module(x),)


class _Decoding(_Adapted):
    # Not *maps: of those, torch.export wants to be told otherwise which sizes are open.
    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
        return (self.module([a, b, c, d]),)


def parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    """Give the parameters of a class's constructor."""
    if cls.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return {}  # its signature says that it takes anything, and it takes nothing
    return inspect.signature(cls).parameters


def noise(*shape: int) -> Tensor:
    """Give normal random numbers, the same ones for one shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def perturb(module: nn.Module, seed: int = 1) -> None:
    """Move every value a little, so that none is neutral: a factor of zero hides what it weighs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
