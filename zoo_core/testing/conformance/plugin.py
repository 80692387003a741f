"""Rules of whole plugins: their catalogues, seen from a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import distribution
from typing import Any, Final

from zoo_core._version import PLUGIN_API
from zoo_core.catalogue import registry
from zoo_core.errors import PluginError
from zoo_core.loader import HEAVY, Plugin, normalise
from zoo_core.testing.conformance.rules import BrokenRuleError, SkippedRuleError, require, rule

_CHILD: Final = """
import importlib, json, sys
name, heavy = sys.argv[1], json.loads(sys.argv[2])
def imported(): return [one for one in heavy if one in sys.modules]
told = {"changed": []}
from zoo_core.catalogue import registry
[plugin] = [one for one in registry.plugins if one.distribution == name]
told["catalogue"] = imported()
targets = [spec.target for spec in plugin.specs]
for source in plugin.sources:
    names = registry.source_names(source)
    targets += [registry.source_spec(source, one).target for one in names[:1]]
    _ = [registry.source_spec(source, one) for one in (*names[:2], *names[-1:])]
told["listed"] = imported()
import random, numpy, torch, zoo_core.targets
from zoo_core.testing.conformance import state
everything = {**state.SETTINGS, **state.GENERATORS}
before = state.read(everything)
for target in dict.fromkeys(targets):
    try:
        importlib.import_module(target.partition(":")[0])
    except BaseException as error:
        continue
    for what in state.changed(before, state.read(everything)):
        told["changed"].append([target.partition(":")[0], what])
    before = state.read(everything)
print("\\n" + json.dumps(told))
"""


class PluginSubject:
    """A plugin under test.

    Args:
        plugin: The plugin.

    Attributes:
        name: Its distribution.
    """

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.name = plugin.distribution


@cache
def seen(name: str) -> dict[str, Any]:
    """Give what a fresh process sees of a distribution; asked once.

    Raises:
        PluginError: If that process fails.
    """
    environment = {**os.environ, "ZOO_PLUGINS": name}
    environment.pop("ZOO_STRICT", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, name, json.dumps(HEAVY)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise PluginError(f"a fresh process cannot look at {name}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@rule("plugin")
def api(subject: PluginSubject) -> None:
    """Its package says the plugin API that it is written for."""
    ours = f"ZOO_API = {PLUGIN_API}"
    reason = subject.plugin.reason
    require(
        "ZOO_API" not in reason and "plugin API" not in reason,
        expected=ours,
        found=f"that it {reason}",
        change=f"write {ours} into {subject.plugin.module}",
    )


@rule("plugin")
def loads(subject: PluginSubject) -> None:
    """It loads without an error."""
    plugin = subject.plugin
    if plugin.status == "blocked":
        raise SkippedRuleError(f"it is blocked: {plugin.reason}")
    if "ZOO_API" in plugin.reason or "plugin API" in plugin.reason:
        raise SkippedRuleError("the rule api is broken")
    require(
        plugin.status == "ok",
        expected="a plugin that loads",
        found=plugin.reason,
        change=f"mend {plugin.module}; 'python -c \"import {plugin.module}\"' shows where",
    )
    require(
        bool(plugin.specs or plugin.sources or _hooks(plugin)),
        expected="a hook that gives something",
        found=f"none in {plugin.module}",
        change="write zoo_specs() with @hookimpl above it",
    )


def _hooks(plugin: Plugin) -> bool:
    module = registry.loader.manager.get_plugin(plugin.distribution)
    return bool(module and registry.loader.manager.get_hookcallers(module))


@rule("plugin")
def requirement(subject: PluginSubject) -> None:
    """Its metadata say which zoo-core it needs."""
    needs = distribution(subject.name).requires or []
    found = [text for text in needs if normalise(text).startswith("zoo-core")]
    require(
        any(">" in text or "=" in text for text in found),
        expected="a requirement on zoo-core with its least version",
        found=found[0] if found else "none",
        change='write dependencies = ["zoo-core>=0.1"] into pyproject.toml',
    )


@rule("plugin")
def torch_free(subject: PluginSubject) -> None:
    """Its catalogue is loaded and listed without torch, NumPy and their like."""
    _check_loaded(subject)
    for what, doing in (("catalogue", "loading"), ("listed", "listing the names of")):
        heavy = seen(subject.name)[what]
        require(
            not heavy,
            expected="a catalogue that imports no heavy library",
            found=f"{', '.join(heavy)} imported by {doing} {subject.plugin.module}",
            change="import it in the module that the target names, or inside the function",
        )


@rule("plugin")
def imports(subject: PluginSubject) -> None:
    """Importing its components' modules changes nothing of the process."""
    _check_loaded(subject)
    changed = seen(subject.name)["changed"]
    if changed:
        module, what = changed[0]
        raise BrokenRuleError(
            expected="the process as it was after an import",
            found=f"{what} changed by importing {module}",
            change=f"leave settings and random numbers of the process alone in {module}",
        )


def _check_loaded(subject: PluginSubject) -> None:
    if subject.plugin.status != "ok":
        raise SkippedRuleError("the plugin is not loaded")
