"""Applying rules, one after the other or one by one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from zoo_core.loader import CATCH, describe
from zoo_core.spec import KINDS
from zoo_core.testing.conformance.rules import BrokenRuleError, Rule, SkippedRuleError
from zoo_core.testing.conformance.state import settings_kept

FIRST: Final = "construction"
"""The rule without which no other one of its kind can be tried."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one rule.

    Attributes:
        subject: The component, or the distribution, by its qualified name.
        rule: The rule.
        result: ``passed``, ``failed`` or ``skipped``.
        expected: What the rule asks for, if it is broken.
        found: What was found instead.
        change: What its author should change.
        reason: Why it was skipped.
        seconds: How long it took.
        error: What was raised, if it is broken.
    """

    subject: str
    rule: Rule
    result: Literal["passed", "failed", "skipped"]
    expected: str = ""
    found: str = ""
    change: str = ""
    reason: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, repr=False)


class Case(NamedTuple):
    """A rule, and what it is applied to."""

    rule: Rule
    subject: Any


def apply(rule: Rule, subject: Any) -> Outcome:
    """Apply a rule to a subject of its group; settings of the process are put back afterwards."""
    start = time.perf_counter()

    def outcome(result: Literal["passed", "failed", "skipped"], **more: Any) -> Outcome:
        seconds = time.perf_counter() - start
        return Outcome(subject=subject.name, rule=rule, result=result, seconds=seconds, **more)

    try:
        with warnings.catch_warnings(), settings_kept():
            warnings.simplefilter("ignore")
            rule.check(subject)
    except SkippedRuleError as error:
        return outcome("skipped", reason=str(error))
    except BrokenRuleError as error:
        told = {"expected": error.expected, "found": error.found, "change": error.change}
        return outcome("failed", **told, error=error)
    except CATCH as found:
        broken = BrokenRuleError(
            expected=_lowered(rule.summary),
            found=describe(found),
            change="see where it is raised: 'zoo --debug check' and pytest show the traceback",
        )
        broken.__cause__ = found
        told = {"expected": broken.expected, "found": broken.found, "change": broken.change}
        return outcome("failed", **told, error=broken)
    return outcome("passed")


def run(cases: Iterable[Case]) -> Iterator[Outcome]:
    """Apply rules in turn, but for those that can only fail because another one did."""
    broken: dict[str, set[str]] = {}
    for rule, subject in cases:
        so_far = broken.setdefault(subject.name, set())
        reason = _hindrance(rule, so_far)
        if reason:
            yield Outcome(subject=subject.name, rule=rule, result="skipped", reason=reason)
            continue
        outcome = apply(rule, subject)
        if outcome.result == "failed":
            so_far.add(rule.name)
        yield outcome


def _hindrance(rule: Rule, broken: set[str]) -> str:
    if "target" in broken:
        return "its target is no class of its kind"
    if FIRST in broken and rule.group in KINDS:
        return "it cannot be constructed"
    if "facts" in broken and rule.name == "saving":
        return "zoo.build refuses what it declares"
    return ""


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
