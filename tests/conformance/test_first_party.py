"""The zoo's own plugins keep the rules: a small component of each, and all of them by --long."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from zoo_core import registry
from zoo_core.testing.conformance.applying import Case, Outcome, run
from zoo_core.testing.conformance.book import cases_of_component, cases_of_plugin, rules_of
from zoo_core.testing.conformance.naming import find_plugin
from zoo_core.testing.conformance.plugin import PluginSubject
from zoo_core.testing.conformance.subject import SUBJECTS

SMALL: Final[dict[str, dict[str, Any]]] = {
    "zoo-attention:se": {},
    "zoo-attention-maps:attention": {},
    "zoo-captum:captum/deconvolution": {},
    "zoo-cbam:cbam": {},
    "zoo-decoders:linear": {},
    "zoo-gradcam:grad_cam": {},
    "zoo-resnet:resnet18": {},
    "zoo-saliency:rise": {"num_masks": 20},
    "zoo-smp:smp/linknet": {"decoder_prefinal_channels": 16},
    "zoo-timm:timm/test_resnet": {},
    "zoo-unet:unet": {"decoder_channels": [16]},
    "zoo-vit:vit": {
        "patch_size": 14, "num_layers": 4, "hidden_dim": 32, "num_heads": 2, "mlp_dim": 32,
    },
}  # fmt: skip
SLOW: Final = {"compiles", "exports", "saving"}
"""Rules that take most of the time; of first-party parts, other tests prove the same."""


def failed(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.subject} {o.rule.name}: {o.error}" for o in outcomes if o.result == "failed"]


@pytest.mark.parametrize("name", SMALL)
def test_a_small_component_keeps_the_rules(name: str) -> None:
    spec = registry[name]
    subject = SUBJECTS[spec.kind](spec, SMALL[name])
    rules = [*rules_of("catalogue"), *rules_of(spec.kind)]
    outcomes = list(run(Case(rule, subject) for rule in rules if rule.name not in SLOW))
    assert failed(outcomes) == []
    assert sum(one.result == "passed" for one in outcomes) > 10


def test_every_plugin_is_among_them() -> None:
    projects = (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml")
    names = {tomllib.loads(file.read_text())["project"]["name"] for file in projects}
    assert {name.partition(":")[0] for name in SMALL} == names


@pytest.mark.long
@pytest.mark.parametrize("distribution", sorted({name.partition(":")[0] for name in SMALL}))
def test_all_components_keep_the_rules(distribution: str) -> None:
    outcomes = list(run(cases_of_plugin(PluginSubject(find_plugin(distribution)))))
    assert failed(outcomes) == []


def test_a_name_of_a_source_is_a_component_too() -> None:
    cases = cases_of_component(registry["timm/resnet18"])
    assert {case.subject.name for case in cases} == {"zoo-timm:timm/resnet18"}
    assert [case.rule.group for case in cases][:1] == ["catalogue"]
