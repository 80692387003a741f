"""Shell completion: component names inside recipes, and the script that turns it on."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from zoo_core.errors import RegistryError


class NameType(click.ParamType[Any]):
    """The name of a component or named model, completed from the catalogue."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give the names that begin with what is there."""
        return completed_names(incomplete, "", lambda kind: True)


class RecipeType(click.ParamType[Any]):
    """A recipe, completed part by part."""

    name = "recipe"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give backbones and named models, and after a plus attentions and decoders."""
        before, plus, last = incomplete.rpartition("+")
        kinds = ("attention", "decoder") if plus else ("backbone", "model")
        return completed_names(last, before + plus, kinds.__contains__)


def completed_names(start: str, before: str, wanted: Callable[[str], bool]) -> list[CompletionItem]:
    """Give the names of some kinds that begin so, each with what stands before it."""
    from zoo_core.catalogue import registry

    items = [
        CompletionItem(before + name, help=spec.summary)
        for spec in registry.listed()
        if wanted(spec.kind)
        and (name := registry.of_kind(spec.kind).shown_name(spec)).startswith(start)
    ]
    if wanted("model"):
        with suppress(RegistryError):  # components complete beside a broken registry file
            items += [
                CompletionItem(name, help=model.summary)
                for name, model in registry.models.items()
                if name.startswith(start)
            ]
    sources = [source for source in registry.sources() if wanted(source.kind)]
    begun = [source for source in sources if source.prefix.startswith(start)]
    # A prefix that is the only answer would be completed with a space behind it.
    entered = begun if start and len(begun) == 1 and not items else []
    for source in sources:
        if start.startswith(source.prefix) or source in entered:
            items += [
                CompletionItem(before + source.prefix + name)
                for name in registry.source_names(source)
                if (source.prefix + name).startswith(start)
            ]
        elif source in begun:
            items.append(CompletionItem(before + source.prefix, help=source.summary))
    return items


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that turns on completion in SHELL.

    \b
    Examples:
      eval "$(zoo completion bash)"         # in ~/.bashrc
      eval "$(zoo completion zsh)"          # in ~/.zshrc
      zoo completion fish > ~/.config/fish/completions/zoo.fish
    """
    from zoo_core.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "zoo", "_ZOO_COMPLETE").source_template
    # In fish click cuts names and descriptions off at their first comma.
    script = script.replace('string split ","', 'string split --max 1 ","')
    variables = {
        "complete_func": "_zoo_completion",
        "complete_var": "_ZOO_COMPLETE",
        "prog_name": "zoo",
    }
    click.echo(re.sub(r"%\((\w+)\)s", lambda match: variables[match[1]], script))
