"""What a plugin says about its components without importing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from zoo_core.errors import PluginError

KINDS: Final = ("backbone", "attention", "decoder", "explainer")

NAME = re.compile(r"\w[\w-]*(/\w[\w-]*)*", re.ASCII)
LONGEST: Final = 100
"""Characters of a component's name."""
_PREFIX = re.compile(r"(\w[\w-]*/)+", re.ASCII)
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
        if self.kind not in KINDS:
            raise _wrong_kind(self)
        types = {type(self.channels), type(self.strides), type(self.tags), type(self.aliases)}
        if types != {tuple}:
            for name in _SEQUENCES:
                object.__setattr__(self, name, _as_tuple(getattr(self, name), name, self))
        if not is_name(self.name) or (self.aliases and not all(map(is_name, self.aliases))):
            raise _wrong_name(self)
        _check_target(self.target, self)
        if len(self.channels) != len(self.strides):
            counts = f"{len(self.channels)} channels but {len(self.strides)} strides"
            raise _refusal(self, counts)
        for number in (*self.channels, *self.strides, self.input_size):
            if type(number) is not int or number < 1:
                what = "in channels, strides or input_size is no positive whole number"
                raise _refusal(self, f"{_shown(number)} {what}")
        if self.weights_of != "" and not is_name(self.weights_of):
            raise _refusal(self, f"weights_of {_shown(self.weights_of)} is no component name")
        _check_mapping(self.kwargs, "kwargs", self)
        lines = self.summary, self.provider, *self.tags
        if self.options is not None:
            _check_mapping(self.options, "options", self)
            lines += tuple(self.options.values())
        _check_lines(lines, self)

    def given_by(self, distribution: str) -> Self:
        """Give the component as one of a distribution: itself, unless it is another's already."""
        if self.provider in ("", distribution):
            object.__setattr__(self, "provider", distribution)
            return self
        return replace(self, provider=distribution)

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
        if self.kind not in KINDS:
            raise _wrong_kind(self)
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise _refusal(self, "a prefix is a name that ends in a slash, such as 'timm/'")
        _check_target(self.target, self)
        if self.weights != "":
            _check_target(self.weights, self)
        for name in ("names", "spec", "tags"):
            given = getattr(self, name)
            if not callable(given):
                raise _refusal(self, f"{name} is {_shown(given)}, and must be a function")
        _check_lines((self.summary, self.provider), self)


def is_name(value: object) -> bool:
    """Tell whether a value can be the name of a component."""
    return isinstance(value, str) and len(value) <= LONGEST and NAME.fullmatch(value) is not None


_SEQUENCES: Final = ("channels", "strides", "tags", "aliases")


def _refusal(what: Spec | Source, problem: str) -> PluginError:
    name = what.name if isinstance(what, Spec) else what.prefix
    return PluginError(f"{type(what).__name__} {_shown(name)}: {problem}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _wrong_name(spec: Spec) -> PluginError:
    [wrong, *_] = (name for name in (spec.name, *spec.aliases) if not is_name(name))
    rule = "use letters, digits, '_', '-' and '/'"
    if isinstance(wrong, str) and len(wrong) > LONGEST:
        rule = f"it has more than {LONGEST} characters"
    return _refusal(spec, f"{_shown(wrong)} is no component name; {rule}")


def _as_tuple(value: object, name: str, what: Spec) -> tuple[Any, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(value)
    raise _refusal(what, f"{name} is {_shown(value)}, and must be a list or a tuple")


def _check_lines(texts: Iterable[Any], what: Spec | Source) -> None:
    """Refuse what a table could not show in one line."""
    try:
        if "".join(texts).isprintable():  # all at once: thousands of specs are made at each start
            return
    except TypeError:
        pass
    for text in texts:
        if not isinstance(text, str) or not text.isprintable():
            raise _refusal(what, f"{_shown(text)} must be one line of printable text")


def _check_mapping(value: object, name: str, what: Spec) -> None:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise _refusal(what, f"{name} is {_shown(value)}, and must be a mapping")
    try:
        if all(map(str.isidentifier, value)):
            return
    except TypeError:
        pass
    for key in value:
        if not isinstance(key, str) or not key.isidentifier():
            raise _refusal(what, f"{_shown(key)} in {name} is no name of an argument")


def _check_target(target: object, what: Spec | Source) -> None:
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        problem = f"target {_shown(target)} is not of the form 'package.module:Class'"
        raise _refusal(what, problem)


def _wrong_kind(what: Spec | Source) -> PluginError:
    return _refusal(what, f"kind {_shown(what.kind)} is none of {', '.join(KINDS)}")
