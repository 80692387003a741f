"""Running a model to see its attention."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from zoo_attention_maps.capture import Capture
from zoo_attention_maps.layers import AttentionLayer, Run, layers_of
from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.keeping import eager
from zoo_core.explainability.results import NotApplicableError


def attention_of(inquiry: Inquiry, *, gradients: bool = False) -> dict[str, AttentionLayer]:
    """Give the attention of all layers by name.

    Args:
        inquiry: Model, pictures and, for gradients, the target.
        gradients: Whether the score's gradients at the weights are taken.

    Raises:
        NotApplicableError: If the model has no attention.
    """
    if gradients:
        _ = inquiry.target  # not in the middle of what is captured

    def run(rows: slice) -> Run:
        """Run some pictures, once more if the model writes over what was kept."""
        for copied in (False, True):
            capture = Capture(inquiry.model, gradients=gradients, copied=copied)
            with capture:
                if gradients:
                    numbers = torch.arange(rows.start, rows.stop, device=inquiry.inputs.device)
                    inquiry.gradients(inquiry.inputs[rows], numbers, exact=True)
                else:
                    _run(inquiry, inquiry.inputs[rows])
            if not capture.overwritten:
                break
        return Run(capture.seen, rows.stop - rows.start, inquiry.size, capture.grids)

    size = pictures_at_once(inquiry.inputs, graph=gradients)
    # Not only modules are compiled, but functions that they call, and nobody sees into those.
    with eager() if "torch._dynamo" in sys.modules else nullcontext():
        runs = [found for _, found in in_chunks(len(inquiry.inputs), size, run)]
    if not runs[0].seen:
        raise NotApplicableError(_reason(inquiry.model))
    return layers_of(runs)


@torch.no_grad()
def _run(inquiry: Inquiry, pictures: Tensor) -> None:
    """Run the model as the caller would; it need not give logits."""
    enabled, dtype = inquiry._autocast
    fed = pictures.to(inquiry._dtype) if inquiry._dtype != pictures.dtype else pictures.clone()
    with torch.autocast(pictures.device.type, dtype, enabled, cache_enabled=False):
        inquiry.model(fed)


def _reason(model: nn.Module) -> str:
    name = type(model).__name__
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return f"{name} is or has a compiled TorchScript program, into which nobody can see"
    for module in model.modules():
        config = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) == "flex_attention":
            return (
                f"{name} uses flex_attention, into which nobody can see; "
                f"set_attn_implementation('sdpa') gives the same"
            )
    return f"{name} has no attention: no softmax over keys weighs values when it runs"
