"""The command line. Nothing here imports torch until a command needs it."""

from __future__ import annotations

import errno
import gc
import os
import sys
import warnings
from functools import cached_property
from importlib import import_module
from typing import Any, Final

import click
from click.exceptions import NoSuchCommand

from zoo_core import __version__
from zoo_core.errors import PluginError, PluginWarning, ZooError, ZooWarning

COMMANDS: Final = {
    "list": "catalogue:list_command",
    "info": "catalogue:info",
    "plugins": "catalogue:plugins",
    "weights": "weights:weights",
    "build": "build:build",
    "data": "data:data",
    "train": "train:train",
    "evaluate": "evaluate:evaluate",
    "predict": "predict:predict",
    "explain": "explain:explain",
    "export": "export:export",
    "push": "push:push",
    "check": "check:check",
    "new": "new:new",
    "install": "install:install",
    "uninstall": "install:uninstall",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}
"""Module and function of each command, imported when it is asked for."""


class _Failure(click.ClickException):
    """One of the zoo's errors as click shows it."""

    def __init__(self, error: ZooError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # click calls it a class variable


class ZooGroup(click.Group):
    """A group that plugins add commands to, and whose errors are one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors become one line and an exit code unless ``--debug`` is given."""
        if ctx.params["debug"]:
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except ZooError as error:
            raise _Failure(error) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has seen enough; click ends quietly
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error
        except Exception as error:
            text = " ".join(str(error).split())
            raise click.ClickException(
                f"unexpected {type(error).__name__}: {text} ('zoo --debug …' shows where)"
            ) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``--debug`` wherever it stands, behind a command too."""
        own = args[: args.index("--")] if "--" in args else args
        if "--debug" in own:
            args = ["--debug", *(text for text in own if text != "--debug"), *args[len(own) :]]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the commands' names, plugins' commands last."""
        return [*COMMANDS, *sorted(self._from_plugins.keys() - COMMANDS.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command; plugins are loaded only if it is not one of ours."""
        if cmd_name not in COMMANDS:
            return self._from_plugins.get(cmd_name)
        module, function = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(f"zoo_core.cli.{module}"), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that a line means, or name near ones."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None

    @cached_property
    def _from_plugins(self) -> dict[str, click.Command]:
        """Commands that plugins add: all of a plugin's or none, and the first of one name."""
        from zoo_core.catalogue import registry
        from zoo_core.loader import CATCH, describe, remedy, strict

        group = click.Group()
        added: dict[str, click.Command] = {}
        givers = dict.fromkeys(COMMANDS, "zoo-core")
        for distribution, call in registry.loader.call("zoo_register_commands", cli=group):
            group.commands = {}
            try:
                call()
                for name in group.commands.keys() & givers.keys():
                    raise PluginError(f"{name!r} is a command of {givers[name]} already")
            except CATCH as error:
                problem = f"plugin {distribution}: zoo_register_commands: {describe(error)}"
                if strict():
                    raise PluginError(problem) from error
                warnings.warn(f"{problem} {remedy(distribution)}", PluginWarning, stacklevel=2)
                continue
            added |= group.commands
            givers |= dict.fromkeys(group.commands, distribution)
        return added


@click.group(
    cls=ZooGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Recipes are backbone[+attention…][+decoder]: zoo build resnet50+cbam+unet",
)
@click.version_option(__version__, prog_name="zoo")
@click.option("--debug", is_flag=True, help="Show where an error came from, and every warning.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Compose vision models by name: any backbone, attention and decoder."""
    _set_warnings(debug)
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def _set_warnings(debug: bool) -> None:
    """Show our warnings as one line each, and other libraries' only when debugging."""

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        click.echo(f"zoo: {message}", err=True)

    warnings.showwarning = show
    warnings.simplefilter("default" if debug else "ignore")
    warnings.simplefilter("ignore" if "_ZOO_COMPLETE" in os.environ else "default", ZooWarning)


def main() -> None:
    """Run the command line; the console script ``zoo``."""
    _set_warnings("--debug" in sys.argv)
    try:
        cli(prog_name="zoo", complete_var="_ZOO_COMPLETE")
    except ZooError:
        if "_ZOO_COMPLETE" in os.environ:
            sys.exit(1)  # a shell that completes has no place for a message
        raise
    finally:
        gc.freeze()  # the interpreter looks for garbage as it ends, for a tenth of the whole time
