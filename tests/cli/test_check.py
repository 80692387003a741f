"""``zoo check``: what it takes, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zoo_core.testing.conformance.book import GROUPS, rules_of

Invoke = Callable[..., Any]
Table = list[list[str]]


def test_every_rule_has_a_row(invoke: Invoke, table: Callable[[str], Table]) -> None:
    shown = invoke("check", "zoo-saliency:saliency").stdout
    header, *rows = table(shown)
    assert header == ["of", "rule", "result", "what it asks for, or why it is skipped"]
    rules = [*rules_of("catalogue"), *rules_of("explainer")]
    assert rows == [["zoo-saliency:saliency", r.name, "passed", r.summary] for r in rules]
    assert shown.endswith(f"\n\n{len(rules)} passed, 0 failed, 0 skipped\n")


def test_json_has_all(invoke_json: Callable[..., Any]) -> None:
    told = invoke_json("check", "attention_rollout")
    assert (told["failed"], told["passed"]) == (0, len(told["rules"]))
    first = told["rules"][0]
    assert first.pop("seconds") >= 0
    assert first == {
        "subject": "zoo-attention-maps:attention_rollout",
        "group": "catalogue",
        "rule": "target",
        "summary": "Its target is a class that derives from the contract of its kind",
        "result": "passed",
        "expected": "",
        "found": "",
        "change": "",
        "reason": "",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give distributions or components to check, or --all, or --rules"),
        (("cbam", "--all"), "give distributions or components to check, or --all, or --rules"),
        (
            ("resnt18",),
            "unknown component 'resnt18'; did you mean resnet18 or resnet152 or resnet101?",
        ),
        (
            ("zoo-resnt",),
            "unknown component 'zoo-resnt'; 'zoo list' shows what there is; of the "
            "distributions, did you mean zoo-resnet?",
        ),
    ],
)
def test_refusals(invoke: Invoke, arguments: tuple[str, ...], message: str) -> None:
    assert invoke("check", *arguments, code=2).stderr == f"Error: {message}\n"


def test_refusing_does_not_import_torch(run_zoo: Callable[..., Any]) -> None:
    done = run_zoo("check", "cbam", "nosuch", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert "zoo_core.testing.conformance.naming" in done.stderr
    assert "torch" not in done.stderr.replace("zoo_core", "")


def test_rules_are_listed(
    invoke: Invoke, invoke_json: Callable[..., Any], table: Callable[[str], Table]
) -> None:
    header, *rows = table(invoke("check", "--rules").stdout)
    assert header == ["of", "rule", "what it asks for"]
    told = invoke_json("check", "--rules")
    listed = [(group, rule.name, rule.summary) for group in GROUPS for rule in rules_of(group)]
    assert sorted((of, *rest) for ofs, *rest in rows for of in ofs.split(", ")) == sorted(listed)
    assert [[", ".join(r["groups"]), r["rule"], r["summary"]] for r in told] == rows


def test_help_has_examples(invoke: Invoke) -> None:
    lines = invoke("check", "--help").stdout.splitlines()
    assert "  Examples:" in lines
    assert max(map(len, lines)) <= 80
