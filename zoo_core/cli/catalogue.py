"""``zoo list``, ``zoo info`` and ``zoo plugins``: what is installed, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from zoo_core.catalogue import list_components, registry
from zoo_core.cli.completion import NameType
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import UsageError
from zoo_core.grammar import WIRED
from zoo_core.manifest import WeightsEntry
from zoo_core.spec import KINDS, Source, Spec

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@click.command("list")
@click.argument("kind", required=False, shell_complete=_complete_kind)
@click.argument("pattern", required=False, type=NameType())
@json_option
def list_command(kind: str | None, pattern: str | None, as_json: bool) -> None:
    """List components, of one KIND or by a shell PATTERN.

    The names of a source such as timm/* are counted, and listed if PATTERN begins with its prefix.

    \b
    Examples:
      zoo list
      zoo list decoder
      zoo list backbone 'resnet*'
      zoo list 'timm/convnext*' --json
    """
    if kind is not None and pattern is None and set(kind) & set("*?[/"):
        kind, pattern = None, kind
    kind = _singular(kind)
    specs = list_components(kind, pattern)
    sources = registry.of_kind(kind).sources() if kind else registry.sources()
    counted = [row for source in sources if (row := _count(source, pattern))]
    if as_json:
        echo_json([_spec_json(spec) for spec in specs] + [_count_json(*row) for row in counted])
        return
    rows = [_row(spec) for spec in specs] + [_count_row(*row) for row in counted]
    if not rows and pattern is not None:
        raise UsageError(f"no component matches {pattern!r}; 'zoo list' shows what there is")
    if not rows:
        click.echo(f"zoo: no installed plugin gives components of kind {kind}", err=True)
        return
    echo_table(["name", "kind", "what it is", "channels", "weights", "provider"], rows)


def _singular(kind: str | None) -> str | None:
    if kind is not None and kind not in KINDS and kind.removesuffix("s") in KINDS:
        return kind.removesuffix("s")
    return kind


def _row(spec: Spec) -> list[str]:
    channels = "-".join(map(str, spec.channels)) or "–"
    weights = ", ".join(entry.tag for entry in registry.weights_of(spec)) or "–"
    alone = len(registry.of_kind(spec.kind).candidates(spec.name)) == 1
    name = spec.name if alone else spec.qualified_name
    return [name, spec.kind, spec.summary, channels, weights, spec.provider]


def _count(source: Source, pattern: str | None) -> tuple[Source, str, int] | None:
    """Count the names of a source that is not listed name by name, under what lists them."""
    if pattern is not None and pattern.startswith(source.prefix):
        return None
    names = registry.source_names(source)
    count = sum(pattern is None or fnmatchcase(name, pattern) for name in names)
    return (source, source.prefix + (pattern or "*"), count) if count else None


def _count_row(source: Source, shown: str, count: int) -> list[str]:
    what = f"{source.summary}: {count:,} names, zoo list '{shown}'"
    return [shown, source.kind, what, "–", "–", source.provider]


def _count_json(source: Source, shown: str, count: int) -> dict[str, Any]:
    """Give the count with the keys of a component, so that a script may read all rows alike."""
    nothing: dict[str, list[str]] = {
        key: [] for key in ("channels", "strides", "weights", "tags", "aliases")
    }
    return {
        "name": shown,
        "kind": source.kind,
        "summary": source.summary,
        **nothing,
        "provider": source.provider,
        "qualified_name": f"{source.provider}:{shown}",
        "count": count,
    }


def _spec_json(spec: Spec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "summary": spec.summary,
        "channels": list(spec.channels),
        "strides": list(spec.strides),
        "weights": [entry.tag for entry in registry.weights_of(spec)],
        "tags": list(spec.tags),
        "aliases": list(spec.aliases),
        "provider": spec.provider,
        "qualified_name": spec.qualified_name,
    }


@click.command()
@click.argument("name", type=NameType())
@json_option
def info(name: str, as_json: bool) -> None:
    """Show what is known of the component NAME.

    \b
    Examples:
      zoo info resnet50
      zoo info timm/vit_small_patch14_dinov2 --json
    """
    spec = registry[name]
    entries = registry.weights_of(spec)
    listed = {entry.tag for entry in entries}
    tags = [tag for tag in registry.tags_of(spec) if tag not in listed]
    if as_json:
        shown = {entry.tag: _entry_json(entry) for entry in entries}
        given = {"target": spec.target, "kwargs": dict(spec.kwargs), "options": _options(spec)}
        described = {**_spec_json(spec), **given, "weights": shown, "other_weights": tags}
        echo_json(described)
        return
    _echo_facts(spec)
    if entries:
        click.echo()
        echo_table(
            ["weights", "licence", "classes", "input", "repository", "revision"],
            [_entry_row(entry) for entry in entries],
        )
    if tags:
        click.echo(f"\nweights known to {spec.provider}: {', '.join(tags)}")


def _echo_facts(spec: Spec) -> None:
    maps = zip(spec.channels, spec.strides, strict=True)
    facts = [
        ("name", spec.qualified_name),
        ("kind", spec.kind),
        ("what it is", spec.summary),
        ("class", spec.target),
        ("arguments", ", ".join(f"{key}={value!r}" for key, value in spec.kwargs.items())),
        ("maps", ", ".join(f"{channels} at stride {stride}" for channels, stride in maps)),
        ("aliases", ", ".join(spec.aliases)),
        ("tags", ", ".join(spec.tags)),
    ]
    facts += [(f"option {key}", text) for key, text in (_options(spec) or {}).items()]
    width = max(len(key) for key, _ in facts)
    for key, text in facts:
        if text:
            click.echo(f"{key.ljust(width)}  {text}")


def _options(spec: Spec) -> dict[str, str] | None:
    """Give the options that ``--set`` takes; ``None`` if the plugin does not tell them."""
    wired = WIRED.get(spec.kind, set())
    if spec.options is None:
        return None
    return {key: text for key, text in spec.options.items() if key not in wired}


def _entry_row(entry: WeightsEntry) -> Sequence[str]:
    size = "×".join(map(str, entry.preprocessing.size))
    revision = entry.revision or "unpinned"
    classes = str(entry.classes or "–")
    return [entry.tag, entry.licence or "unknown", classes, size, entry.repository, revision]


def _entry_json(entry: WeightsEntry) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(entry), "pinned": entry.pinned}


@click.command()
@json_option
def plugins(as_json: bool) -> None:
    """Show the installed plugins and how they fare.

    \b
    Examples:
      zoo plugins
      ZOO_BLOCK_PLUGINS=zoo-timm zoo plugins --json
    """
    if as_json:
        echo_json(
            [
                {
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "status": plugin.status,
                    "reason": plugin.reason,
                    "heavy": list(plugin.heavy),
                    "components": [f"{spec.kind}:{spec.name}" for spec in plugin.specs],
                    "sources": [source.prefix for source in plugin.sources],
                    "load_ms": round(plugin.load_ms, 2),
                }
                for plugin in registry.plugins
            ]
        )
        return
    rows = []
    for plugin in registry.plugins:
        gives = [spec.name for spec in plugin.specs]
        gives += [f"{source.prefix}*" for source in plugin.sources]
        told = plugin.reason or ", ".join(gives)
        if plugin.heavy:
            told += f" (slow: imports {', '.join(plugin.heavy)})"
        ms = f"{plugin.load_ms:.1f}"
        rows.append([plugin.distribution, plugin.version, plugin.status, ms, told])
    echo_table(["distribution", "version", "status", "ms", "gives, or why not"], rows, right="ms")
