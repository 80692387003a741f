"""Running any model so that it can be explained, without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import nn
from torch.utils import checkpoint

from zoo_core.explainability.keeping import (
    OwnedTensors,
    eager,
    is_compiled,
    modules_kept,
    random_kept,
)


def unwrapped(model: nn.Module) -> nn.Module:
    """Give the model inside what ``torch.compile``, DDP and ``DataParallel`` make of it.

    To explain the wrapper on one rank of many would wait for the others for ever.
    """
    while True:
        inner = model
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        inner = getattr(inner, "_orig_mod", inner)
        if inner is model:
            return model
        model = inner


def in_checkpoint() -> bool:
    """Tell whether what runs now is inside of :func:`torch.utils.checkpoint.checkpoint`.

    That runs it again for its gradients, when modes and hooks of now are gone, and takes what is
    saved then for what was saved now. Torch's older way of doing so has no such gradients.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None and hooks[0].__module__ == checkpoint.__name__


@contextmanager
def explaining(model: nn.Module) -> Iterator[nn.Module]:
    """Give the unwrapped model, ready to be run with gradients, and leave it as it was.

    Within it all modules are in eval mode and run uncompiled, and gradients are on, whatever mode
    the caller is in; parameters are as they are. Afterwards, an exception included, each module's
    own flag, its buffers and the global random numbers are as before. Threads may explain one
    model at once; what another thread draws from the global generators meanwhile may be drawn
    again.

    Whoever runs the model here takes gradients by ``torch.autograd.grad`` of inputs or
    activations, never by ``backward``, and puts hooks only through
    :func:`zoo_core.explainability.recording.recording`, so that other threads do not see them.
    """
    bare = unwrapped(model)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(random_kept())
        if is_compiled(bare):
            stack.enter_context(eager())
        stack.enter_context(modules_kept(bare))
        if any(tensor.is_inference() for tensor in chain(bare.parameters(), bare.buffers())):
            stack.enter_context(OwnedTensors())
        yield bare
