"""Crossing from the catalogue to classes: targets are imported here, when they are built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from zoo_core.contracts import Attention, Backbone, BaseExplainer, ChannelSchedule, Decoder
from zoo_core.errors import ContractError, InputError, OptionError, PluginError, ZooError
from zoo_core.grammar import WIRED, unknown_option
from zoo_core.loader import CATCH, describe
from zoo_core.spec import Spec

CONTRACTS: dict[str, type] = {
    "backbone": Backbone,
    "attention": Attention,
    "decoder": Decoder,
    "explainer": BaseExplainer,
}


def resolve(target: str, who: str) -> Any:
    """Import what a target names.

    Raises:
        PluginError: If its module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except CATCH as error:
        raise PluginError(
            f"{who}: its target {target!r} cannot be imported: {describe(error)}"
        ) from error


def component_class(spec: Spec) -> type:
    """Give the class of a component.

    Raises:
        PluginError: If it cannot be imported.
        ContractError: If it does not derive from the contract of its kind.
    """
    who = f"{spec.kind} {spec.qualified_name}"
    cls = resolve(spec.target, who)
    contract = CONTRACTS[spec.kind]
    if not inspect.isclass(cls) or not issubclass(cls, contract):
        raise ContractError(
            f"{who}: {spec.target!r} must be a class derived from zoo_core.{contract.__name__}, "
            f"and is {cls!r}"
        )
    return cls


def construct(spec: Spec, options: Mapping[str, Any], **wired: Any) -> Any:
    """Make a component from its spec, the user's options and what the composition gives.

    Raises:
        OptionError: If the class has no such option, or refuses a value.
        ContractError: If the constructor fails otherwise, or a backbone has no channel schedule.
    """
    cls = component_class(spec)
    who = f"{spec.kind} {spec.qualified_name}"
    accepted = _parameters(cls)
    known = [name for name in accepted if name not in spec.kwargs]
    if "**" not in accepted:
        for name in options:
            if name not in accepted:
                free = [n for n in known if n not in WIRED.get(spec.kind, ())]
                raise unknown_option(spec, name, free)
        wired = {name: value for name, value in wired.items() if name in accepted}
    try:
        component = cls(**{**spec.kwargs, **wired, **options})
    except InputError as error:
        if options:
            raise OptionError(f"{who}: {error}") from error
        raise
    except ZooError:
        raise
    except (ValueError, TypeError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        if given:
            text = " ".join(str(error).split())
            raise OptionError(f"{who} with {given}: {text}") from error
        raise ContractError(f"{who}: its constructor failed: {describe(error)}") from error
    except CATCH as error:
        raise ContractError(f"{who}: its constructor failed: {describe(error)}") from error
    if isinstance(component, Backbone):
        _check_schedule(component, who)
    return component


def _check_schedule(backbone: Backbone, who: str) -> None:
    try:
        ChannelSchedule(backbone.get_channel_schedule())
    except CATCH as error:
        raise ContractError(
            f"{who}: get_channel_schedule must give a ChannelSchedule: {describe(error)}"
        ) from error


def _parameters(cls: type) -> list[str]:
    """Give the constructor's argument names, ``**`` standing for any."""
    if cls.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return []  # its signature says that it takes anything, and it takes nothing
    parameters = list(inspect.signature(cls).parameters.values())
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return names + ["**"] * any(p.kind is p.VAR_KEYWORD for p in parameters)
