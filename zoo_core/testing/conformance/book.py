"""All rules, and what they are applied to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zoo_core.catalogue import registry
from zoo_core.loader import Plugin
from zoo_core.spec import KINDS, Source, Spec
from zoo_core.testing.conformance import (
    attention,
    backbone,
    catalogue,
    decoder,
    explainer,
    modules,
    plugin,
    saving,
)
from zoo_core.testing.conformance.applying import FIRST, Case
from zoo_core.testing.conformance.plugin import PluginSubject
from zoo_core.testing.conformance.rules import RULES, Rule
from zoo_core.testing.conformance.subject import SUBJECTS

MODULES: Final = (plugin, catalogue, backbone, attention, decoder, explainer, modules, saving)
"""Where the rules are, in the order in which they are applied."""

GROUPS: Final = ("plugin", "catalogue", *KINDS)
"""The groups of rules."""

SAMPLE: Final = 3
"""How many names of a source are checked with its plugin."""


def rules_of(group: str) -> list[Rule]:
    """Give the rules of a group: a kind, ``plugin``, or ``catalogue`` for a component's entry."""
    places = [module.__name__ for module in MODULES]

    def order(rule: Rule) -> tuple[bool, int]:
        return rule.name != FIRST, places.index(rule.check.__module__)

    return sorted(RULES[group], key=order)


def cases_of(found: Plugin | Spec) -> list[Case]:
    """Give what is checked of a plugin, or of a component alone."""
    if isinstance(found, Spec):
        return cases_of_component(found)
    return cases_of_plugin(PluginSubject(found))


def cases_of_plugin(subject: PluginSubject) -> list[Case]:
    """Give what is checked of a plugin: itself, and each of its components."""
    cases = [Case(rule, subject) for rule in rules_of("plugin")]
    for spec in specs_of(subject.plugin):
        cases += cases_of_component(spec)
    return cases


def cases_of_component(spec: Spec) -> list[Case]:
    """Give what is checked of a component: its catalogue entry, and the rules of its kind."""
    subject = SUBJECTS[spec.kind](spec)
    groups = ("catalogue", spec.kind)
    return [Case(rule, subject) for group in groups for rule in rules_of(group)]


def specs_of(plugin: Plugin) -> list[Spec]:
    """Give the components of a plugin, and of each of its sources three."""
    sampled = (
        registry.source_spec(source, name)
        for source in plugin.sources
        for name in _sample(source, registry.source_names(source))
    )
    return [*plugin.specs, *sampled]


def _sample(source: Source, names: Sequence[str]) -> list[str]:
    """Give names that are made for tests, as timm's test_vit is, or else evenly spaced ones."""
    small = [name for name in names if name.startswith("test_")]
    chosen = small or names
    step = max(1, len(chosen) // SAMPLE)
    return list(chosen[::step][:SAMPLE])
