"""Components that each break one rule, and no other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import ChannelSchedule
from zoo_core.contracts import Features
from zoo_core.explainability import explaining

from .sound import Gate, Head, Net, Slope

BROKEN: list[tuple[str, str, type]] = []
"""Kind, the rule that is broken, and the class that breaks it."""

SHARING: set[type] = set()
"""Those whose rule, one function, is broken in the same way in other kinds too."""


def breaks(kind: str, rule: str) -> Callable[[type], type]:
    def note(cls: type) -> type:
        BROKEN.append((kind, rule, cls))
        return cls

    return note


# Rules that all modules share, broken in a backbone, an attention and a decoder.


def touched(given: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change the first tensor of what a module takes or gives."""
    if isinstance(given, Tensor):
        return change(given)
    return [change(given[0]), *given[1:]]


class Detached:
    def finish(self) -> None:
        self.shift = nn.Parameter(torch.ones(1))

    def forward(self, x: Any, **more: Any) -> Any:
        return touched(super().forward(x, **more), lambda y: y + self.shift.detach())


class Counting:
    def finish(self) -> None:
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Any, **more: Any) -> Any:
        self.calls += 1
        return super().forward(x, **more)


class Chance:
    """Its initial values come from a generator that no seed reaches."""

    def finish(self) -> None:
        nn.init.constant_(self.norm.bias, random.SystemRandom().random())


class Seeding:
    def finish(self) -> None:
        torch.manual_seed(0)


class InPlace:
    def forward(self, x: Any, **more: Any) -> Any:
        return super().forward(touched(x, lambda y: y.mul_(2)), **more)


class Centring:
    def forward(self, x: Any, **more: Any) -> Any:
        return touched(super().forward(x, **more), lambda y: y - y.mean(0))


class Forgetting:
    """Its constant is drawn, and not in the state dict."""

    def finish(self) -> None:
        self.register_buffer("shift", torch.randn(1), persistent=False)

    def forward(self, x: Any, **more: Any) -> Any:
        return touched(super().forward(x, **more), lambda y: y + self.shift)


class Single:
    """Gives float32 for half precision."""

    def forward(self, x: Any, **more: Any) -> Any:
        one = torch.float32 if (x if isinstance(x, Tensor) else x[0]).dtype.itemsize < 4 else None
        return touched(super().forward(x, **more), lambda y: y.to(one or y.dtype))


class Homebound:
    def forward(self, x: Any, **more: Any) -> Any:
        return touched(super().forward(x, **more), lambda y: y + torch.zeros(1, dtype=y.dtype))


class Splitting:
    def forward(self, x: Any, **more: Any) -> Any:
        torch._dynamo.graph_break()
        return super().forward(x, **more)


class Fixing:
    """Its batch is a number of Python, which a program keeps."""

    def forward(self, x: Any, **more: Any) -> Any:
        return touched(
            super().forward(x, **more), lambda y: y.reshape(int(y.shape[0]), *y.shape[1:])
        )


class Setting:
    def finish(self) -> None:
        torch.backends.cudnn.benchmark = True


class Drawing:
    """Draws one of Python's random numbers, without use."""

    def finish(self) -> None:
        random.random()


class Exporting:
    def finish(self) -> None:
        os.environ["ZOO_TEST_WAS_HERE"] = "1"


SHARED: list[tuple[str, type]] = [
    ("gradients", Detached),
    ("train_and_eval", Counting),
    ("seed", Chance),
    ("seed", Seeding),
    ("inputs_kept", InPlace),
    ("batch_independence", Centring),
    ("state_dict", Forgetting),
    ("dtypes", Single),
    ("devices", Homebound),
    ("compiles", Splitting),
    ("exports", Fixing),
    ("global_state", Setting),
    ("global_state", Drawing),
    ("global_state", Exporting),
]
for _kind, _base in (("backbone", Net), ("attention", Gate), ("decoder", Head)):
    for _rule, _flaw in SHARED:
        breaks(_kind, _rule)(type(f"{_flaw.__name__}{_base.__name__}", (_flaw, _base), {}))
        SHARING.add(BROKEN[-1][2])


# Arguments that JSON cannot hold.


@breaks("backbone", "by_value")
class ClassyNet(Net):
    def __init__(self, in_channels: int = 3, activation: type = nn.Identity) -> None:
        super().__init__(in_channels)
        self.activation = activation()


@breaks("attention", "by_value")
class ClassyGate(Gate):
    def __init__(self, in_channels: int, activation: type = nn.Identity) -> None:
        super().__init__(in_channels)
        self.activation = activation()


