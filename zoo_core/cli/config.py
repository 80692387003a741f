"""Options from a YAML file, checked as those on the command line are."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from zoo_core.errors import OptionError

_LARGEST: Final = 1_000_000


def config_option(command: Any) -> Any:
    """Add ``--config``, whose file gives the options that the command line does not."""

    def use(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
        if path is not None:
            ctx.default_map = {**(ctx.default_map or {}), **read_config(ctx, path)}

    return click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=use,
        metavar="FILE",
        help="Take options from a YAML file, such as a run's config.yaml; those given here win.",
    )(command)


def read_config(ctx: click.Context, path: Path) -> dict[str, Any]:
    """Give the options in a file by their parameters' names, as a default map of click.

    Keys are the options' names, with underscores or hyphens, and ``recipe`` for the argument;
    ``null`` leaves an option at its default.

    Raises:
        OptionError: If it is no YAML mapping, or an option is unknown, given twice, or has a value
            that it cannot take; with the line.
    """
    parameters = {
        name: parameter
        for parameter in ctx.command.params
        if parameter.name not in ("config", "resume", "as_json", "help")
        for name in _names(parameter)
    }
    found: dict[str, Any] = {}
    for line, key, value in _items(path):
        parameter = parameters.get(key.replace("-", "_"))
        where = f"{path}:{line}"
        if parameter is None:
            near = get_close_matches(key.replace("-", "_"), parameters, 1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(parameters)}"
            raise OptionError(f"{where}: {key!r} is no option of {ctx.command.name}; {hint}")
        assert parameter.name is not None
        if parameter.name in found:
            raise OptionError(f"{where}: {key!r} is given twice")
        if value is None:
            continue
        found[parameter.name] = _checked(ctx, parameter, value, f"{where}: {key}")
    return found


def _names(parameter: click.Parameter) -> set[str]:
    options = {name.lstrip("-").replace("-", "_") for name in parameter.opts if name[:2] == "--"}
    return options or {parameter.name or ""}


def _checked(ctx: click.Context, parameter: click.Parameter, value: Any, where: str) -> Any:
    is_list = isinstance(value, list)
    if isinstance(value, dict) or (is_list and not parameter.multiple):
        if not (is_list and len(value) == 2 and parameter.name == "image_size"):
            raise OptionError(f"{where}: {value!r} is not one value")
        value = "x".join(map(str, value))
    if parameter.multiple and not is_list:
        value = [value]
    if isinstance(parameter, click.Option) and parameter.is_flag:
        if not isinstance(value, bool):
            raise OptionError(f"{where}: write true or false, not {value!r}")
        return value
    given = [str(one) for one in value] if parameter.multiple else str(value)
    try:
        parameter.type_cast_value(ctx, given)
    except click.BadParameter as error:
        raise OptionError(f"{where}: {error.message}") from error
    return given


def _items(path: Path) -> Iterator[tuple[int, str, Any]]:
    import yaml

    if path.stat().st_size > _LARGEST:
        raise OptionError(f"{path}: is larger than a file of options can be")
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise OptionError(f"{path}: is no YAML: {told}") from error
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        raise OptionError(f"{path}: must be options and their values, such as 'epochs: 20'")
    for key, _ in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.value not in values:
            raise OptionError(f"{path}:{line}: options are words, such as 'epochs: 20'")
        yield line, key.value, values[key.value]
