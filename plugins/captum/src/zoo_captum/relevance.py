"""Rules of layer-wise relevance propagation for layers that captum has none for."""

from __future__ import annotations

from typing import Any, Final

from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn

from zoo_captum.copies import HookableModel
from zoo_core.explainability.results import NotApplicableError

_LINEAR: Final = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout2d, nn.ZeroPad2d, nn.Conv1d, nn.Conv3d,
    nn.ConvTranspose2d, nn.Upsample, nn.PixelShuffle,
)  # fmt: skip
"""The epsilon rule holds for them as it does for linear layers that captum knows."""

_KNOWN: Final = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS, *_LINEAR)


def check_rules(model: HookableModel) -> None:
    """Check that there is a rule for all that a model, which was run before, does.

    Raises:
        NotApplicableError: If there is none.
    """
    unknown = sorted({kind.__name__ for kind in model.types if kind not in _KNOWN})
    if unknown:
        raise NotApplicableError(f"captum's LRP has no rule for {', '.join(unknown[:5])}")
    if model.functions:
        raise NotApplicableError(
            f"captum's LRP sees layers only, and the model calls "
            f"{', '.join(sorted(model.functions)[:5])} outside of them"
        )


def give_rules(model: nn.Module) -> None:
    """Give layers the rules that captum has not; it takes them away after each picture."""
    known = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
    for module in model.modules():
        if not any(True for _ in module.children()) and type(module) not in known:
            rule: Any = EpsilonRule()
            module.rule = rule
