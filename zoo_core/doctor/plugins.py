"""The plugins: which load, which do not and why, and which get in each other's way."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from zoo_core.catalogue import registry
from zoo_core.doctor.finding import Finding, note, ok, problem
from zoo_core.errors import PluginWarning, ZooError
from zoo_core.loader import Plugin, remedy
from zoo_core.manifest import config_directory
from zoo_core.spec import KINDS


def examine() -> Iterator[Finding]:
    """Load all plugins, list what they give, and tell of everything that went wrong."""
    for warning in _warnings_of(lambda: registry.loader):
        # Failed and slow plugins are told of below.
        if warning.startswith("ZOO_"):
            variable = warning.partition(" ")[0]
            yield note("plugins", warning, f"unset {variable}")
        elif warning.startswith("the entry points "):
            told = warning.partition(";")[0]
            yield problem("plugins", told, "pip install --force-reinstall with its name")
    for plugin in registry.plugins:
        yield from _examine_one(plugin)
    yield from _examine_hooks()
    yield from _examine_names()
    count = sum(plugin.status == "ok" for plugin in registry.plugins)
    taken = sum(plugin.load_ms for plugin in registry.plugins)
    found = f"{count} loaded in {taken:.0f} ms, {len(registry.sorted_specs)} components"
    if count:
        yield ok("plugins", found)
    else:
        yield problem("plugins", "no plugin is loaded, so there is no component", "zoo plugins")


def _warnings_of(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught if issubclass(one.category, PluginWarning)]


def _examine_one(plugin: Plugin) -> Iterator[Finding]:
    name = plugin.distribution
    about = f"{name} {plugin.version}".strip()
    if plugin.status == "blocked":
        variable = plugin.reason.rpartition(" ")[2]
        yield note(about, f"is not loaded: {plugin.reason}", f"unset {variable}")
    elif plugin.status == "failed":
        yield problem(about, f"fails to load: {_reason(plugin)}", _mended_by(plugin))
    if plugin.heavy:
        heavy = ", ".join(plugin.heavy)
        found = f"its catalogue imports {heavy}, which slows every command down"
        yield note(about, found, f"pip install --upgrade {name}")


def _reason(plugin: Plugin) -> str:
    if _lacks_its_module(plugin):
        return f"its entry point names the module {plugin.module}, which is not there"
    return plugin.reason


def _lacks_its_module(plugin: Plugin) -> bool:
    top = re.split("[.:]", plugin.module)[0]
    return "ModuleNotFoundError" in plugin.reason and find_spec(top) is None


def _mended_by(plugin: Plugin) -> str:
    name = plugin.distribution
    if _lacks_its_module(plugin) or "metadata is damaged" in plugin.reason:
        return f"pip install --force-reinstall {name}"
    if plugin.reason.startswith(("needs ", "is written for ")):
        return f"pip install --upgrade zoo-core {name}"
    missing = re.search(r"No module named '(\w+)", plugin.reason)
    if missing and missing[1] != plugin.module.partition(".")[0]:
        return f"pip install --upgrade {name}, or install what gives the module {missing[1]}"
    return f"zoo uninstall {name}"


def _examine_hooks() -> Iterator[Finding]:
    """Call the hooks that are called late, and tell of those that fail."""
    from zoo_core.cli import cli

    calls: list[Callable[[], object]] = [lambda: list(registry.loader.weights())]
    calls += [lambda source=source: registry.source_names(source) for source in registry.sources()]  # type: ignore[misc]
    calls += [lambda: cli.list_commands(None)]  # type: ignore[arg-type]  # it is not read
    for call in calls:
        for warning in _warnings_of(call):
            yield _as_finding(warning)


def _as_finding(warning: str) -> Finding:
    for plugin in registry.plugins:
        name = plugin.distribution
        end = f" {remedy(name)}"
        if warning.endswith(end):
            found = warning.removesuffix(end).removeprefix(f"plugin {name}: ")
            return problem(f"{name} {plugin.version}", found, f"zoo uninstall {name}")
    return problem("plugins", warning, "zoo plugins")


def _examine_names() -> Iterator[Finding]:
    """Tell of plain names that mean nothing, because several distributions give them."""
    for kind in KINDS:
        of_kind = registry.of_kind(kind)
        for name in dict.fromkeys(n for s in of_kind.listed() for n in (s.name, *s.aliases)):
            specs = of_kind.candidates(name)
            if len(specs) > 1 and not _is_pinned(name, {spec.provider for spec in specs}):
                told = " and ".join(spec.qualified_name for spec in specs)
                file = config_directory() / "registry.yaml"
                pin = f"write 'pins: {{{name}: {specs[0].provider}}}' into {file}"
                yield note(f"{kind} {name}", f"is given by {told}, so {name!r} means neither", pin)


def _is_pinned(name: str, providers: set[str]) -> bool:
    try:
        return registry.pins.get(name) in providers
    except ZooError:  # a registry file that cannot be read is told of by itself
        return False
