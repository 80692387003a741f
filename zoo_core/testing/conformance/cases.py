"""The rules as test classes, which a plugin's own tests subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from zoo_core.catalogue import registry
from zoo_core.testing.conformance.applying import Case, Outcome, apply
from zoo_core.testing.conformance.book import rules_of, specs_of
from zoo_core.testing.conformance.naming import find_plugin
from zoo_core.testing.conformance.plugin import PluginSubject
from zoo_core.testing.conformance.rules import BrokenRuleError, Rule
from zoo_core.testing.conformance.subject import SUBJECTS, Subject


class _Cases(ABC):
    group: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Give a class of a group one test for each of its rules."""
        super().__init_subclass__()
        if "group" in vars(cls):
            for rule in [
                *(rules_of("plugin") if cls.group == "catalogue" else ()),
                *rules_of(cls.group),
            ]:
                setattr(cls, f"test_{rule.name}", _test(rule))

    @abstractmethod
    def outcomes(self, rule: Rule) -> list[Outcome]:
        """Apply a rule to all that the class is about."""


def _test(rule: Rule) -> Callable[[_Cases], None]:
    def test(self: _Cases) -> None:
        settle(self.outcomes(rule))

    test.__doc__ = f"{rule.summary}."
    test.__name__ = f"test_{rule.name}"
    return test


def outcome_of(case: Case) -> Outcome:
    """Apply the rule of a case."""
    return apply(case.rule, case.subject)


def settle(outcomes: list[Outcome]) -> None:
    """End a test as outcomes of its rule ask for: the first that failed fails it."""
    __tracebackhide__ = True
    for outcome in outcomes:
        if outcome.result == "failed":
            raise BrokenRuleError(
                expected=outcome.expected,
                found=f"{outcome.found} (in {outcome.subject})",
                change=outcome.change,
            ) from (outcome.error and outcome.error.__cause__)
    if all(outcome.result == "skipped" for outcome in outcomes):
        pytest.skip("; ".join(dict.fromkeys(outcome.reason for outcome in outcomes)))


class _ComponentTests(_Cases):
    """Tests of one component.

    Attributes:
        component: Its name in the catalogue, or the class itself.
        options: Constructor arguments that it is tested with, such as those that make it small.
    """

    component: ClassVar[str | type]
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def outcomes(self, rule: Rule) -> list[Outcome]:
        """Apply a rule to the component."""
        return [apply(rule, self.subject)]

    @property
    def subject(self) -> Subject:
        """The component under test."""
        found = self.component
        component = registry.of_kind(self.group)[found] if isinstance(found, str) else found
        return SUBJECTS[self.group](component, self.options)


class BackboneTests(_ComponentTests):
    """What a backbone must do: ``class TestMyNet(BackboneTests): component = "mynet"``."""

    group = "backbone"


class AttentionTests(_ComponentTests):
    """What an attention must do: ``class TestMyGate(AttentionTests): component = "mygate"``."""

    group = "attention"


class DecoderTests(_ComponentTests):
    """What a decoder must do: ``class TestMyHead(DecoderTests): component = "myhead"``."""

    group = "decoder"


class ExplainerTests(_ComponentTests):
    """What an explainer must do: ``class TestMyCAM(ExplainerTests): component = "mycam"``."""

    group = "explainer"


class CatalogueTests(_Cases):
    """What a plugin's catalogue must do, and what it says of each of its components.

    ``class TestCatalogue(CatalogueTests): distribution = "my-net"``

    Attributes:
        distribution: The distribution's name.
    """

    group = "catalogue"
    distribution: ClassVar[str]

    def outcomes(self, rule: Rule) -> list[Outcome]:
        """Apply a rule to the plugin, or to each of its components."""
        plugin = PluginSubject(find_plugin(self.distribution))
        if rule.group == "plugin":
            return [apply(rule, plugin)]
        return [apply(rule, SUBJECTS[spec.kind](spec)) for spec in specs_of(plugin.plugin)]
