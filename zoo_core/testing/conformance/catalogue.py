"""Rules of what a catalogue says of a component, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zoo_core.catalogue import registry
from zoo_core.contracts import Backbone, ChannelSchedule
from zoo_core.grammar import WIRED
from zoo_core.spec import Spec
from zoo_core.testing.conformance.rules import SkippedRuleError, require, rule
from zoo_core.testing.conformance.subject import Subject, parameters

GIVEN: Final[Mapping[str, frozenset[str]]] = {
    **{kind: frozenset(names) for kind, names in WIRED.items()},
    "explainer": frozenset({"model"}),
}
"""The constructor arguments that are not the user's to set, by kind."""


def spec_of(subject: Subject) -> Spec:
    """Give the spec of a component that is in a catalogue."""
    assert subject.spec is not None
    return subject.spec


@rule("catalogue")
def target(subject: Subject) -> None:
    """Its target is a class that derives from the contract of its kind."""
    _ = subject.cls


@rule("catalogue")
def summary(subject: Subject) -> None:
    """It has a summary of one line."""
    found = spec_of(subject).summary
    require(
        bool(found.strip()) and len(found.splitlines()) == 1 and len(found) <= 100,
        expected="a summary of one line of at most 100 characters",
        found=f"one of {len(found)} characters" if found.strip() else "none",
        change='add summary="what it is" to its Spec',
    )


@rule("catalogue")
def names(subject: Subject) -> None:
    """No other component or model has its name or one of its aliases."""
    spec = spec_of(subject)
    for name in (spec.name, *spec.aliases):
        others = [
            f"the {other.kind} {other.qualified_name}"
            for other in registry.candidates(name)
            if (other.kind, other.qualified_name) != (spec.kind, spec.qualified_name)
        ]
        if name in registry.models:
            others.append(f"the model {name} of {registry.models[name].origin}")
        require(
            not others,
            expected=f"{name!r} to mean {spec.qualified_name} alone",
            found=", ".join(others),
            change="give it another name, such as one that begins with the distribution's",
        )


@rule("catalogue")
def options(subject: Subject) -> None:
    """Its Spec documents every constructor argument that users may set, and no other."""
    spec = spec_of(subject)
    documented = spec.options
    settable = _settable(subject)
    change = f"let options of its Spec be {{{', '.join(f'{n!r}: …' for n in settable) or ''}}}"
    require(
        documented is not None,
        expected=f"options for {', '.join(settable) or 'no argument'}",
        found="options=None",
        change=change,
    )
    assert documented is not None
    unknown = [name for name in documented if name not in settable]
    missing = [name for name in settable if name not in documented]
    wordless = [name for name, line in documented.items() if not str(line).strip()]
    require(
        not (missing or unknown or wordless),
        expected=f"a line for each of {', '.join(settable) or 'no argument'}",
        found="; ".join(
            f"{', '.join(found)} {what}"
            for found, what in (
                (missing, "not documented"),
                (unknown, "no argument of the constructor"),
                (wordless, "without a line"),
            )
            if found
        ),
        change=change,
    )


def _settable(subject: Subject) -> list[str]:
    spec = spec_of(subject)
    given = parameters(subject.cls).values()
    if any(p.kind is p.VAR_KEYWORD for p in given):
        raise SkippedRuleError("its constructor takes any argument")
    taken = {*spec.kwargs, *GIVEN[spec.kind]}
    later: Mapping[str, Any] = getattr(subject.cls, "options", {})
    return [*(p.name for p in given if p.name not in taken), *later]


@rule("catalogue")
def facts(subject: Subject) -> None:
    """The channels and strides that its Spec declares are those that it has."""
    spec = spec_of(subject)
    if spec.kind != "backbone":
        require(
            not spec.channels,
            expected=f"no channels and strides of the {spec.kind} {spec.name}",
            found=f"channels={spec.channels}, strides={spec.strides}",
            change="leave them out of its Spec; only backbones have them",
        )
        return
    if not spec.channels:
        raise SkippedRuleError("it declares none")
    backbone: Backbone = subject.construct()
    schedule = ChannelSchedule(backbone.get_channel_schedule())
    require(
        (tuple(schedule), schedule.strides) == (spec.channels, spec.strides),
        expected=f"channels {list(spec.channels)} at strides {list(spec.strides)}, as declared",
        found=f"{list(schedule)} at {list(schedule.strides)}",
        change=f"let its Spec say channels={tuple(schedule)}, strides={schedule.strides}",
    )
