"""``zoo check``: whether plugins and components keep the rules."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from zoo_core.cli.completion import NameType
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import UsageError

if TYPE_CHECKING:
    from zoo_core.testing.conformance.applying import Outcome


@click.command()
@click.argument("names", metavar="[DIST|NAME]...", nargs=-1, type=NameType())
@click.option("--all", "check_all", is_flag=True, help="Check every installed plugin.")
@click.option("--rules", is_flag=True, help="List the rules instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(
    ctx: click.Context, names: tuple[str, ...], check_all: bool, rules: bool, as_json: bool
) -> None:
    """Check that plugins and components keep the rules.

    DIST is a distribution, which is checked with all of its components, and of a source such as
    timm/* with three; NAME is one component. Each rule that is broken is told with what was
    expected, what was found and what to change. The exit code is 1 if any is.

    \b
    Examples:
      zoo check resnet18
      zoo check my-plugin
      zoo check --all --json
      zoo check --rules
    """
    if bool(names) + check_all + rules != 1:
        raise UsageError("give distributions or components to check, or --all, or --rules")
    if rules:
        _echo_rules(as_json)
        return
    from zoo_core.testing.conformance.naming import checked_by_default, find

    found = checked_by_default() if check_all else [find(name) for name in names]
    from zoo_core.testing.conformance.applying import run
    from zoo_core.testing.conformance.book import cases_of

    cases = [case for one in found for case in cases_of(one)]
    outcomes: list[Outcome] = []
    with click.progressbar(
        run(cases),
        length=len(cases),
        label="rules",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as running:
        outcomes += running
    if as_json:
        echo_json({**_counts(outcomes), "rules": [_json(outcome) for outcome in outcomes]})
    else:
        _echo(outcomes, debug=ctx.find_root().params["debug"])
    if any(outcome.result == "failed" for outcome in outcomes):
        ctx.exit(1)


def _echo_rules(as_json: bool) -> None:
    from zoo_core.testing.conformance.book import GROUPS, rules_of

    groups: dict[tuple[str, str], list[str]] = {}
    for rule in (rule for group in GROUPS for rule in rules_of(group)):
        groups.setdefault((rule.name, rule.summary), []).append(rule.group)
    if as_json:
        echo_json(
            [
                {"groups": of, "rule": name, "summary": summary}
                for (name, summary), of in groups.items()
            ]
        )
    else:
        rows = [[", ".join(of), name, summary] for (name, summary), of in groups.items()]
        echo_table(["of", "rule", "what it asks for"], rows)


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = Counter(outcome.result for outcome in outcomes)
    return {result: counts[result] for result in ("passed", "failed", "skipped")}


def _json(outcome: Outcome) -> dict[str, Any]:
    return {
        "subject": outcome.subject,
        "group": outcome.rule.group,
        "rule": outcome.rule.name,
        "summary": outcome.rule.summary,
        "result": outcome.result,
        "expected": outcome.expected,
        "found": outcome.found,
        "change": outcome.change,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 3),
    }


def _echo(outcomes: Sequence[Outcome], *, debug: bool) -> None:
    rows = [
        [one.subject, one.rule.name, one.result, one.reason or one.rule.summary] for one in outcomes
    ]
    echo_table(["of", "rule", "result", "what it asks for, or why it is skipped"], rows)
    for outcome in outcomes:
        if outcome.result == "failed":
            click.echo(f"\n{outcome.subject} breaks the rule {outcome.rule.name}")
            click.echo(f"  expected  {outcome.expected}")
            click.echo(f"  found     {outcome.found}")
            click.echo(f"  change    {outcome.change}")
            if debug and outcome.error is not None and outcome.error.__cause__ is not None:
                click.echo("".join(traceback.format_exception(outcome.error.__cause__)), nl=False)
    told = ", ".join(f"{count} {result}" for result, count in _counts(outcomes).items())
    click.echo(f"\n{told}")
