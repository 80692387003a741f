"""``zoo new``: write a plugin to begin with, from the files in ``zoo_core/templates``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from zoo_core.catalogue import registry
from zoo_core.cli.catalogue import json_option
from zoo_core.cli.tables import echo_json
from zoo_core.errors import UsageError
from zoo_core.loader import normalise
from zoo_core.spec import KINDS

TEMPLATES: Final = Path(__file__).parent.parent / "templates"

_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_USES: Final = {
    "backbone": "zoo build {}+cbam+unet",
    "attention": "zoo build resnet18+{}+unet",
    "decoder": "zoo build resnet18+{}",
    "explainer": "zoo explain resnet18 --pretrained picture.png --method {}",
}


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a new plugin and its parts are called.

    Attributes:
        distribution: The distribution, as the package index compares names: ``my-net``.
        package: The package, and the component: ``my_net``.
        class_name: The component's class: ``MyNet``.
    """

    distribution: str
    package: str
    class_name: str


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    metavar="DIR",
    help="Write it into DIR.  [default: the current folder]",
)
@json_option
def new(kind: str, name: str, parent: Path, as_json: bool) -> None:
    """Write a plugin that gives one component, to begin with.

    NAME is its folder and its distribution. There are a torch-free catalogue, a small model that
    works, tests of the contract, and files for pip, linters and CI. It can be installed as it is;
    README.md says what is where.

    \b
    Examples:
      zoo new backbone my-net
      zoo new attention my-gate --dir ~/plugins
      zoo new explainer my-cam --json
    """
    names = _names(kind, name)
    target = parent / name
    _check_free(names, target)
    files = dict(_filled(kind, names))
    _write(files, target)
    steps = [
        f"cd {shlex.quote(str(target))}",
        'pip install -e ".[test]"',
        "pytest",
        _USES[kind].format(names.package),
    ]
    if as_json:
        told = {"kind": kind, "folder": str(target), "distribution": names.distribution}
        parts = {"package": names.package, "component": names.package, "class": names.class_name}
        echo_json({**told, **parts, "files": list(files), "next": steps})
        return
    click.echo(f"distribution  {names.distribution}, in {target}")
    click.echo(f"{kind:12}  {names.package}, of class {names.package}.model:{names.class_name}")
    click.echo("\nnext")
    for step in steps:
        click.echo(f"  {step}")


def _names(kind: str, name: str) -> Names:
    """Give the names that follow from the distribution's.

    Raises:
        UsageError: If it cannot be one, or its package could not be imported.
    """
    from keyword import iskeyword

    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a distribution: use letters, digits, '-', '_' and '.', first a "
            f"letter, last a letter or digit{_suggestion(name)}"
        )
    distribution = normalise(name)
    package = distribution.replace("-", "_")
    if package in (*KINDS, "model", "src", "tests"):
        raise UsageError(f"{name!r} means something else already; write 'my-{distribution}'")
    if iskeyword(package):
        raise UsageError(f"{name!r} is a word of Python's own; write 'my-{distribution}'")
    words = re.split(r"[-_.]+", name)
    class_name = "".join(word[:1].upper() + word[1:] for word in words)
    if _is_in_use(class_name, kind):
        class_name += kind.capitalize()
    return Names(distribution=distribution, package=package, class_name=class_name)


def _suggestion(name: str) -> str:
    if "/" in name or "\\" in name:
        return "; the folder to write into is --dir"
    near = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-_.").lstrip("0123456789-_.")
    return f"; {near!r} is one" if near else ""


def _is_in_use(class_name: str, kind: str) -> bool:
    """Tell whether the template's model has another meaning for a name."""
    import builtins
    from keyword import iskeyword

    text = (TEMPLATES / kind / "src" / f"my_{kind}" / "model.py").read_text(encoding="utf-8")
    words = re.findall(r"\w+", text)
    return class_name in words or hasattr(builtins, class_name) or iskeyword(class_name)


def _check_free(names: Names, target: Path) -> None:
    """Check that nothing has the folder or the names.

    Raises:
        UsageError: If something has; it says what.
    """
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    another = "choose another name"
    try:
        is_empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    if not is_empty:
        raise UsageError(f"{target} is there already; {another}, or another folder with --dir")
    distribution = names.distribution
    try:
        installed = version(distribution)
    except PackageNotFoundError:
        pass
    else:
        raise UsageError(f"the distribution {distribution} {installed} is installed; {another}")
    for name in dict.fromkeys((names.package, distribution)):
        for spec in registry.candidates(name):
            raise UsageError(f"{name!r} is the {spec.kind} {spec.qualified_name}; {another}")
        if name in registry.models:
            origin = registry.models[name].origin
            raise UsageError(f"{name!r} is a named model of {origin}; {another}")
    found = find_spec(names.package)
    if found is not None and found.origin is not None:  # a mere folder has no origin
        raise UsageError(
            f"there is a Python package {names.package!r} already ({found.origin}); {another}"
        )


def _filled(kind: str, names: Names) -> Iterator[tuple[str, str]]:
    """Give the new files, path to text: the templates with the new names."""
    title = kind.capitalize()
    placeholder = re.compile(rf"my([-_])(?:plugin|{kind})|My(?:Plugin|{title})")
    chosen = {"-": names.distribution, "_": names.package, None: names.class_name}

    def fill(text: str) -> str:
        return placeholder.sub(lambda found: chosen[found[1]], text)

    alias = re.compile(rf'\n *aliases=\("{names.package}",\),')  # the name itself
    for root in (TEMPLATES / "common", TEMPLATES / kind):
        for path in sorted(root.rglob("*")):
            place = path.relative_to(root).as_posix()
            if path.is_file() and not re.search(r"(^|/)(\.|__pycache__/)", place):
                place = re.sub("^git(hub|ignore)", r".git\1", place)
                text = path.read_text(encoding="utf-8")
                yield fill(place), alias.sub("", fill(text))


def _write(files: Mapping[str, str], target: Path) -> None:
    """Write a folder that is whole or not there.

    Raises:
        UsageError: If it cannot be written.
    """
    from tempfile import TemporaryDirectory

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            made = Path(scratch, target.name)
            for place, text in files.items():
                path = made / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            if target.is_dir():
                target.rmdir()
            made.rename(target)
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror}; give another folder with --dir"
        ) from error
