"""The public surface is the committed one, so that no change of it goes unnoticed.

``python tests/test_public_api.py`` writes ``tests/public_api.txt`` anew. What disappears from it,
or takes fewer arguments than before, breaks plugins: see docs/compatibility.md.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Container, Iterator
from difflib import unified_diff
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ForwardRef

from zoo_core import Spec
from zoo_core._version import PLUGIN_API
from zoo_core.lookup import FIRST_PARTY

SNAPSHOT = Path(__file__).parent / "public_api.txt"
COMMAND = "python tests/test_public_api.py"

MODULES: dict[str, tuple[str, ...]] = {
    "zoo_core": (),
    "zoo_core.errors": (),
    "zoo_core.hookspecs": (),
    "zoo_core.spec": ("KINDS", "Source", "Spec"),
    "zoo_core.catalogue": ("Components", "Registry"),
    "zoo_core.loader": ("Plugin",),
    "zoo_core.grammar": ("Part", "Recipe", "parse"),
    "zoo_core.contracts": (),
    "zoo_core.pyramid": (),
    "zoo_core.models": (),
    "zoo_core.models.backbones": tuple(FIRST_PARTY["backbone"]),
    "zoo_core.models.attention": tuple(FIRST_PARTY["attention"]),
    "zoo_core.models.encoder_decoder": tuple(FIRST_PARTY["decoder"]),
    "zoo_core.training": (),
    "zoo_core.data": (),
    "zoo_core.evaluation": (),
    "zoo_core.explainability": tuple(FIRST_PARTY["explainer"]),
    "zoo_core.weights": (),
    "zoo_core.testing": (),
}
"""The modules that users and plugins import from, and the names in them that are meant beside
those of ``__all__``; all that is defined there, where neither says so."""


def surface() -> str:
    """Give the public names, their signatures and fields as text, one a line."""
    lines = [f"plugin API {'.'.join(map(str, PLUGIN_API))}", *_lines()]
    return "\n".join(lines) + "\n"


def _lines() -> Iterator[str]:
    homes: dict[Any, str] = {}
    for name, more in MODULES.items():
        module = import_module(name)
        yield f"\n{name}"
        for public in _public(module, more):
            value = getattr(module, public)
            described = inspect.isclass(value) or inspect.isfunction(value)
            if described and value in homes:
                yield f"  {public}: see {homes[value]}"
                continue
            if described:
                homes[value] = name
            yield from (f"  {line}" for line in _describe(public, value, homes))


def _public(module: ModuleType, more: tuple[str, ...]) -> list[str]:
    listed = {*getattr(module, "__all__", ()), *more}
    if not listed:
        defined = vars(module).items()
        listed = {name for name, value in defined if _home(value) == module.__name__}
    return sorted(name for name in listed if not name.startswith("_") or name == "__version__")


def _home(value: Any) -> str:
    return getattr(value, "__module__", "") if callable(value) else ""


def _describe(name: str, value: Any, told: Container[Any]) -> Iterator[str]:
    if name == "__version__":
        yield "__version__: str"
    elif inspect.isclass(value):
        yield from _describe_class(name, value, told)
    elif callable(value) and hasattr(value, "__name__"):
        hook = getattr(value, "zoo_spec", None)
        first = " (first result)" if hook and hook["firstresult"] else ""
        yield from _call(name, value, first)
    elif isinstance(value, tuple | str | int | float | dict):
        yield f"{name} = {value!r}"
    else:
        yield f"{name}: {type(value).__name__}"


def _describe_class(name: str, cls: type, told: Container[Any]) -> Iterator[str]:
    """Describe a class by what it adds to those that are told of already."""
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(cls, BaseException):
        return
    members = _ours(cls, told)
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    if members.keys() & {"__init__", "__new__"}:
        yield from (f"  {line}" for line in _call("", cls))
    for member in sorted(members.keys() - {field.name for field in fields}):
        value = members[member]
        if member.startswith("_") and member not in ("__call__", "__getitem__", "__iter__"):
            continue
        if isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            abstract = " (abstract)" if getattr(value, "__isabstractmethod__", False) else ""
            called = _call(f".{member}", getattr(cls, member), abstract)
            yield from (f"  {line}" for line in called)
        elif isinstance(value, property | cached_property) or issubclass(cls, tuple):
            yield f"  .{member}"
        else:
            yield f"  .{member} = {_value(value)}"
    for field in fields:
        yield f"  .{field.name}: {_annotation(field.type)}"


def _ours(cls: type, told: Container[Any]) -> dict[str, Any]:
    """Give the members of a class, and of its bases that the zoo defines and nobody told of."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("zoo_") and (base is cls or base not in told):
            found |= vars(base)
    return found


def _call(name: str, function: Callable[..., Any], more: str = "") -> Iterator[str]:
    """Give how a function is called, in one line or with a line for each parameter."""
    whole = f"{name}{_signature(function)}"
    if len(whole) <= 80:
        yield whole + more
        return
    signature = inspect.signature(function)
    yield f"{name}("
    for parameter in signature.parameters.values():
        one = signature.replace(parameters=[parameter], return_annotation=signature.empty)
        yield f"    {_signature(one)[1:-1]}"
    yield f"){whole.rpartition(')')[2]}{more}"


def _signature(function: Callable[..., Any] | inspect.Signature) -> str:
    known = isinstance(function, inspect.Signature)
    signature = function if known else inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=_raw(parameter.annotation, _annotation),
            default=_raw(parameter.default, _value),
        )
        for parameter in signature.parameters.values()
    ]
    returned = _raw(signature.return_annotation, _annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _raw(value: Any, shown: Callable[[Any], str]) -> Any:
    return value if value is inspect.Parameter.empty else _Raw(shown(value))


class _Raw:
    """Stands in a signature as its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__name__", None) or repr(annotation)


def _value(value: Any) -> str:
    if isinstance(value, str | int | float | bool | tuple | None):
        return repr(value)
    if isinstance(value, _Raw) or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return repr(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return f"<{type(value).__name__}>"


def test_the_public_surface_is_the_committed_one() -> None:
    committed = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    changes = "\n".join(unified_diff(committed, surface().splitlines(), "committed", "now", n=1))
    assert not changes, f"if this change is meant, '{COMMAND}' writes it down:\n{changes}"


def test_the_snapshot_tells_of_what_plugins_hang_on() -> None:
    text = SNAPSHOT.read_text(encoding="utf-8")
    for field in dataclasses.fields(Spec):
        assert f"    .{field.name}: " in text
    for line in (
        "zoo_fetch_weights(entry: WeightsEntry) -> Path | None (first result)",
        "zoo_model_built(model: MultitaskModel, recipe: Recipe) -> None",
        ".get_channel_schedule(self) -> ChannelSchedule (abstract)",
        "class BaseExplainer",
        "class RecipeError(UsageError)",
    ):
        assert line in text


def test_a_change_of_a_signature_is_seen() -> None:
    def before(one: int, *, two: str = "x") -> None: ...

    def after(one: int, *, two: str = "y", three: int) -> None: ...

    assert _signature(before) == "(one: int, *, two: str = 'x') -> None"
    assert _signature(after) == "(one: int, *, two: str = 'y', three: int) -> None"


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")
