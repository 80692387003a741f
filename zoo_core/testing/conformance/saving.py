"""The rule that a model with a component of the catalogue is saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch import nn

from zoo_core.building import build
from zoo_core.catalogue import registry
from zoo_core.models import MultitaskModel
from zoo_core.spec import Spec
from zoo_core.testing.conformance.comparing import difference, share
from zoo_core.testing.conformance.modules import MODULES
from zoo_core.testing.conformance.rules import SkippedRuleError, require, rule
from zoo_core.testing.conformance.subject import ModuleSubject, noise, perturb

LARGEST: Final = 100_000_000
"""Values of a component that is still written to the disk."""

PARTNERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "zoo-vit:vit": {
        "patch_size": 8, "num_layers": 4, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 32,
    },
    "zoo-resnet:resnet18": {},
}  # fmt: skip
"""Backbones that an attention or a decoder is saved with: the first that is installed."""


@rule(*MODULES)
def saving(subject: ModuleSubject) -> None:
    """A model with it does the same after save_pretrained and from_pretrained."""
    if subject.spec is None:
        raise SkippedRuleError("it is in no catalogue")
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in subject.make().parameters())
    if size > LARGEST:
        raise SkippedRuleError(f"with {size:,} values it is too large to be saved for a check")
    model = _model(subject.spec, subject.options)
    perturb(model)
    model.eval()
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        other = MultitaskModel.from_pretrained(folder).eval()
    pictures = noise(2, 3, 65, 97)
    gap = difference(_outputs(other, pictures), _outputs(model, pictures))
    require(
        gap < 1e-6,
        expected="the same output of the loaded model",
        found=f"outputs that differ by {share(gap)}",
        change="keep what forward reads in parameters, persistent buffers and constructor "
        "arguments",
    )


def _model(spec: Spec, options: Mapping[str, Any]) -> MultitaskModel:
    if spec.kind == "backbone":
        return build(spec.qualified_name, num_classes_classification=3, backbone=options, seed=0)
    for name, more in PARTNERS.items():
        if name not in registry.backbones:
            continue
        recipe = f"{name}+{spec.qualified_name}"
        given: dict[str, Any] = {spec.kind: dict(options)}
        return build(recipe, num_classes_classification=3, backbone=more, seed=0, **given)
    raise SkippedRuleError("no backbone is installed to save it with: pip install zoo-resnet")


def _outputs(model: nn.Module, pictures: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        given = model(pictures)
    return list(given.values()) if isinstance(given, dict) else [given]
