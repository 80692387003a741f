"""Strict reading of a registry file: every rule broken is told with line and column."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Final, TypeVar

import yaml
from yaml import Event, MappingNode, Node, ScalarNode, SequenceNode

from zoo_core.errors import RegistryError
from zoo_core.manifest import (
    CROP_MODES,
    INTERPOLATIONS,
    LABELS,
    LAYOUTS,
    RULES,
    Manifest,
    NamedModel,
    Preprocessing,
    Rule,
    WeightsEntry,
)
from zoo_core.spec import NAME

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16
MAX_CHARACTERS: Final = 1000
"""Of one scalar."""
_TOO_DEEP: Final = f"more than {MAX_DEPTH} lists and mappings in one another"

_UNREADABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

_TEXT: Final = "tag:yaml.org,2002:str"
_LIST: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"
_WORDS: Final = {"null": None, "true": True, "false": False}
_INTEGER = re.compile("-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
# Numbers to YAML 1.2, which the resolver, of YAML 1.1, takes for text.
_LATER = re.compile("[-+]?0o?[0-9]+")

_T = TypeVar("_T")
_Named = TypeVar("_Named", WeightsEntry, NamedModel)
_Read = Callable[[Node], Any]


class Reader:
    """Turns YAML nodes into dataclasses, knowing where each node stands.

    Args:
        path: The file.
        origin: What entries say of where they were read.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self.path = path
        self.origin = origin
        self._tags: dict[str, str] = {}

    def manifest(self) -> Manifest:
        """Read the whole file.

        Raises:
            RegistryError: With line and column.
        """
        root = self._compose(self._text())
        if root is None:
            return Manifest()
        top = self._mapping(root)
        self._known(top, {"weights", "models", "pins"})
        pins = self._mapping(top["pins"]) if "pins" in top else {}
        return Manifest(
            weights=self._listed(top, "weights", self._entry),
            models=self._listed(top, "models", self._model),
            pins={name: self._string(node) for name, node in pins.items()},
        )

    def _fail(self, node: Node | Event, problem: str) -> RegistryError:
        return self._fail_at(node.start_mark, problem)

    def _fail_at(self, mark: Any, problem: str) -> RegistryError:
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        return RegistryError(f"{self.path}{where}: {problem}")

    def _text(self) -> str:
        if self.path.exists() and not self.path.is_file():  # a pipe, say, which might never end
            raise RegistryError(f"{self.path}: cannot be read: it is no file")
        try:
            with self.path.open("rb") as file:
                read = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise RegistryError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(read) > MAX_BYTES:
            raise RegistryError(f"{self.path}: has more than {MAX_BYTES} bytes, the most read")
        try:
            text = read.decode()
        except UnicodeDecodeError as error:
            before = read[: error.start].decode()
            problem = f"byte 0x{read[error.start]:02x} is not UTF-8"
            raise self._fail_after(before, problem) from None
        unreadable = _UNREADABLE.search(text)
        if unreadable:
            code = f"U+{ord(unreadable[0]):04X}"
            problem = f"character {code} is not allowed"
            if unreadable[0] == "\ufeff":
                problem = f"a byte order mark ({code}) is not allowed; save the file without one"
            raise self._fail_after(text[: unreadable.start()], problem)
        return text

    def _fail_after(self, before: str, problem: str) -> RegistryError:
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return RegistryError(f"{self.path}:{line}:{column}: {problem}")

    def _compose(self, text: str, loader: Any = None) -> Node | None:
        loader = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            return self._composed(loader(text))
        except yaml.MarkedYAMLError as error:
            if "nesting" in str(error.problem) and loader is not yaml.SafeLoader:
                # libyaml 0.2.6 has a limit of its own, and looks far ahead of ours.
                return self._compose(text, yaml.SafeLoader)
            raise self._fail_at(error.problem_mark, str(error.problem)) from error
        except yaml.YAMLError as error:
            problem = " ".join(str(error).split())
            raise RegistryError(f"{self.path}: is no YAML: {problem}") from error

    def _composed(self, loader: Any) -> Node | None:
        try:
            loader.get_event()  # of the stream's beginning
            if loader.check_event(yaml.StreamEndEvent):
                return None
            loader.get_event()  # of the document's
            root = self._node(loader, loader.get_event(), depth=0)
            loader.get_event()  # of its end
            if not loader.check_event(yaml.StreamEndEvent):
                raise self._fail(loader.get_event(), "a second document begins; one is read")
            return root
        finally:
            loader.dispose()

    def _node(self, loader: Any, event: Any, depth: int) -> Node:
        """Make the node that begins with an event, of plain data not too deep and not too long."""
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._fail(event, "anchors and aliases are not allowed")
        if event.tag:
            raise self._fail(event, f"tags such as {event.tag!r} are not allowed")
        begin, end = event.start_mark, event.end_mark
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_CHARACTERS:
                count = len(event.value)
                raise self._fail(event, f"{count} characters; at most {MAX_CHARACTERS} are read")
            tag = self._resolved(loader, event)
            return ScalarNode(tag, event.value, begin, end, style=event.style)
        if depth == MAX_DEPTH:
            raise self._fail(event, _TOO_DEEP)
        parts: list[Node] = []
        while not loader.check_event(yaml.SequenceEndEvent, yaml.MappingEndEvent):
            parts.append(self._node(loader, loader.get_event(), depth + 1))
        end = loader.get_event().end_mark
        if isinstance(event, yaml.SequenceStartEvent):
            return SequenceNode(_LIST, parts, begin, end)
        pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return MappingNode(_MAPPING, pairs, begin, end)

    def _resolved(self, loader: Any, event: Any) -> str:
        """Give the tag that YAML has for a scalar; most texts stand in a file many times."""
        text: str = event.value
        tag = self._tags.get(text) if event.implicit[0] else None
        if tag is None:
            tag = str(loader.resolve(ScalarNode, text, event.implicit))
            if event.implicit[0]:
                self._tags[text] = tag
        return tag

    def _mapping(self, node: Node) -> dict[str, Node]:
        if not isinstance(node, MappingNode):
            raise self._fail(node, f"a mapping is expected here, not {_shown(node)}")
        result: dict[str, Node] = {}
        for key, value in node.value:
            name = self._string(key)
            if name in result:
                raise self._fail(key, f"key {name!r} stands here twice")
            result[name] = value
        return result

    def _sequence(self, node: Node) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self._fail(node, f"a list is expected here, not {_shown(node)}")
        return list(node.value)

    def _listed(
        self, top: Mapping[str, Node], key: str, read: Callable[[Node], _Named]
    ) -> tuple[_Named, ...]:
        """Read a list of things that have names, each name once."""
        by_name: dict[str, _Named] = {}
        for item in self._sequence(top[key]) if key in top else ():
            value = read(item)
            if value.name in by_name:
                raise self._fail(item, f"{value.name!r} stands under {key} twice")
            by_name[value.name] = value
        return tuple(by_name.values())

    def _known(self, given: Mapping[str, Node], allowed: set[str]) -> None:
        for name, value in given.items():
            if name not in allowed:
                raise self._fail(
                    value, f"unknown key {name!r}; known: {', '.join(sorted(allowed))}"
                )

    def _typed(self, node: Node, what: str, *kinds: type) -> Any:
        try:
            value = _value(node) if isinstance(node, ScalarNode) else node
        except ValueError:
            value = node
        if type(value) in kinds:
            return value
        raise self._fail(node, f"{what} is expected here, not {_shown(node)}")

    def _string(self, node: Node) -> str:
        quoted = isinstance(node, ScalarNode) and node.value
        text: str = self._typed(node, "quoted text" if quoted else "text", str)
        return text

    def _raw(self, node: Node) -> str:
        # YAML takes a hash that happens to have no letters for a number.
        return str(node.value) if isinstance(node, ScalarNode) else self._string(node)

    def _integer(self, node: Node, least: int = 1) -> int:
        number: int = self._typed(node, "a whole number", int)
        if number < least:
            raise self._fail(node, f"{number} is too small; at least {least} is expected here")
        return number

    def _count(self, node: Node) -> int:
        return self._integer(node, least=0)

    def _number(self, node: Node) -> float:
        return float(self._typed(node, "a number", int, float))

    def _positive(self, node: Node) -> float:
        number = self._number(node)
        if number <= 0:
            raise self._fail(node, f"a positive number is expected here, not {number:g}")
        return number

    def _choice(self, *choices: str) -> _Read:
        def read(node: Node) -> str:
            value = self._string(node)
            if value not in choices:
                raise self._fail(node, f"{value!r} is none of {', '.join(choices)}")
            return value

        return read

    def _unpinned_or(self, read: Callable[[Node], _T]) -> Callable[[Node], _T | None]:
        return lambda node: None if node.value == "unpinned" else read(node)

    def _pair(self, node: Node) -> tuple[int, int]:
        if isinstance(node, ScalarNode):
            side = self._integer(node)
            return side, side
        sides = [self._integer(part) for part in self._sequence(node)]
        if len(sides) != 2:
            raise self._fail(node, "a size is one side, or height and width")
        return sides[0], sides[1]

    def _numbers(self, node: Node) -> tuple[float, ...]:
        return tuple(self._number(part) for part in self._sequence(node))

    def _positives(self, node: Node) -> tuple[float, ...]:
        return tuple(self._positive(part) for part in self._sequence(node))

    def _value(self, node: Node) -> Any:
        if isinstance(node, SequenceNode):
            return [self._value(part) for part in node.value]
        what = "true, false, null, a decimal number, text or a list"
        return self._typed(node, what, str, int, float, bool, NoneType)

    def _options(self, node: Node) -> dict[str, dict[str, Any]]:
        return {
            part: {name: self._value(value) for name, value in self._mapping(given).items()}
            for part, given in self._mapping(node).items()
        }

    def _classes(self, node: Node) -> dict[str, int]:
        given = self._mapping(node)
        self._known(given, {"classification", "segmentation"})
        return {head: self._count(count) for head, count in given.items()}

    def _name(self, node: Node) -> str:
        name = self._raw(node)
        if not NAME.fullmatch(name):
            raise self._fail(node, f"{name!r} is no name of letters, digits, '_', '-' and '/'")
        return name

    def _preprocessing(self, node: Node) -> Preprocessing:
        return self._dataclass(
            node,
            Preprocessing,
            {
                "size": self._pair,
                "crop": self._positive,
                "crop_mode": self._choice(*CROP_MODES),
                "interpolation": self._choice(*INTERPOLATIONS),
                "mean": self._numbers,
                "std": self._positives,
            },
        )

    def _entry(self, node: Node) -> WeightsEntry:
        readers: dict[str, _Read] = {
            "component": self._string,
            "tag": self._raw,
            "repository": self._raw,
            "filename": self._raw,
            "revision": self._unpinned_or(self._raw),
            "sha256": self._unpinned_or(self._raw),
            "size": self._unpinned_or(self._integer),
            "layout": self._choice(*LAYOUTS),
            "activation": self._string,
            "eps": self._number,
            "preprocessing": self._preprocessing,
            "classes": self._integer,
            "labels": self._choice(*LABELS),
            "licence": self._string,
            "source": self._string,
        }
        return self._dataclass(node, WeightsEntry, readers, RULES, origin=self.origin)

    def _model(self, node: Node) -> NamedModel:
        readers: dict[str, _Read] = {
            "name": self._name,
            "recipe": self._string,
            "classes": self._classes,
            "options": self._options,
            "in_channels": self._integer,
            "image_size": self._pair,
            "summary": self._string,
        }
        return self._dataclass(node, NamedModel, readers, origin=self.origin)

    def _dataclass(
        self,
        node: Node,
        cls: type[_T],
        readers: Mapping[str, _Read],
        rules: Mapping[str, Rule] = MappingProxyType({}),
        **more: Any,
    ) -> _T:
        given = self._mapping(node)
        self._known(given, set(readers))
        for item in fields(cls):  # type: ignore[arg-type]
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in given:
                raise self._fail(node, f"key {item.name!r} is missing")
        values = {name: readers[name](value) for name, value in given.items()}
        for name, value in values.items():
            problem = rules[name](value) if name in rules else None
            if problem:
                raise self._fail(given[name], problem)
        return cls(**values, **more)


def _value(node: ScalarNode) -> Any:
    """Give the value of a scalar if all versions of YAML read it alike.

    Raises:
        ValueError: If they do not, or it is a number that is too large.
    """
    # A quoted one has a style; a plain one has none, or an empty one where libyaml reads.
    return node.value if node.style else _meaning(node.value, node.tag == _TEXT)


@lru_cache(1024)
def _meaning(text: str, is_text: bool) -> Any:
    """Give the value of a plain scalar, which YAML 1.1 takes for text or for something else."""
    if text in _WORDS:
        return _WORDS[text]
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError
        return int(text) if _INTEGER.fullmatch(text) else float(text)
    if not is_text or _LATER.fullmatch(text):
        raise ValueError
    return text


def _shown(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if not node.value:
        return "nothing"
    return repr(node.value if len(node.value) <= 60 else f"{node.value[:60]}…")
