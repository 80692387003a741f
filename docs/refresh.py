"""Runs every example of the documentation; ``python docs/refresh.py`` writes real outputs into it.

In a ``console`` block a line that begins with ``$`` is a command, and what follows is its output.
``python`` blocks of one document are one program. Both run in a folder with the photographs
``chelsea.png``, ``coffee.png``, ``rocket.png`` and the trained weights ``lite0.safetensors``.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs" / "command-line.md"
HOOKS = ROOT / "docs" / "hooks.md"
EXAMPLE = ROOT / "examples" / "birdhouse"
CONSOLE = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
SECTION = re.compile(r"(Args|Attributes|Raises):")


def prepare(folder: Path) -> None:
    """Put the examples' files into a folder."""
    from PIL import Image
    from skimage import data

    from zoo_core.testing.lite0 import convert

    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    convert(folder / "lite0.safetensors")


def environment(document: Path, folder: Path) -> dict[str, str]:
    """Give the environment of a document's examples, with the plugin installed that it explains."""
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    settings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{settings['PATH']}"
    if document.name.startswith("plugins"):
        target = folder / "installed"
        if not target.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            no = ["--no-deps", "--no-build-isolation", "--no-index"]
            subprocess.run([*pip, *no, "--target", target, EXAMPLE], check=True)
        settings["PYTHONPATH"] = str(target)
    return settings


def run_console(block: str, folder: Path, settings: dict[str, str]) -> str:
    """Give a console block with what its commands print."""
    written = []
    for line in block.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["bash", "-c", line[2:]],
                cwd=folder,
                env=settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            output = "\n".join(part.rstrip() for part in done.stdout.splitlines())
            written.append(f"{line}\n{output}".rstrip())
    return "\n".join(written) + "\n"


def refreshed(document: Path, folder: Path) -> str:
    """Give a document's text with real outputs."""
    if document == REFERENCE:
        return command_line_reference()
    if document == HOOKS:
        return hooks_reference()
    settings = environment(document, folder)
    text = document.read_text(encoding="utf-8")
    return CONSOLE.sub(lambda match: run_console(match[1], folder, settings), text)


def run_python(document: Path, folder: Path) -> None:
    """Run a document's program.

    Raises:
        CalledProcessError: If it fails.
    """
    blocks = PYTHON.findall(document.read_text(encoding="utf-8"))
    if blocks:
        settings = os.environ | {"HF_HUB_OFFLINE": "1"}
        advice = "ignore:Guards may run slower on Python 3.13.0:RuntimeWarning"  # torch's
        command = [sys.executable, "-W", "error", "-W", advice, "-c", "\n".join(blocks)]
        subprocess.run(command, cwd=folder, env=settings, check=True, stdout=subprocess.DEVNULL)


def command_names() -> list[str]:
    """Give all commands of the core, each group before its own: "", "list", … "weights pull"."""
    import click

    from zoo_core.cli import COMMANDS, cli

    names = [""]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        inside = command.commands if isinstance(command, click.Group) else ()
        names += [name, *(f"{name} {one}" for one in inside)]
    return names


def command_line_reference() -> str:
    """Give the reference of the command line, from each command's own help."""
    pages = ["# Command line\n\nWritten by `python docs/refresh.py` from each command's help.\n"]
    for name in command_names():
        arguments = [*name.split(), "--help"]
        done = subprocess.run(
            [Path(sys.executable).parent / "zoo", *arguments],
            env=os.environ | {"COLUMNS": "80", "ZOO_PLUGINS": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        pages.append(f"## zoo {name}".rstrip() + f"\n\n```\n{done.stdout}```\n")
    return "\n".join(pages)


def hooks_reference() -> str:
    """Give the reference of the hooks, from their specifications and the example's source."""
    from zoo_core import Preprocessing, Source, Spec, WeightsEntry, hookspecs
    from zoo_core.loader import HOOKS as NAMES

    given = (EXAMPLE / "src" / "birdhouse" / "__init__.py").read_text(encoding="utf-8")
    examples = {
        node.name: "\n".join(
            given.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno]
        )
        for node in ast.parse(given).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    pages = [
        "# Hooks\n\n"
        "Written by `python docs/refresh.py` from `zoo_core/hookspecs.py`, with examples of\n"
        "[birdhouse](../examples/birdhouse); [Plugins](plugins.md) tells of the whole.\n"
    ]
    for name in NAMES:
        hook = getattr(hookspecs, name)
        signature = f"{name}{inspect.signature(hook)}".replace("'", "")
        pages.append(f"## {name}\n\n`{signature}`\n\n{markdown(hook)}\n")
        if name in examples:
            pages.append(f"```py\n{examples[name]}\n```\n")
    for kind in (Spec, Source, WeightsEntry, Preprocessing):
        name = kind.__name__
        pages += [f"## {name}\n\n`from zoo_core import {name}`\n\n{markdown(kind)}\n"]
    return "\n".join(pages)


def markdown(documented: object) -> str:
    """Give a docstring in the style of Google as Markdown: its sections become tables."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    first = next((n for n, line in enumerate(lines) if SECTION.fullmatch(line)), len(lines))
    written = "\n".join(lines[:first]).rstrip()
    for line in lines[first:]:
        if SECTION.fullmatch(line):
            title = {"Args": "argument", "Attributes": "field", "Raises": "error"}[line[:-1]]
            written += f"\n\n| {title} | |\n| --- | --- |"
        elif line.startswith("     "):
            written = f"{written.removesuffix(' |')} {line.strip()} |"
        elif line:
            name, _, text = line.strip().partition(": ")
            written += f"\n| `{name}` | {text} |"
    return re.sub(r":\w+:`(?:zoo_core\.)?([^`]+)`", r"`\1`", written.replace("``", "`"))


def main() -> None:
    """Write every document anew."""
    with TemporaryDirectory() as name:
        prepare(Path(name))
        for document in DOCUMENTS:
            document.write_text(refreshed(document, Path(name)), encoding="utf-8")
            run_python(document, Path(name))


if __name__ == "__main__":
    main()
