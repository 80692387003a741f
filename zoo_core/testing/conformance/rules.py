"""What a rule is, and how it says that it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from zoo_core.errors import ZooError
from zoo_core.loader import CATCH, describe


class BrokenRuleError(ZooError):
    """A component breaks a rule.

    Attributes:
        expected: What the rule asks for.
        found: What the component does instead.
        change: What its author should change.
    """

    def __init__(self, *, expected: str, found: str, change: str) -> None:
        super().__init__(f"expected {expected}; found {found}; to mend it, {change}")
        self.expected, self.found, self.change = expected, found, change


class SkippedRuleError(ZooError):
    """A rule says nothing about a component; the message says why."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        group: The kind of component that it is for; ``plugin`` for a whole distribution, and
            ``catalogue`` for what a catalogue says of any component.
        name: Its name, unique in its group.
        summary: What it asks for, in one line.
        check: Raises :class:`BrokenRuleError` for what breaks it.
    """

    group: str
    name: str
    summary: str
    check: Callable[[Any], None]


RULES: dict[str, list[Rule]] = {}
"""The rules of each group, in the order in which they are applied; filled by :func:`rule`."""

_Check = TypeVar("_Check", bound=Callable[[Any], None])


def rule(*groups: str) -> Callable[[_Check], _Check]:
    """Make a function a rule of its name, which the first line of its docstring describes."""

    def make(check: _Check) -> _Check:
        summary = str(check.__doc__).splitlines()[0].rstrip(".")
        for group in groups:
            RULES.setdefault(group, []).append(Rule(group, check.__name__, summary, check))
        return check

    return make


def require(holds: bool, *, expected: str, found: str, change: str) -> None:
    """Break the rule unless something holds.

    Raises:
        BrokenRuleError: If it does not.
    """
    if not holds:
        raise BrokenRuleError(expected=expected, found=found, change=change)


@contextmanager
def trying(expected: str, change: str) -> Iterator[None]:
    """Break the rule if what is done within fails.

    Raises:
        BrokenRuleError: With the error that was found.
    """
    try:
        yield
    except (BrokenRuleError, SkippedRuleError):
        raise
    except CATCH as error:
        raise BrokenRuleError(expected=expected, found=describe(error), change=change) from error
