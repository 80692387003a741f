"""Strict reading of a registry file: every rule broken is told with line and column."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from yaml import Event, MappingNode, Node, ScalarNode, SequenceNode

from zoo_core.errors import RegistryError
from zoo_core.manifest import (
    CROP_MODES,
    INTERPOLATIONS,
    LABELS,
    LAYOUTS,
    Manifest,
    Preprocessing,
    WeightsEntry,
)

MAX_BYTES: Final = 1_000_000

_T = TypeVar("_T")


class Reader:
    """Turns YAML nodes into dataclasses, knowing where each node stands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _fail(self, node: Node | Event, problem: str) -> RegistryError:
        mark = node.start_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        return RegistryError(f"{self.path}{where}: {problem}")

    def _read(self) -> bytes:
        try:
            text = self.path.read_bytes()
        except OSError as error:
            raise RegistryError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(text) > MAX_BYTES:
            raise RegistryError(f"{self.path}: {len(text)} bytes; at most {MAX_BYTES} are read")
        return text

    def manifest(self) -> Manifest:
        """Read the whole file.

        Raises:
            RegistryError: With line and column.
        """
        text = self._read()
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in yaml.parse(text, Loader=loader):
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                    raise self._fail(event, "anchors and aliases are not allowed")
            root = yaml.compose(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise RegistryError(f"{self.path}{where}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise RegistryError(f"{self.path}: no YAML text: {error}") from error
        if root is None:
            return Manifest()
        top = self._mapping(root)
        self._known(root, top, {"weights", "pins"})
        pins = self._mapping(top["pins"]) if "pins" in top else {}
        entries = self._sequence(top["weights"]) if "weights" in top else []
        manifest = Manifest(
            weights=tuple(self._entry(node) for node in entries),
            pins={name: self._string(node) for name, node in pins.items()},
        )
        seen: set[str] = set()
        for node, entry in zip(entries, manifest.weights, strict=True):
            if entry.name in seen:
                raise self._fail(node, f"weights {entry.name!r} are listed twice")
            seen.add(entry.name)
        return manifest

    def _mapping(self, node: Node) -> dict[str, Node]:
        if not isinstance(node, MappingNode):
            raise self._fail(node, f"a mapping is expected here, not {_kind(node)}")
        result: dict[str, Node] = {}
        for key, value in node.value:
            name = self._string(key)
            if name in result:
                raise self._fail(key, f"key {name!r} stands here twice")
            result[name] = value
        return result

    def _sequence(self, node: Node) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise self._fail(node, f"a list is expected here, not {_kind(node)}")
        return list(node.value)

    def _known(self, node: Node, given: Mapping[str, Node], allowed: set[str]) -> None:
        for name, value in given.items():
            if name not in allowed:
                raise self._fail(
                    value, f"unknown key {name!r}; known: {', '.join(sorted(allowed))}"
                )

    def _scalar(self, node: Node, kind: type[_T], tags: tuple[str, ...], what: str) -> _T:
        short = node.tag.rpartition(":")[2]
        if not isinstance(node, ScalarNode) or short not in tags:
            raise self._fail(node, f"{what} is expected here, not {node.value!r}")
        try:
            return kind(node.value)  # type: ignore[call-arg]
        except ValueError:
            raise self._fail(node, f"{what} is expected here, not {node.value!r}") from None

    def _string(self, node: Node) -> str:
        return self._scalar(node, str, ("str",), "text")

    def _integer(self, node: Node) -> int:
        number = self._scalar(node, int, ("int",), "a whole number")
        if number < 1:
            raise self._fail(node, f"a positive number is expected here, not {number}")
        return number

    def _number(self, node: Node) -> float:
        return self._scalar(node, float, ("int", "float"), "a number")

    def _choice(self, *choices: str) -> Callable[[Node], str]:
        def read(node: Node) -> str:
            value = self._string(node)
            if value not in choices:
                raise self._fail(node, f"{value!r} is none of {', '.join(choices)}")
            return value

        return read

    def _matching(self, pattern: str, what: str) -> Callable[[Node], str]:
        def read(node: Node) -> str:
            # YAML takes a hash that happens to have no letters for a number.
            value = node.value if isinstance(node, ScalarNode) else self._string(node)
            if not re.fullmatch(pattern, value):
                raise self._fail(node, f"{value!r} is not {what}")
            return str(value)

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

    def _preprocessing(self, node: Node) -> Preprocessing:
        return self._dataclass(
            node,
            Preprocessing,
            {
                "size": self._pair,
                "crop": self._number,
                "crop_mode": self._choice(*CROP_MODES),
                "interpolation": self._choice(*INTERPOLATIONS),
                "mean": self._numbers,
                "std": self._numbers,
            },
        )

    def _entry(self, node: Node) -> WeightsEntry:
        path = r"(?!.*\.\.)[\w.-]+"
        return self._dataclass(
            node,
            WeightsEntry,
            {
                "component": self._string,
                "tag": self._matching(r"[\w-]+", "a tag"),
                "repository": self._matching(f"{path}/{path}", "a repository 'owner/name'"),
                "filename": self._matching(
                    rf"{path}\.safetensors", "the name of a safetensors file"
                ),
                "revision": self._unpinned_or(
                    self._matching("[0-9a-f]{40}", "a commit of 40 digits")
                ),
                "sha256": self._unpinned_or(self._matching("[0-9a-f]{64}", "a hash of 64 digits")),
                "size": self._unpinned_or(self._integer),
                "layout": self._choice(*LAYOUTS),
                "preprocessing": self._preprocessing,
                "classes": self._integer,
                "labels": self._choice(*LABELS),
                "licence": self._string,
                "source": self._string,
            },
        )

    def _dataclass(
        self, node: Node, cls: type[_T], readers: Mapping[str, Callable[[Node], Any]]
    ) -> _T:
        given = self._mapping(node)
        self._known(node, given, set(readers))
        for item in fields(cls):  # type: ignore[arg-type]
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in given:
                raise self._fail(node, f"key {item.name!r} is missing")
        return cls(**{name: readers[name](value) for name, value in given.items()})


def _kind(node: Node) -> str:
    kinds: dict[type[Node], str] = {MappingNode: "a mapping", SequenceNode: "a list"}
    return kinds.get(type(node), "one value")
