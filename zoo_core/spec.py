"""What a plugin says about its components without importing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from zoo_core.errors import PluginError

KINDS: Final = ("backbone", "attention", "decoder", "explainer")

NAME = re.compile(r"[a-z0-9_][a-z0-9_-]*(/[a-z0-9_][a-z0-9_-]*)*", re.IGNORECASE | re.ASCII)
LONGEST: Final = 100
"""Characters of a component's name."""
_PREFIX = re.compile(r"([a-z0-9_][a-z0-9_-]*/)+", re.IGNORECASE | re.ASCII)
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One component of the catalogue.

    Nothing here is imported before the component is built; what is declared is trusted until
    then, and proved when it is built and by ``zoo check``.

    Attributes:
        kind: ``backbone``, ``attention``, ``decoder`` or ``explainer``.
        name: What a recipe calls it: letters, digits, ``_`` and ``-``, with ``/`` between groups.
        target: ``"package.module:Class"``, imported when the component is built.
        kwargs: Constructor arguments that make this component of that class.
        summary: One line for ``zoo list``.
        channels: Channels of a backbone's maps, shallow to deep; empty where not known.
        strides: Strides of those maps, as many as ``channels``.
        input_size: Side of the square picture, in pixels, that a backbone is described at.
        options: The constructor arguments users may set, each with one line of documentation.
            ``None``: not told, so that options are checked only when the component is built.
        tags: Words to search by.
        aliases: Other names of the same component.
        weights_of: The component of the same plugin whose weights are this one's too; empty where
            it has its own.
        provider: The distribution that gives it; set when the plugin is loaded.
    """

    kind: str
    name: str
    target: str
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    summary: str = ""
    channels: Sequence[int] = ()
    strides: Sequence[int] = ()
    input_size: int = 224
    options: Mapping[str, str] | None = field(default=None, hash=False)
    tags: Sequence[str] = ()
    aliases: Sequence[str] = ()
    weights_of: str = ""
    provider: str = ""

    def __post_init__(self) -> None:
        what = f"Spec {_shown(self.name)}"
        _check_kind(self.kind, what)
        for name in _SEQUENCES:
            given = getattr(self, name)
            if type(given) is not tuple:
                object.__setattr__(self, name, _as_tuple(given, name, what))
        for name in (self.name, *self.aliases):
            if not is_name(name):
                rule = "use letters, digits, '_', '-' and '/'"
                if isinstance(name, str) and len(name) > LONGEST:
                    rule = f"it has more than {LONGEST} characters"
                raise PluginError(f"{what}: {_shown(name)} is no component name; {rule}")
        _check_target(self.target, what)
        if len(self.channels) != len(self.strides):
            raise PluginError(
                f"{what}: {len(self.channels)} channels but {len(self.strides)} strides"
            )
        for number in (*self.channels, *self.strides, self.input_size):
            if type(number) is not int or number < 1:
                raise PluginError(
                    f"{what}: {_shown(number)} in channels, strides or input_size is no positive "
                    f"whole number"
                )
        for text in (self.summary, self.provider, *self.tags):
            _check_line(text, what)
        if self.weights_of != "" and not is_name(self.weights_of):
            raise PluginError(f"{what}: weights_of {_shown(self.weights_of)} is no component name")
        _check_mapping(self.kwargs, "kwargs", what)
        if self.options is not None:
            _check_mapping(self.options, "options", what)
            for text in self.options.values():
                _check_line(text, what)

    def given_by(self, distribution: str) -> Self:
        """Give the same component as one of a distribution, without checking it again."""
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), provider=distribution)
        return copy

    @property
    def qualified_name(self) -> str:
        """``distribution:name``, which means this component whatever else is installed."""
        return f"{self.provider}:{self.name}" if self.provider else self.name

    @property
    def class_name(self) -> str:
        """The name of the component's class."""
        return self.target.partition(":")[2]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A family of components whose names are listed and described only when asked for.

    Attributes:
        kind: The kind of every component of the source.
        prefix: What their names begin with, ending in a slash: ``timm/``.
        names: Gives the names after the prefix; called once, and must not import torch.
        spec: Gives the spec of one of those names, called with the name after the prefix.
        tags: Gives the tags of the weights that one of those names can have.
        target: ``"package.module:Class"`` of every component of the source.
        weights: ``"package.module:function"``, called with a name and a tag (or ``None`` for the
            default) when weights are asked for that no registry file lists; it gives a
            ``WeightsEntry``. Empty where the source has no weights.
        summary: One line for ``zoo list``.
        provider: The distribution that gives it; set when the plugin is loaded.
    """

    kind: str
    prefix: str
    names: Callable[[], Sequence[str]]
    spec: Callable[[str], Spec]
    target: str
    weights: str = ""
    tags: Callable[[str], Sequence[str]] = lambda name: ()
    summary: str = ""
    provider: str = ""

    def __post_init__(self) -> None:
        what = f"Source {_shown(self.prefix)}"
        _check_kind(self.kind, what)
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise PluginError(f"{what}: a prefix is a name that ends in a slash, such as 'timm/'")
        _check_target(self.target, what)
        if self.weights != "":
            _check_target(self.weights, what)
        for name in ("names", "spec", "tags"):
            if not callable(getattr(self, name)):
                given = _shown(getattr(self, name))
                raise PluginError(f"{what}: {name} is {given}, and must be a function")
        for text in (self.summary, self.provider):
            _check_line(text, what)


def is_name(value: object) -> bool:
    """Tell whether a value can be the name of a component."""
    return isinstance(value, str) and len(value) <= LONGEST and bool(NAME.fullmatch(value))


_SEQUENCES: Final = ("channels", "strides", "tags", "aliases")


def _as_tuple(value: object, name: str, what: str) -> tuple[Any, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(value)
    raise PluginError(f"{what}: {name} is {_shown(value)}, and must be a list or a tuple")


def _check_line(value: object, what: str) -> None:
    """Refuse what a table could not show in one line."""
    if not isinstance(value, str) or not value.isprintable():
        raise PluginError(f"{what}: {_shown(value)} must be one line of printable text")


def _check_mapping(value: object, name: str, what: str) -> None:
    if not isinstance(value, Mapping):
        raise PluginError(f"{what}: {name} is {_shown(value)}, and must be a mapping")
    for key in value:
        if not isinstance(key, str) or not key.isidentifier():
            raise PluginError(f"{what}: {_shown(key)} in {name} is no name of an argument")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _check_target(target: object, what: str) -> None:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise PluginError(
            f"{what}: target {_shown(target)} is not of the form 'package.module:Class'"
        )


def _check_kind(kind: object, what: str) -> None:
    if not isinstance(kind, str) or kind not in KINDS:
        raise PluginError(f"{what}: kind {_shown(kind)} is none of {', '.join(KINDS)}")
