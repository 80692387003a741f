"""The rules as items of pytest: ``pytest --zoo-check DIST``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import pytest

from zoo_core.testing.conformance.applying import Case
from zoo_core.testing.conformance.book import cases_of
from zoo_core.testing.conformance.cases import outcome_of, settle
from zoo_core.testing.conformance.naming import find
from zoo_core.testing.conformance.rules import BrokenRuleError


class RuleItem(pytest.Item):
    """One rule applied to one component or plugin."""

    case: Case

    @classmethod
    def of(cls, parent: pytest.Session, case: Case) -> Self:
        """Make the item of a case."""
        name = f"{case.subject.name}::{case.rule.name}"
        item: Self = cls.from_parent(parent, name=name, nodeid=f"zoo-check::{name}")
        item.case = case
        return item

    def runtest(self) -> None:
        """Apply the rule."""
        settle([outcome_of(self.case)])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *rest: Any) -> Any:
        """Give what was expected, what was found and what to change."""
        error = excinfo.value
        if not isinstance(error, BrokenRuleError) or error.__cause__ is not None:
            return super().repr_failure(excinfo, *rest)
        return f"expected  {error.expected}\nfound     {error.found}\nchange    {error.change}"

    def reportinfo(self) -> tuple[str, None, str]:
        """Give what a report calls it."""
        return "zoo", None, f"{self.case.subject.name} {self.case.rule.name}"


def items(session: pytest.Session, names: list[str]) -> Iterator[RuleItem]:
    """Give an item for each rule of distributions or components.

    Raises:
        UnknownComponentError: If there is none of a name.
    """
    for name in names:
        for case in cases_of(find(name)):
            yield RuleItem.of(session, case)
