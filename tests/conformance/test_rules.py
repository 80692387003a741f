"""Every rule is broken by a component that breaks just that rule."""

from __future__ import annotations

import pytest

from zoo_core.testing.conformance.applying import Case, Outcome, run
from zoo_core.testing.conformance.book import rules_of
from zoo_core.testing.conformance.subject import SUBJECTS

from .breaking import BROKEN, SHARING
from .sound import Gate, Head, Net, Slope

KINDS = ("backbone", "attention", "decoder", "explainer")
IN_CATALOGUE = {"input_size", "saving"}
"""Rules of what is in a catalogue only; see test_catalogue.py."""


def outcomes(kind: str, cls: type) -> dict[str, Outcome]:
    subject = SUBJECTS[kind](cls)
    return {one.rule.name: one for one in run(Case(rule, subject) for rule in rules_of(kind))}


def broken(found: dict[str, Outcome]) -> dict[str, str]:
    return {name: one.found for name, one in found.items() if one.result == "failed"}


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("backbone", Net), ("attention", Gate), ("decoder", Head), ("explainer", Slope)],
)
def test_a_sound_component_keeps_every_rule(kind: str, cls: type) -> None:
    found = outcomes(kind, cls)
    assert broken(found) == {}
    skipped = {name for name, one in found.items() if one.result == "skipped"}
    assert skipped == (IN_CATALOGUE & found.keys() if kind != "explainer" else {"own_model"})


def _parameters(kind: str, rule: str, cls: type) -> object:
    again = cls in SHARING and kind != "backbone"
    marks = [pytest.mark.long] if again else []
    return pytest.param(kind, rule, cls, id=f"{kind}-{rule}-{cls.__name__}", marks=marks)


@pytest.mark.parametrize(("kind", "rule", "cls"), [_parameters(*one) for one in BROKEN])
def test_a_component_breaks_just_one_rule(kind: str, rule: str, cls: type) -> None:
    found = outcomes(kind, cls)
    assert list(broken(found)) == [rule], broken(found)
    if rule == "construction":
        assert {one.reason for one in found.values() if one.rule.name != rule} == {
            "it cannot be constructed"
        }
    outcome = found[rule]
    assert outcome.expected
    assert outcome.found
    assert outcome.change


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_is_broken_by_a_component(kind: str) -> None:
    tested = {rule for its_kind, rule, _ in BROKEN if its_kind == kind}
    assert {rule.name for rule in rules_of(kind)} - IN_CATALOGUE == tested


@pytest.mark.parametrize("group", [*KINDS, "catalogue", "plugin"])
def test_rules_are_told_apart_and_described(group: str) -> None:
    rules = rules_of(group)
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(10 < len(rule.summary) < 100 for rule in rules)
