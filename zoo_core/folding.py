"""Convolutions that do the work of the batch norms behind them, found while a model runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_HARMLESS: Final = {
    Tensor.dim, Tensor.size, Tensor.stride, Tensor.numel, Tensor.is_floating_point,
    Tensor.is_contiguous, Tensor.is_complex, Tensor.is_inference,
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "ndim", "dtype", "device", "requires_grad", "is_cuda", "layout")
    ),
}  # fmt: skip
"""What tells nothing of a tensor's values."""


@dataclass(frozen=True)
class NormCall:
    """The arguments of ``torch.nn.functional.batch_norm``."""

    input: Tensor
    mean: Tensor | None
    variance: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    @classmethod
    def of(cls, args: Any, kwargs: Any) -> NormCall:
        """Give those of a call, whichever were named."""
        names = {"running_mean": "mean", "running_var": "variance"}
        return cls(*args, **{names.get(name, name): value for name, value in kwargs.items()})

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Mean, variance, weight and bias."""
        return self.mean, self.variance, self.weight, self.bias

    @property
    def fixed(self) -> bool:
        """Whether it is the same for every picture."""
        return not self.training and self.mean is not None and self.variance is not None


@dataclass(frozen=True, eq=False)
class _Norm:
    """A batch norm in eval mode: its arguments, which it does not keep alive."""

    tensors: tuple[weakref.ref[Tensor] | None, ...]
    eps: float

    def alive(self) -> tuple[Tensor | None, ...] | None:
        """Give mean, variance, weight and bias, or nothing if one is gone."""
        given = tuple(None if ref is None else ref() for ref in self.tensors)
        gone = any(ref and tensor is None for ref, tensor in zip(self.tensors, given, strict=True))
        return None if gone else given

    @classmethod
    def of(cls, call: NormCall) -> _Norm:
        """Give that of a call."""
        return cls(tuple(None if t is None else weakref.ref(t) for t in call.tensors), call.eps)

    def does(self, call: NormCall) -> bool:
        """Whether a call is this norm's."""
        alive = self.alive()
        return (
            alive is not None
            and call.fixed
            and self.eps == call.eps
            and all(one is other for one, other in zip(alive, call.tensors, strict=True))
        )


class Pairs:
    """Which convolutions of a model are read by one batch norm and by nothing else.

    It is learnt from the first run in which each is seen, and kept as long as the model, for which
    :func:`pairs_of` gives it. Neither weights nor norms are kept alive.
    """

    def __init__(self) -> None:
        self._norms: Any = WeakIdKeyDictionary()

    def __contains__(self, weight: Tensor) -> bool:
        """Whether a convolution's readers are known."""
        return weight in self._norms

    def norm(self, weight: Tensor) -> _Norm | None:
        """Give the norm that alone reads what a convolution gives."""
        found: _Norm | None = self._norms.get(weight)
        return found

    def learn(self, weight: Tensor, norm: _Norm | None) -> None:
        """Note who reads what a convolution gives; ``None`` if it is not one batch norm."""
        self._norms[weight] = norm

    def forget(self, weight: Tensor) -> None:
        """Learn a convolution's readers again."""
        self._norms.pop(weight, None)


_KNOWN: weakref.WeakKeyDictionary[nn.Module, Pairs] = weakref.WeakKeyDictionary()


def pairs_of(model: nn.Module) -> Pairs | None:
    """Give what is known of a model so far, or nothing if it cannot have any pairs.

    Nor is there anything for one with hooks, which may see what a convolution gives.
    """
    layers = list(model.modules())
    norms = (nn.BatchNorm2d, nn.SyncBatchNorm)
    possible = any(isinstance(layer, nn.Conv2d) for layer in layers) and any(
        isinstance(layer, norms) and layer.running_mean is not None for layer in layers
    )
    if not possible or any(layer._forward_hooks for layer in layers):
        return None
    return _KNOWN.setdefault(model, Pairs())


class JointWeights:
    """Weights and biases of convolutions that do the work of their batch norms, kept for some runs.

    They are made anew when a part of them has changed.
    """

    def __init__(self) -> None:
        self._made: Any = WeakIdKeyDictionary()

    def of(self, weight: Tensor, bias: Tensor | None, norm: _Norm) -> tuple[Tensor, Tensor] | None:
        """Give both, or nothing where they cannot be made."""
        alive = norm.alive()
        if alive is None:
            return None
        parts = [weight, *(t for t in (bias, *alive) if t is not None)]
        if any(t.dtype != weight.dtype or t.device != weight.device for t in parts):
            return None
        if weight.dtype not in (torch.float32, torch.float64):
            return None
        if any(t.is_inference() for t in parts):  # whose changes nobody counts
            return None
        state = [norm, *((t._version, t.data_ptr(), t.dtype) for t in parts)]
        made = self._made.get(weight)
        if made is None or made[0] != state:
            made = self._made[weight] = state, _joint(weight, bias, alive, norm.eps)
        return made[1]  # type: ignore[no-any-return]


