"""``zoo check`` of installed distributions that each break one rule of catalogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Dist, Install, Installed

SOUND = (Path(__file__).parents[1] / "conformance" / "sound.py").read_text()
SLOPE = """
@hookimpl
def zoo_specs():
    return [Spec(kind="explainer", name="PLACE-slope", target="zoo_PLACE.parts:Slope",
                 summary="a gradient", options={})]
"""


def one(name: str, *, before: str = "", parts: str = "", **more: Any) -> Dist:
    """A distribution of one sound explainer."""
    return Dist(
        name=f"zoo-{name}",
        code=before + SLOPE.replace("PLACE", name),
        files={"parts.py": SOUND + parts},
        **more,
    )


PLUGINS = {
    "api": one("old", header="from zoo_core import Spec, hookimpl\nZOO_API = (0, 9)\n"),
    "loads": one("crashing", before="raise OSError('one\\n  two')"),
    "requirement": one("careless", requires=("zoo-core",)),
    "torch_free": one("heavy", before="import numpy"),
    "imports": one("touching", parts="\ntorch.backends.cudnn.benchmark = True\n"),
}

FAULTY = """
def spec(kind, name, target, **facts):
    facts = {"summary": "a component", "options": {}, **facts}
    return Spec(kind=kind, name=name, target=f"zoo_faulty.parts:{target}", **facts)

@hookimpl
def zoo_specs():
    width = {"width": "channels of the first map"}
    return [
        spec("explainer", "sound", "Slope"),
        spec("explainer", "target", "Gate"),
        spec("explainer", "summary", "Slope", summary=""),
        spec("explainer", "names", "Slope", aliases=("unet",)),
        spec("explainer", "options", "Slope", options={"steps": "how many"}),
        spec("explainer", "untold", "Slope", options=None),
        spec("backbone", "facts", "Net", channels=(8, 16), strides=(4, 16), options=width),
        spec("backbone", "input_size", "Limited", input_size=16),
        spec("attention", "saving", "Extra", options={"start": "initial weight"}),
    ]
"""
PARTS = """
from zoo_core.errors import InputError

class Limited(Net):
    def __init__(self, in_channels=3):
        super().__init__(in_channels)

    def forward(self, x):
        if min(x.shape[-2:]) < 32:
            raise InputError("pictures have 32 pixels a side at least")
        return super().forward(x)

class Extra(Gate):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        assert state == {"version": 1}
"""
COMPONENTS = ("target", "summary", "names", "options", "facts", "input_size", "saving")


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    faulty = Dist(name="zoo-faulty", code=FAULTY, files={"parts.py": SOUND + PARTS})
    return install(*PLUGINS.values(), faulty)


@pytest.fixture(scope="module")
def told(installed: Installed) -> dict[str, Any]:
    """What one child says of all of them."""
    names = [dist.name for dist in PLUGINS.values()]
    names += [f"zoo-faulty:{name}" for name in ("sound", "untold", *COMPONENTS)]
    done = installed.zoo("check", "--json", *names)
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def broken(told: dict[str, Any], subject: str) -> dict[str, dict[str, Any]]:
    return {
        rule["rule"]: rule
        for rule in told["rules"]
        if rule["subject"].startswith(subject) and rule["result"] == "failed"
    }


def test_a_plugin_breaks_just_one_rule(told: dict[str, Any]) -> None:
    found = {rule: list(broken(told, dist.name)) for rule, dist in PLUGINS.items()}
    assert found == {rule: [rule] for rule in PLUGINS}


def test_a_component_breaks_just_one_rule(told: dict[str, Any]) -> None:
    found = {name: list(broken(told, f"zoo-faulty:{name}")) for name in COMPONENTS}
    assert found == {name: [name] for name in COMPONENTS}
    assert list(broken(told, "zoo-faulty:untold")) == ["options"]
    assert broken(told, "zoo-faulty:sound") == {}


def test_every_rule_of_catalogues_is_broken(told: dict[str, Any]) -> None:
    from zoo_core.testing.conformance.book import rules_of

    names = {rule.name for group in ("plugin", "catalogue") for rule in rules_of(group)}
    assert names == {*PLUGINS, *COMPONENTS} - {"input_size", "saving"}


def test_a_failure_says_what_to_change(told: dict[str, Any]) -> None:
    def said(subject: str) -> tuple[str, str, str]:
        (rule,) = broken(told, subject).values()
        return rule["expected"], rule["found"], rule["change"]

    assert said("zoo-old") == (
        "ZOO_API = (1, 0)",
        "that it is written for plugin API 0.9; this is 1.0",
        "write ZOO_API = (1, 0) into zoo_old",
    )
    assert said("zoo-crashing")[:2] == ("a plugin that loads", "OSError: one two")
    assert said("zoo-careless") == (
        "a requirement on zoo-core with its least version",
        "zoo-core",
        'write dependencies = ["zoo-core>=0.1"] into pyproject.toml',
    )
    assert said("zoo-heavy")[1] == "numpy imported by loading zoo_heavy"
    assert said("zoo-touching")[1] == (
        "torch.backends.cudnn.benchmark changed by importing zoo_touching.parts"
    )
    assert said("zoo-faulty:names")[:2] == (
        "'unet' to mean zoo-faulty:names alone",
        "the decoder zoo-unet:unet",
    )
    assert said("zoo-faulty:options")[1] == "steps no argument of the constructor"
    assert said("zoo-faulty:facts") == (
        "channels [8, 16] at strides [4, 16], as declared",
        "[8, 16] at [4, 8]",
        "let its Spec say channels=(8, 16), strides=(4, 8)",
    )
    assert "must be a class derived from zoo_core.BaseExplainer" in said("zoo-faulty:target")[1]
    assert "pictures have 32 pixels a side at least" in said("zoo-faulty:input_size")[1]


def test_what_cannot_be_tried_is_skipped(told: dict[str, Any]) -> None:
    def reasons(subject: str) -> set[str]:
        rules = [one for one in told["rules"] if one["subject"] == subject]
        return {one["reason"] for one in rules if one["result"] == "skipped"}

    assert reasons("zoo-faulty:target") == {"its target is no class of its kind"}
    assert reasons("zoo-crashing") == {"the plugin is not loaded"}
    assert "zoo.build refuses what it declares" in reasons("zoo-faulty:facts")
    counts = {name: sum(r["result"] == name for r in told["rules"]) for name in told}
    assert {**told, "rules": 0} == counts


def test_the_report_for_people(installed: Installed) -> None:
    only = "zoo-faulty,zoo-crashing"
    done = installed.zoo("check", "zoo-faulty:summary", "zoo-crashing", ZOO_PLUGINS=only)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    table, *failures, counts = done.stdout.split("\n\n")
    assert "zoo-faulty:summary  summary  " in table
    assert failures == [
        "zoo-faulty:summary breaks the rule summary\n"
        "  expected  a summary of one line of at most 100 characters\n"
        "  found     none\n"
        '  change    add summary="what it is" to its Spec',
        "zoo-crashing breaks the rule loads\n"
        "  expected  a plugin that loads\n"
        "  found     OSError: one two\n"
        "  change    mend zoo_crashing; 'python -c \"import zoo_crashing\"' shows where",
    ]
    assert counts.endswith(" skipped\n")
