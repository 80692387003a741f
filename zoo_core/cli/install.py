"""``zoo install`` and ``zoo uninstall``: pip in this interpreter, and no plugin is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from zoo_core.cli.catalogue import json_option
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import MissingDistributionError, PluginError, UsageError, ZooError
from zoo_core.loader import GROUP, installed, normalise

# The current folder is left out, where a file may be called like a module of Python's own.
_PYTHON: Final = (sys.executable, "-P", "-m")


class PipError(ZooError):
    """pip failed, and has said why; the zoo's exit code is its own."""

    def __init__(self, verb: str, code: int) -> None:
        super().__init__(f"'pip {verb}' failed with exit code {code}; its own words stand above")
        self.exit_code = max(code, 1)  # below zero is the signal that ended it


@click.command()
@click.argument("distributions", metavar="DIST...", nargs=-1)
@click.option("-U", "--upgrade", is_flag=True, help="Replace older versions.")
@click.option(
    "-e",
    "--editable",
    multiple=True,
    metavar="PATH",
    help="Install the project in a folder so that its changes count at once. Repeatable.",
)
@json_option
def install(
    distributions: tuple[str, ...], upgrade: bool, editable: tuple[str, ...], as_json: bool
) -> None:
    """Install plugins, and say what they give.

    DIST is what pip takes: a name, with a version if you like, a folder or a wheel. pip runs in
    the zoo's own interpreter, and no plugin is loaded, so that this works where one is broken.
    What stands behind -- is handed to pip.

    \b
    Examples:
      zoo install their-net
      zoo install -U 'their-net>=1.2' my-gate
      zoo install -e ./my-net
      zoo install their-net -- --no-deps --pre
    """
    named = [text for text in distributions if not text.startswith("-")]
    if not named and not editable:
        raise UsageError("give a distribution to install, or a folder with -e")
    options = ["--upgrade"] * upgrade
    for path in editable:
        options += ["--editable", path]
    got = _pip_install(*options, *distributions, as_json=as_json)
    wanted = dict.fromkeys([*got, *map(_name, named)])
    found = _found_afresh()
    plugins = [found[name] for name in wanted if name in found]
    if as_json:
        keys = ("distribution", "version", "status", "reason", "components", "sources")
        told = [{key: plugin[key] for key in keys} for plugin in plugins]
        echo_json({"installed": got, "plugins": told})
    else:
        _tell(plugins)
    for plugin in plugins:
        if plugin["status"] == "failed":
            name = plugin["distribution"]
            raise PluginError(
                f"{name} {plugin['version']} is installed, but fails to load: {plugin['reason']} "
                f"('zoo uninstall {name}' removes it)"
            )


def _complete_plugin(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in installed() if name.startswith(normalise(incomplete))]


@click.command()
@click.argument(
    "distributions", metavar="DIST...", nargs=-1, required=True, shell_complete=_complete_plugin
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask first.")
def uninstall(distributions: tuple[str, ...], yes: bool) -> None:
    """Remove plugins, broken ones too.

    pip runs in the zoo's own interpreter, and no plugin is loaded. What a plugin depends on stays.

    \b
    Examples:
      zoo uninstall their-net
      zoo uninstall their-net my-gate --yes
    """
    there = installed()
    names = list(dict.fromkeys(_plugin(given, there) for given in distributions))
    shown = ", ".join(f"{name} {there[name]}".strip() for name in names)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to ask whether to remove {shown}; add --yes")
        click.confirm(f"Remove {shown}?", abort=True, err=True)
    _pip("uninstall", "--yes", *names)
    left = [name for name in names if name in installed()]
    if left:
        raise PluginError(
            f"pip did not remove {', '.join(left)}, which is in none of the folders that it "
            f"installs into: {_folder(left[0])}"
        )
    click.echo(f"removed {shown}")


def _pip(verb: str, *arguments: str, as_json: bool = False) -> None:
    """Run pip, which writes to where the zoo does; in JSON's way it writes to stderr alone.

    Raises:
        MissingDistributionError: If there is no pip.
        PipError: If it fails.
    """
    from importlib.util import find_spec

    if find_spec("pip") is None:
        raise MissingDistributionError(
            f"there is no pip in {sys.prefix}; '{sys.executable} -m ensurepip' installs it, or "
            f"use the installer that made this environment"
        )
    command = [*_PYTHON, "pip", "--disable-pip-version-check", verb, *arguments]
    done = subprocess.run(command, stdout=2 if as_json else None, check=False)
    if done.returncode:
        raise PipError(verb, done.returncode)


def _pip_install(*arguments: str, as_json: bool) -> dict[str, str]:
    """Run ``pip install``; give the distributions that it installed, with their versions."""
    import json
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        _pip("install", "--report", str(report), *arguments, as_json=as_json)
        if not report.exists():  # another --report was handed to pip, or --help
            return {}
        told = json.loads(report.read_text(encoding="utf-8"))
    metadata = [one["metadata"] for one in told["install"]]
    return {normalise(one["name"]): one["version"] for one in metadata}


def _name(text: str) -> str:
    """Give the distribution's name that a requirement, or a wheel's name, begins with."""
    if text.endswith(".whl"):
        return normalise(re.split(r"[/\\]", text)[-1].partition("-")[0])
    found = re.match(r"[\w.-]*\w", text)
    return normalise(found[0]) if found else ""


def _found_afresh() -> dict[str, dict[str, Any]]:
    """Give what ``zoo plugins`` says of each distribution in a process that begins now.

    Raises:
        PluginError: If it fails.
    """
    import json

    environment = {name: value for name, value in os.environ.items() if name != "ZOO_STRICT"}
    command = [*_PYTHON, "zoo_core", "plugins", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise PluginError(f"pip is done, but 'zoo plugins' fails now: {last}")
    return {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)}


def _tell(plugins: Sequence[Mapping[str, Any]]) -> None:
    """Say what plugins give."""
    rows = []
    for plugin in plugins:
        gives = [*plugin["components"], *(f"{source}*" for source in plugin["sources"])]
        shown = ", ".join(one.replace(":", " ", 1) for one in gives) or "no component"
        if plugin["status"] == "ok":
            rows.append([plugin["distribution"], plugin["version"], shown])
        elif plugin["status"] == "blocked":
            name = plugin["distribution"]
            click.echo(f"zoo: {name} is installed, but blocked: {plugin['reason']}", err=True)
    if rows:
        echo_table(["distribution", "version", "gives"], rows)
    if not plugins:
        click.echo(
            f"zoo: nothing of this is a plugin of the zoo, which has an entry point in {GROUP}",
            err=True,
        )


def _plugin(given: str, there: Mapping[str, str]) -> str:
    """Give the name of an installed plugin.

    Raises:
        UsageError: If it is none, or the zoo itself.
    """
    from difflib import get_close_matches
    from importlib.metadata import PackageNotFoundError, version

    name = normalise(given)
    if name in there:
        return name
    if name == "zoo-core":
        raise UsageError("zoo-core is the zoo itself; 'pip uninstall zoo-core' removes it")
    try:
        found = version(given)
    except (PackageNotFoundError, ValueError):
        near = get_close_matches(name, there, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "'zoo plugins' shows what there is"
        raise UsageError(f"no plugin {given!r} is installed; {hint}") from None
    raise UsageError(f"{name} {found} is no plugin of the zoo; 'pip uninstall {name}' removes it")


def _folder(name: str) -> str:
    from importlib.metadata import distribution

    return str(distribution(name).locate_file(""))
