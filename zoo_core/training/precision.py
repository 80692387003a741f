"""Training in half precision, with gradients that are always true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from zoo_core.errors import InputError

DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32)
HALF: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number types of half precision by the names that ``--precision`` takes beside ``float32``."""


class MixedPrecisionManager:
    """Runs a forward in half precision, and leaves true gradients behind.

    Around any training loop::

        amp = MixedPrecisionManager(enabled=True)
        with amp.autocast():
            loss = …
        amp.backward(loss)
        optimizer.step()

    In float16 the loss is scaled, so that small gradients do not vanish. :meth:`backward` takes the
    scale out again, so that gradients can be clipped, accumulated and stepped on as in float32.
    Where they overflow, they are left as they were, the next step of each optimizer that holds them
    does nothing, and the scale is halved; it is doubled after 2,000 good ones (Micikevicius et al.
    2017, https://arxiv.org/abs/1710.03740).

    Args:
        enabled: Whether there is anything to do; else all is float32.
        dtype: ``torch.float16``, ``torch.bfloat16`` or ``torch.float32``; by default float16 on a
            GPU, and float32 on a CPU.
        device: Where the model runs; by default a GPU, if there is one.
        init_scale: What the loss is multiplied by at first, in float16.

    Attributes:
        dtype: The number type of the forward.
        scaler: Torch's, which keeps the scale; it does nothing unless the type is float16.

    Raises:
        InputError: If the type is another one.
    """

    def __init__(
        self,
        enabled: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        init_scale: float = 65536.0,
    ) -> None:
        if dtype not in (None, *DTYPES):
            raise InputError(f"dtype is torch.float16, bfloat16 or float32, not {dtype!r}")
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device_type = torch.device(device).type
        if dtype is None:
            dtype = torch.float32 if self.device_type == "cpu" else torch.float16
        self.dtype = dtype if enabled else torch.float32
        self.scaler = torch.amp.GradScaler(
            self.device_type, init_scale=init_scale, enabled=self.dtype == torch.float16
        )
        self._skipping: _Skipping | None = None

    @property
    def enabled(self) -> bool:
        """Whether the forward runs in half precision."""
        return self.dtype != torch.float32

    def autocast(self) -> torch.autocast:
        """Give the context for a forward and its loss."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.enabled)

    def backward(self, loss: Tensor) -> None:
        """Add the true gradients of a loss to ``.grad``.

        Raises:
            InputError: If the loss is not one number, or nothing that it depends on is trained.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise InputError(f"backward takes a loss, a tensor of one number, not {what:.200}")
        if not loss.requires_grad:
            raise InputError("nothing that the loss depends on requires a gradient")
        if not self.scaler.is_enabled():
            loss.backward()  # type: ignore[no-untyped-call]
            return
        leaves = list(_leaves(loss))
        before = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        is_finite = self.unscale(leaves)
        for leaf, grad in zip(leaves, before, strict=True):
            if not is_finite or leaf.grad is None:
                leaf.grad = grad
            elif grad is not None:
                leaf.grad = grad.add_(leaf.grad)
        if not is_finite:
            if self._skipping is None or not self._skipping.parameters:
                self._skipping = _Skipping()
            self._skipping.parameters.update(leaves)

    def unscale(self, parameters: Iterable[Tensor]) -> bool:
        """Take the scale out of gradients, and move it.

        For loops that scale by hand: ``amp.scaler.scale(loss).backward()``.

        Returns:
            Whether the gradients are finite; a step on others would spoil the model.
        """
        if not self.scaler.is_enabled():
            return True
        gate = _Gate(list(parameters))
        if all(parameter.grad is None for parameter in gate.param_groups[0]["params"]):
            return True
        self.scaler.unscale_(gate)
        self.scaler.step(gate)
        self.scaler.update()
        return gate.is_open

    def state_dict(self) -> dict[str, Any]:
        """Give the scale and its history, as plain numbers."""
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a scale and its history."""
        if state:
            self.scaler.load_state_dict(state)


class _Gate(Optimizer):
    """An optimizer whose step only tells that the scaler lets a step happen."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {})
        self.is_open = False

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Note that the gradients are finite."""
        self.is_open = True


class _Skipping:
    """Hides parameters' gradients from the next step of each optimizer that holds them."""

    def __init__(self) -> None:
        self.parameters: set[Tensor] = set()
        self._hidden: dict[Tensor, Tensor | None] = {}
        self._handles = [
            register_optimizer_step_pre_hook(self._hide),
            register_optimizer_step_post_hook(self._show),
        ]

    def _hide(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        held = {p for group in optimizer.param_groups for p in group["params"]}
        if isinstance(optimizer, _Gate) or not held & self.parameters:
            return
        self._hidden = {parameter: parameter.grad for parameter in held}
        for parameter in held:
            parameter.grad = None
        self.parameters -= held

    def _show(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if isinstance(optimizer, _Gate) or not self._hidden:
            return
        for parameter, grad in self._hidden.items():
            parameter.grad = grad
        self._hidden = {}
        if not self.parameters:
            for handle in self._handles:
                handle.remove()


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Give the tensors that a backward gives gradients to."""
    if loss.grad_fn is None:
        yield loss
        return
    seen: set[Node] = set()
    waiting: list[Node] = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
        waiting.extend(following for following, _ in node.next_functions if following is not None)
