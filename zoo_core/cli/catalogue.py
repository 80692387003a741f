"""``zoo list``, ``zoo info`` and ``zoo plugins``: what is installed, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any, Final

import click

from zoo_core.catalogue import Components, list_components, registry
from zoo_core.cli.completion import NameType
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import UsageError
from zoo_core.grammar import WIRED
from zoo_core.loader import Plugin, uncollected
from zoo_core.manifest import NamedModel, WeightsEntry
from zoo_core.spec import KINDS, Source, Spec

LISTED = (*KINDS, "model")
_NO_COMPONENT: Final[dict[str, list[str]]] = {
    key: [] for key in ("channels", "strides", "weights", "tags", "aliases")
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in LISTED if kind.startswith(incomplete)]


@click.command("list")
@click.argument("kind", required=False, shell_complete=_complete_kind)
@click.argument("pattern", required=False, type=NameType())
@json_option
@uncollected()
def list_command(kind: str | None, pattern: str | None, as_json: bool) -> None:
    """List components and models, of one KIND or by a shell PATTERN.

    The names of a source such as timm/* are counted, and listed if PATTERN begins with its prefix.

    \b
    Examples:
      zoo list
      zoo list decoder
      zoo list model
      zoo list backbone 'resnet*'
      zoo list 'timm/convnext*' --json
    """
    if kind is not None and pattern is None and set(kind) & set("*?[/"):
        kind, pattern = None, kind
    kind = _kind(kind, pattern)
    kinds = [known for known in KINDS if kind in (None, known)]
    specs = list_components(kind, pattern) if kinds else []
    sources = registry.of_kind(*kinds).sources() if kinds else []  # models need no plugin
    counted = [row for source in sources if (row := _count(source, pattern))]
    models = _models(pattern) if kind in (None, "model") else []
    if as_json:
        shown = [_spec_json(spec) for spec in specs]
        shown += [_count_json(*row) for row in counted]
        echo_json(shown + [_model_json(model) for model in models])
        return
    views = {known: registry.of_kind(known) for known in kinds}
    rows = [_row(spec, views[spec.kind]) for spec in specs]
    rows += [_count_row(*row) for row in counted]
    rows += [_model_row(model) for model in models]
    if not rows and pattern is not None:
        raise UsageError(f"no component matches {pattern!r}; 'zoo list' shows what there is")
    if not rows:
        click.echo(f"zoo: no installed plugin gives components of kind {kind}", err=True)
        return
    echo_table(["name", "kind", "what it is", "channels", "weights", "provider"], rows)


def _kind(kind: str | None, pattern: str | None) -> str | None:
    """Give the kind that an argument means, in the plural too."""
    if kind is None or kind in LISTED:
        return kind
    if kind.removesuffix("s") in LISTED:
        return kind.removesuffix("s")
    hint = f"; 'zoo list \"*{kind}*\"' lists names with it" if kind and pattern is None else ""
    raise UsageError(f"unknown kind {kind!r}; kinds are {', '.join(LISTED)}{hint}")


def _models(pattern: str | None) -> list[NamedModel]:
    models = registry.models.values()
    return [m for m in models if pattern is None or fnmatchcase(m.name, pattern)]


def _model_row(model: NamedModel) -> list[str]:
    return [model.name, "model", model.summary or model.recipe, "–", "–", model.origin]


def _row(spec: Spec, of_kind: Components) -> Sequence[str]:
    channels = "-".join(map(str, spec.channels)) if spec.channels else "–"
    entries = registry.weights_of(spec)
    weights = ", ".join(entry.tag for entry in entries) if entries else "–"
    if "/" in spec.name:  # a source may give it too
        alone = len(of_kind.candidates(spec.name)) == 1
        name = spec.name if alone else spec.qualified_name
    else:
        name = of_kind.shown_name(spec)
    return name, spec.kind, spec.summary, channels, weights, spec.provider


def _count(source: Source, pattern: str | None) -> tuple[Source, str, int] | None:
    """Count the names of a source that is not listed name by name, under what lists them."""
    if pattern is not None and pattern.startswith(source.prefix):
        return None
    names = registry.source_names(source)
    count = sum(pattern is None or fnmatchcase(name, pattern) for name in names)
    return (source, source.prefix + (pattern or "*"), count) if count else None


def _count_row(source: Source, shown: str, count: int) -> list[str]:
    what = f"{source.summary}: {count:,} names, zoo list {source.kind} '{shown}'"
    return [shown, source.kind, what, "–", "–", source.provider]


def _count_json(source: Source, shown: str, count: int) -> dict[str, Any]:
    """Give the count with the keys of a component, so that a script may read all rows alike."""
    return {
        **_NO_COMPONENT,
        "name": shown,
        "kind": source.kind,
        "summary": source.summary,
        "provider": source.provider,
        "qualified_name": f"{source.provider}:{shown}",
        "count": count,
    }


def _model_json(model: NamedModel) -> dict[str, Any]:
    """Give a named model with the keys of a component and its own."""
    return {
        **_NO_COMPONENT,
        "kind": "model",
        "provider": model.origin,
        "qualified_name": model.name,
        **asdict(model),
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
    """Show what is known of the component or named model NAME.

    \b
    Examples:
      zoo info resnet50
      zoo info multitask-small
      zoo info timm/vit_small_patch14_dinov2 --json
    """
    model = registry.named_model(name)
    if model is not None:
        _info_model(model, as_json)
        return
    spec = registry[name]
    entries = registry.weights_of(spec)
    listed = {entry.tag for entry in entries}
    tags = [tag for tag in registry.tags_of(spec) if tag not in listed]
    if as_json:
        shown = {entry.tag: _entry_json(entry) for entry in entries}
        given = {"target": spec.target, "kwargs": dict(spec.kwargs), "options": _options(spec)}
        described = {**_spec_json(spec), **given, "weights": shown, "other_weights": tags}
        echo_json({**described, "overridden": _overridden_json(spec)})
        return
    _echo_facts(_facts(spec))
    if entries:
        click.echo()
        echo_table(
            ["weights", "licence", "classes", "input", "repository", "revision", "from"],
            [_entry_row(entry) for entry in entries],
        )
    _echo_overridden(spec)
    if tags:
        click.echo(f"\nweights known to {spec.provider}: {', '.join(tags)}")


def _info_model(model: NamedModel, as_json: bool) -> None:
    if as_json:
        echo_json({**_model_json(model), "overridden": _overridden_json(model)})
        return
    size = "×".join(map(str, model.image_size or ()))
    facts = [
        ("name", model.name),
        ("kind", "model"),
        ("what it is", model.summary),
        ("recipe", model.recipe),
        *((f"{head} classes", str(count)) for head, count in model.classes.items()),
        ("channels", str(model.in_channels or "")),
        ("image size", size),
        *(
            (f"option {part}.{option}", repr(value))
            for part, options in model.options.items()
            for option, value in options.items()
        ),
        ("from", model.origin),
    ]
    _echo_facts(facts)
    _echo_overridden(model)


def _overridden_json(item: Spec | NamedModel) -> list[dict[str, str]]:
    return [
        {"name": name, "origin": origin, "by": winner}
        for name, origin, winner in registry.overridden(item)
    ]


def _echo_overridden(item: Spec | NamedModel) -> None:
    lines = [
        f"{name} of {origin} is overridden by {winner}"
        for name, origin, winner in registry.overridden(item)
    ]
    for number, line in enumerate(lines):
        click.echo(line if number else f"\n{line}")


def _facts(spec: Spec) -> list[tuple[str, str]]:
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
    return facts + [(f"option {key}", text) for key, text in (_options(spec) or {}).items()]


def _echo_facts(facts: Sequence[tuple[str, str]]) -> None:
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
    licence = entry.licence or "unknown"
    return [entry.tag, licence, classes, size, entry.repository, revision, entry.origin]


def _entry_json(entry: WeightsEntry) -> dict[str, Any]:
    return {**asdict(entry), "pinned": entry.pinned}


@click.command()
@json_option
def plugins(as_json: bool) -> None:
    """Show the installed plugins and how they fare.

    Of each its version, the plugin API that it is written for, the milliseconds that loading it
    took, and what it gives: components, families of them, and what hooks it implements.

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
                    "api": ".".join(map(str, plugin.api)) if plugin.api else None,
                    "status": plugin.status,
                    "reason": plugin.reason,
                    "heavy": list(plugin.heavy),
                    "components": [f"{spec.kind}:{spec.name}" for spec in plugin.specs],
                    "sources": [f"{source.kind}:{source.prefix}" for source in plugin.sources],
                    "hooks": list(plugin.hooks),
                    "load_ms": round(plugin.load_ms, 2),
                }
                for plugin in registry.plugins
            ]
        )
        return
    rows = [_plugin_row(plugin) for plugin in registry.plugins]
    header = ["distribution", "version", "api", "status", "ms", "gives, or why not"]
    echo_table(header, rows, right="ms")


def _plugin_row(plugin: Plugin) -> Sequence[str]:
    gives = [spec.name for spec in plugin.specs]
    gives += dict.fromkeys(f"{source.prefix}*" for source in plugin.sources)
    gives += [hook for hook in plugin.hooks if hook not in ("zoo_specs", "zoo_sources")]
    told = plugin.reason or ", ".join(gives) or "nothing"
    status: str = plugin.status
    if plugin.heavy:
        status = "slow" if status == "ok" else status
        told += f" (slow: imports {', '.join(plugin.heavy)})"
    api = ".".join(map(str, plugin.api)) if plugin.api else "–"
    ms = f"{plugin.load_ms:.1f}"
    return plugin.distribution, plugin.version, api, status, ms, told
