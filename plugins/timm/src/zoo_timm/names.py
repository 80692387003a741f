"""What timm has, read from its source files without importing them."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

# No caret: the pattern is searched for as a plain string, ten times faster.
_REGISTERED: Final = re.compile(rb"\n@register_model\s+(?:@.*\s+)*def (\w+)")
_TABLE: Final = "default_cfgs"
_LAZY_ANNOTATIONS: Final = annotations.compiler_flag


def architectures() -> list[str]:
    """Give the names that ``timm.list_models()`` gives, sorted.

    Raises:
        ModuleNotFoundError: If timm is not installed.
    """
    return sorted(_homes())


@cache
def weight_tags(name: str) -> tuple[str, ...]:
    """Give the tags of the weights of one architecture, its default first; none if unknown."""
    home = _homes().get(name)
    if home is None:
        return ()
    try:
        table = _weights_table(home)
    except Exception:  # The table is plain data today; timm itself knows whatever it becomes.
        return _tags_told_by_timm(name)
    keys = (key.partition(".") for key, cfg in table.items() if _has_weights(cfg))
    found = [tag for architecture, _, tag in keys if architecture == name and tag]
    # A star marks the default, which otherwise is the first.
    found.sort(key=lambda tag: not tag.endswith("*"))
    return tuple(tag.removesuffix("*") for tag in found)


@cache
def _homes() -> dict[str, Path]:
    """Give the file that registers each architecture."""
    timm = find_spec("timm")
    if timm is None or not timm.submodule_search_locations:
        raise ModuleNotFoundError("timm is not installed; pip install timm", name="timm")
    models = Path(timm.submodule_search_locations[0], "models")
    return {
        name.decode(): file
        for file in models.rglob("*.py")
        for name in _REGISTERED.findall(file.read_bytes())
    }


def _has_weights(cfg: dict[str, Any]) -> bool:
    return any(cfg.get(place) for place in ("hf_hub_id", "url", "file"))


def _tags_told_by_timm(name: str) -> tuple[str, ...]:
    from timm.models import get_arch_pretrained_cfgs

    cfgs = get_arch_pretrained_cfgs(name).values()
    return tuple(cfg.tag for cfg in cfgs if cfg.tag and cfg.has_weights)


@cache
def _weights_table(file: Path) -> dict[str, dict[str, Any]]:
    """Give the weights table of one of timm's modules, by ``architecture.tag``.

    Only the statements that make the table are run; what they take from other modules of timm,
    such as the means of data sets, is ``None``.
    """
    statements = _statements_for(_TABLE, ast.parse(file.read_bytes()).body)
    namespace: dict[str, Any] = dict.fromkeys(_names_in(statements) - set(dir(builtins)))
    namespace["generate_default_cfgs"] = dict
    module = ast.Module(statements, type_ignores=[])
    exec(compile(module, str(file), "exec", _LAZY_ANNOTATIONS), namespace)
    table: dict[str, dict[str, Any]] = namespace[_TABLE]
    return table


def _statements_for(table: str, body: list[ast.stmt]) -> list[ast.stmt]:
    """Give the statements that fill a table, and those that make what they use, in order."""
    wanted, kept = {table}, set[int]()
    while True:
        more = {
            index
            for index, statement in enumerate(body)
            if index not in kept and not wanted.isdisjoint(_made_by(statement, table))
        }
        if not more:
            return [body[index] for index in sorted(kept)]
        kept |= more
        wanted |= _names_in([body[index] for index in more])


def _made_by(statement: ast.stmt, table: str) -> set[str]:
    """Give the names that a statement binds; the table's if it may change the table."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import):
        aliases = [alias for alias in statement.names if _is_standard(alias.name)]
        return {alias.asname or alias.name for alias in aliases}
    if isinstance(statement, ast.ImportFrom):
        standard = not statement.level and _is_standard(statement.module or "")
        return {alias.asname or alias.name for alias in statement.names if standard}
    if isinstance(statement, ast.ClassDef):
        return set()
    bound = {name.id for name in _walk_names([statement]) if isinstance(name.ctx, ast.Store)}
    return bound | ({table} & _names_in([statement]))


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _names_in(statements: Iterable[ast.stmt]) -> set[str]:
    return {name.id for name in _walk_names(statements)}


def _walk_names(statements: Iterable[ast.stmt]) -> Iterator[ast.Name]:
    for statement in statements:
        yield from (node for node in ast.walk(statement) if isinstance(node, ast.Name))