@torch.no_grad()
def _joint(
    weight: Tensor, bias: Tensor | None, norm: tuple[Tensor | None, ...], eps: float
) -> tuple[Tensor, Tensor]:
    mean, variance, factor, start = norm
    assert mean is not None
    assert variance is not None
    scale = (variance + eps).rsqrt()
    if factor is not None:
        scale = scale * factor
    middle = mean if bias is None else mean - bias
    shift = -middle * scale if start is None else start - middle * scale
    joint = (weight * scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
    return joint, shift


@dataclass
class _Readers:
    """Who read what a convolution gave in one run: which norms, and whether anything else."""

    calls: int = 0
    reads: int = 0
    norms: list[_Norm] = field(default_factory=list)
    others: bool = False

    def add(self, call: NormCall) -> None:
        """Note a norm that read."""
        if not self.norms or not self.norms[0].does(call):
            self.norms.append(_Norm.of(call))
        self.reads += 1

    @property
    def norm(self) -> _Norm | None:
        """The one norm that alone read each result."""
        alone = not self.others and len(self.norms) == 1 and self.reads == self.calls
        return self.norms[0] if alone else None


@dataclass(frozen=True)
class _Joined:
    """What a convolution gave that did its norm's work too."""

    output: Tensor
    alone: Callable[[], Tensor]
    norm: _Norm


class Folding(TorchFunctionMode):
    """Within it a convolution that only one batch norm in eval mode reads does its work too.

    So a model in eval mode takes less time, with values that differ by rounding, and these layers'
    weights get no gradient. Who reads a convolution is learnt from a model's first run; whoever
    else reads one later, such as a hook, is given what the convolution alone gives. A model that
    reads a convolution again after its batch norm, but did not when it was first run, is the one
    thing that is not seen.

    Args:
        pairs: What is known of the model, to which is added.
        joint: Where the weights of both together are kept; ``None`` for a run from which is only
            learnt.
    """

    def __init__(self, pairs: Pairs, joint: JointWeights | None) -> None:
        super().__init__()
        self._pairs, self._joint = pairs, joint
        self._joined: dict[int, _Joined] = {}
        self._watched: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._readers: Any = WeakIdKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or what takes its place."""
        kwargs = kwargs or {}
        if func is F.batch_norm:
            call = NormCall.of(args, kwargs)
            joined = self._joined.get(id(call.input))
            if joined is not None and joined.norm.does(call):
                return self._joined.pop(id(call.input)).output
            watched = self._readers_of(call.input)
            if watched is not None and call.fixed:
                watched.add(call)
                return self.call(func, args, kwargs)
        if func not in _HARMLESS and (self._joined or self._watched):
            args, kwargs = self._plain(args), self._plain(kwargs)
        if func is F.conv2d:
            return self._convolution(*args, **kwargs)
        return self.call(func, args, kwargs)

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function; of a pair, the convolution with the weights that it has then."""
        return func(*args, **kwargs)

    def __exit__(self, *raised: Any) -> None:
        """Add what was learnt, unless the run failed."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        if raised[0] is None:
            for weight, readers in self._readers.items():
                self._pairs.learn(weight, readers.norm)
        for kept in (self._joined, self._watched, self._readers):
            kept.clear()

    def _convolution(
        self,
        input: Tensor,  # noqa: A002  # as torch calls it
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        def convolved(weight: Tensor, bias: Tensor | None) -> Tensor:
            output: Tensor = self.call(F.conv2d, (input, weight, bias, *args), kwargs)
            return output

        def alone() -> Tensor:
            return convolved(weight, bias)

        if not isinstance(weight, nn.Parameter):
            return alone()
        norm = None if self._joint is None else self._pairs.norm(weight)
        if norm is not None and self._joint is not None:
            joint = self._joint.of(weight, bias, norm)
            if joint is not None:
                output = convolved(*joint)
                self._joined[id(output)] = _Joined(output, alone, norm)
                return output
        output = alone()
        if weight not in self._pairs:
            readers = self._readers.setdefault(weight, _Readers())
            readers.calls += 1
            self._watched[id(output)] = weakref.ref(output), weight
        return output

    def _readers_of(self, tensor: Tensor) -> _Readers | None:
        """Give the readers of the convolution that gave a tensor, if they are being learnt."""
        ref, weight = self._watched.get(id(tensor), (None, None))
        # Another tensor may have come to where one was.
        return self._readers[weight] if ref is not None and ref() is tensor else None

    def _plain(self, given: Any) -> Any:
        """Give arguments with what convolutions alone give, and note who reads that."""
        if isinstance(given, Tensor):
            if id(given) in self._joined:
                return self._joined[id(given)].alone()
            readers = self._readers_of(given)
            if readers is not None:
                readers.others = True
        elif isinstance(given, dict):
            return {name: self._plain(value) for name, value in given.items()}
        elif type(given) in (list, tuple):
            return type(given)(map(self._plain, given))
        return given
