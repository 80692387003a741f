"""One model in several processes: replicated, or in shards."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from inspect import signature
from typing import Any, Final, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from zoo_core.training.world import World

STRATEGIES: Final = ("ddp", "fsdp")
_LEAST: Final = 500_000
"""Parameters of a block that is worth a shard of its own."""
_SYNC_BUFFERS: Final = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"  # its older name
)


class Replica:
    """A model as this process trains it.

    With one process, that is the model itself. ``"ddp"`` gives each process a copy and averages
    gradients; ``"fsdp"`` gives each a shard of every tensor (FSDP2), from a copy, so that the
    model itself may stay where it has room.

    Attributes:
        model: What holds the parameters that are trained.
        call: What is called with pictures.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, world: World, strategy: str, compiled: bool
    ) -> None:
        self._world = world
        self._original = model
        self._optimizer = optimizer
        self._is_sharded = world.size > 1 and strategy == "fsdp"
        self._undo = ExitStack()
        # A model that has no room on the device is moved there shard by shard.
        self.model = copy.deepcopy(model) if self._is_sharded else model.to(world.device)
        if world.size > 1:
            self._undo.enter_context(_synchronised(self.model, world))
        if self._is_sharded:
            names = {parameter: name for name, parameter in self._original.named_parameters()}
            _shard(self.model, world)
            self._undo.enter_context(_optimizing(optimizer, names, self.model))
        inner: Any = torch.compile(self.model) if compiled else self.model
        self._ddp: DistributedDataParallel | None = None
        if world.size > 1 and not self._is_sharded:
            trained = any(parameter.requires_grad for parameter in self.model.parameters())
            if trained:
                options: dict[str, Any] = {_SYNC_BUFFERS: False}
                self._ddp = DistributedDataParallel(inner, **options)
        self.call: nn.Module = self._ddp or inner

    def accumulating(self) -> AbstractContextManager[None]:
        """Give the context of a backward whose gradients are not exchanged yet."""
        if self._ddp is not None:
            return cast(AbstractContextManager[None], self._ddp.no_sync())
        if self._is_sharded:
            return self._no_sync()
        return nullcontext()

    @contextmanager
    def _no_sync(self) -> Iterator[None]:
        model: Any = self.model
        model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(True)

    def close(self) -> None:
        """Give the model that was asked for what was learnt, as it was before."""
        if self._is_sharded:
            state = {name: whole(tensor) for name, tensor in self.model.state_dict().items()}
            self._original.load_state_dict(state)
        self._undo.close()
        # What wraps it holds the group of processes, which must end before the interpreter does.
        self._ddp = None
        self.model = self.call = self._original


def whole(tensor: Tensor) -> Tensor:
    """Give all of a tensor; on the CPU, if each process has a shard of it."""
    # Not by its type: importing DTensor takes most of a second, which one process need not wait.
    gathered = getattr(tensor, "full_tensor", None)
    return tensor if gathered is None else cast(Tensor, gathered()).cpu()


def like(value: Tensor, model: Tensor) -> Tensor:
    """Give a whole tensor as another one is: on its device, and in shards if that is."""
    value = value.to(model.device)
    if not hasattr(model, "full_tensor") or value.shape != model.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(model, DTensor)
    return distribute_tensor(value, model.device_mesh, model.placements)


def _shard(model: nn.Module, world: World) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Give the parts that are gathered one after the other: what stands in a row, and is large."""
    found: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            found += [child for child in module if _size(child) >= _LEAST]
    # The innermost first, as FSDP wants them.
    return [block for block in reversed(found) if not isinstance(block, nn.ModuleList)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def _optimizing(
    optimizer: Optimizer, names: dict[nn.Parameter, str], model: nn.Module
) -> Iterator[None]:
    """Let an optimizer step on another model's parameters of the same names."""
    before = [group["params"] for group in optimizer.param_groups]
    others = dict(model.named_parameters())
    for group, parameters in zip(optimizer.param_groups, before, strict=True):
        group["params"] = [others.get(names.get(p, ""), p) for p in parameters]
    optimizer.state.clear()
    try:
        yield
    finally:
        for group, parameters in zip(optimizer.param_groups, before, strict=True):
            group["params"] = parameters
        optimizer.state.clear()


@contextmanager
def _synchronised(model: nn.Module, world: World) -> Iterator[None]:
    """Let batch norms see the batch of all processes for a while."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm):
                synced: nn.Module
                if world.device.type == "cuda":
                    synced = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
                else:
                    synced = _SyncedBatchNorm(child)
                setattr(parent, name, synced)
                replaced.append((parent, name, child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


class _SyncedBatchNorm(_BatchNorm):
    """A batch norm over all processes, for CPUs, which ``SyncBatchNorm`` does not run on."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False)
        self.affine = norm.affine
        self.track_running_stats = norm.track_running_stats
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch calls it
        """Normalise ``[B, C, …]``."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        values = input.float()
        count = _sum_over_processes(values.new_tensor([input.numel() / input.shape[1]]))
        mean = _sum_over_processes(values.sum(axes)) / count
        centred = values - mean.reshape(shape)
        variance = _sum_over_processes(centred.square().sum(axes)) / count
        self._track(mean.detach(), (variance * count / (count - 1).clamp(min=1)).detach())
        normed = centred * (variance + self.eps).rsqrt().reshape(shape)
        if self.affine:
            normed = normed * self.weight.reshape(shape) + self.bias.reshape(shape)
        return normed.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Take any."""

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum
        if rate is None:
            rate = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def _sum_over_processes(values: Tensor) -> Tensor:
    return cast(Tensor, _SumOverProcesses.apply(values))