@breaks("decoder", "by_value")
class ClassyHead(Head):
    def __init__(
        self,
        backbone_channels: Sequence[int],
        output_channels: int,
        activation: type = nn.Identity,
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.activation = activation()


# Backbones.


@breaks("backbone", "construction")
class Unplanned(Net):
    def get_channel_schedule(self) -> list[int]:
        return [8, 16]


@breaks("backbone", "sizes")
class Cropping(Net):
    """Leaves a column out of wide pictures of odd width."""

    def forward(self, x: Tensor) -> list[Tensor]:
        odd = x.shape[-1] % 2 and x.shape[-1] > 40
        return super().forward(x[..., :-1] if odd else x)


@breaks("backbone", "small_pictures")
class Mirroring(Net):
    """Pads by reflection, which takes more pixels than there may be."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(F.pad(x, (8, 8, 8, 8), mode="reflect")[..., 8:-8, 8:-8])


@breaks("backbone", "channels")
class Coloured(Net):
    def __init__(self, width: int = 8) -> None:
        super().__init__(3, width)


@breaks("backbone", "channels")
class Stubborn(Net):
    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(3)


@breaks("backbone", "pooled")
class Short(Net):
    def forward_features(self, x: Tensor) -> Features:
        maps = self(x)
        return Features(maps, maps[0].mean((2, 3)))


@breaks("backbone", "map_gradients")
class Pooling(Net):
    """Keeps the layer of its pooled vector where only its maps are read."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(in_channels)
        self.last = nn.Linear(16, 16)

    def forward_features(self, x: Tensor) -> Features:
        maps = self(x)
        return Features(maps, self.last(maps[-1].mean((2, 3))))


# Attentions.


@breaks("attention", "construction")
class Wanting(Gate):
    def __init__(self, in_channels: int, wanted: int) -> None:
        super().__init__(in_channels)


@breaks("attention", "levels")
class Halving(Gate):
    """Loses the last row and column of odd maps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]


@breaks("attention", "levels")
class Grouped(Gate):
    def __init__(self, in_channels: int) -> None:
        if in_channels % 32:
            raise ValueError("in_channels must be a multiple of 32")
        super().__init__(in_channels)


# Decoders.


@breaks("decoder", "construction")
class Classless(Head):
    def __init__(self, backbone_channels: Sequence[int]) -> None:
        super().__init__(backbone_channels, 3)


@breaks("decoder", "schedules")
class Fourfold(Head):
    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__(backbone_channels, output_channels)
        if len(self.layers) != 4:
            raise ValueError("four maps are needed")


@breaks("decoder", "sizes")
class Even(Head):
    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        size = None if output_size is None else (output_size[0], output_size[1] // 2 * 2)
        return super().forward(features, size)


@breaks("decoder", "own_size")
class Quarter(Head):
    """Takes it that the first stride is 4."""

    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__(backbone_channels, output_channels)
        self.stride = 4


@breaks("decoder", "classes")
class Three(Head):
    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__(backbone_channels, 3)


@breaks("decoder", "plain_channels")
class Scheduled(Head):
    def __init__(self, backbone_channels: ChannelSchedule, output_channels: int) -> None:
        super().__init__(backbone_channels, output_channels)
        self.deepest = backbone_channels.strides[-1]


@breaks("decoder", "reads")
class Blind(Head):
    """Reads the first map only, and says nothing of it."""

    def __init__(self, backbone_channels: Sequence[int], output_channels: int) -> None:
        super().__init__(backbone_channels, output_channels)
        self.layers = self.layers[:1]

    def forward(
        self, features: Sequence[Tensor], output_size: tuple[int, int] | None = None
    ) -> Tensor:
        return super().forward(features[:1], output_size)


# Explainers.


@breaks("explainer", "construction")
class Demanding(Slope):
    def __init__(self, layer: str) -> None:
        self.layer = layer


@breaks("explainer", "maps")
class Coarse(Slope):
    def explain(self, *args: Any, **kwargs: Any) -> Tensor:
        return F.avg_pool2d(super().explain(*args, **kwargs), 2)


@breaks("explainer", "targets")
class First(Slope):
    """Takes the first picture's class for all."""

    def scores(self, model: nn.Module, x: Tensor, target: int | Tensor | None) -> Tensor:
        if isinstance(target, Tensor):
            target = int(target[0])
        return super().scores(model, x, target)


@breaks("explainer", "targets")
class Decided(Slope):
    """Knows nothing of a class that is not given."""

    def scores(self, model: nn.Module, x: Tensor, target: int | Tensor | None) -> Tensor:
        return super().scores(model, x, 0 if target is None else target)


@breaks("explainer", "eval_mode")
class Dropping(Slope):
    """Leaves dropout on where it is on."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        flags = {part: part.training for part in model.modules() if isinstance(part, nn.Dropout)}
        with explaining(model) as bare:
            for part, flag in flags.items():
                part.training = flag
            leaf = inputs.detach().clone().requires_grad_()
            return torch.autograd.grad(self.scores(bare, leaf, target_class).sum(), leaf)[0]


@breaks("explainer", "repeatable")
class Noisy(Slope):
    """Its noise depends on the last torch.manual_seed."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        generator = torch.Generator().manual_seed(torch.initial_seed())
        noise = 0.1 * torch.randn(inputs.shape[1:], generator=generator)
        return super().explain(inputs + noise, model, target_class)


@breaks("explainer", "batch_independence")
class Scaled(Slope):
    """Multiplies by the batch's largest pixel."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        return super().explain(inputs, model, target_class) * inputs.amax()


@breaks("explainer", "own_model")
class Forgetful(Slope):
    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = model


@breaks("explainer", "no_trace")
class Trailing(Slope):
    """Leaves gradients at the parameters."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        with explaining(model) as bare:
            leaf = inputs.detach().clone().requires_grad_()
            self.scores(bare, leaf, target_class).sum().backward()
        assert leaf.grad is not None
        return leaf.grad


@breaks("explainer", "no_trace")
class Attached(Slope):
    """Gives values with a graph."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        return super().explain(inputs, model, target_class).requires_grad_()


@breaks("explainer", "no_trace_of_failure")
class Hooking(Slope):
    """Removes its hook unless the model fails."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        handle = next(model.children()).register_forward_hook(lambda *_: None)
        values = super().explain(inputs, model, target_class)
        handle.remove()
        return values


@breaks("explainer", "no_trace_of_failure")
class Silent(Slope):
    """Gives zeros where the model fails."""

    def explain(
        self, inputs: Tensor, model: nn.Module, target_class: int | Tensor | None = None
    ) -> Tensor:
        try:
            return super().explain(inputs, model, target_class)
        except RuntimeError:
            return torch.zeros_like(inputs)
