"""Writing weights into the text of a registry file, and leaving all else in it as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml
from yaml import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from zoo_core.manifest import Preprocessing, WeightsEntry

_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_KEYS: Final = (
    "component", "tag", "repository", "filename", "revision", "sha256", "size", "layout",
    "activation", "eps", "preprocessing", "classes", "labels", "licence", "source",
)  # fmt: skip
_PINS: Final = ("revision", "sha256", "size")


def edited(text: str, pinned: Mapping[int, WeightsEntry], added: Iterable[WeightsEntry]) -> str:
    """Give the text of a registry file with other pins, and with more entries at the end.

    Args:
        text: The text of a file that was read without an error.
        pinned: Entries by their place under ``weights``; only their pins are written.
        added: Entries to append.
    """
    editor = _Editor(text)
    for place, entry in pinned.items():
        editor.pin(place, entry)
    new = [_fields(entry) for entry in added]
    if new:
        editor.append(new)
    return editor.result()


class _Editor:
    def __init__(self, text: str) -> None:
        self._text = text
        self._root: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._edits: list[tuple[int, int, str]] = []
        found = _BREAK.search(text)
        self._break = found[0] if found else "\n"

    def pin(self, place: int, entry: WeightsEntry) -> None:
        weights = _child(self._root, "weights")
        assert isinstance(weights, SequenceNode)
        node: MappingNode = weights.value[place]
        behind = _child(node, "filename") or _child(node, "repository")
        for key in _PINS:
            value = getattr(entry, key)
            old = _child(node, key)
            if old is None:
                self._insert(node, behind, f"{key}: {_written(value)}")
                continue
            if old.value != str(value):
                self._edits.append((old.start_mark.index, self._end(old), _written(value)))
            behind = old

    def append(self, entries: list[dict[str, str]]) -> None:
        weights = _child(self._root, "weights")
        if weights is not None and weights.flow_style:
            self._extend(weights, ", ".join(map(_flow, entries)))
        elif weights is not None:
            self._add_lines(weights, _block(entries, weights.start_mark.column))
        elif self._root is None:
            self._add_lines(None, ["weights:", *_block(entries, 0)[1:]])
        elif self._root.flow_style:
            self._extend(self._root, f"weights: [{', '.join(map(_flow, entries))}]")
        else:
            column = self._root.start_mark.column
            self._add_lines(self._root, [" " * column + "weights:", *_block(entries, column)[1:]])

    def result(self) -> str:
        text = self._text
        # From the end, so that the places stay right; what is added at one place stays in order.
        for _, (start, end, new) in sorted(enumerate(self._edits), key=_place, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _insert(self, entry: MappingNode, behind: Node, item: str) -> None:
        end = self._end(behind)
        if entry.flow_style:
            self._edits.append((end, end, f", {item}"))
        else:
            self._insert_lines(end, [" " * entry.start_mark.column + item])

    def _extend(self, collection: CollectionNode, items: str) -> None:
        """Add to a collection in brackets."""
        if collection.value:
            end = self._end(_last(collection))
            self._edits.append((end, end, f", {items}"))
        else:
            start = collection.start_mark.index + 1
            self._edits.append((start, start, items))

    def _add_lines(self, behind: Node | None, lines: list[str]) -> None:
        """Add lines behind a node; behind the whole text if there is none."""
        if behind is not None:
            self._insert_lines(self._end(behind), lines)
            return
        end = len(self._text)
        begun = bool(self._text) and not _BREAK.fullmatch(self._text[-1])
        new = self._break.join([*([""] if begun else []), *lines, ""])
        self._edits.append((end, end, new))

    def _insert_lines(self, place: int, lines: list[str]) -> None:
        found = _BREAK.search(self._text, place)
        end = found.start() if found else len(self._text)
        self._edits.append((end, end, self._break.join(["", *lines])))

    def _end(self, node: Node) -> int:
        while isinstance(node, CollectionNode) and not node.flow_style:
            node = _last(node)
        start: int = node.start_mark.index
        # A text in several lines counts the empty lines behind it as its own.
        return start + len(self._text[start : node.end_mark.index].rstrip())


def _place(numbered: tuple[int, tuple[int, int, str]]) -> tuple[int, int]:
    number, (start, _, _) = numbered
    return start, number


def _child(node: Node | None, key: str) -> Any:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _last(collection: CollectionNode) -> Node:
    last = collection.value[-1]
    found: Node = last[1] if isinstance(collection, MappingNode) else last
    return found


def _block(entries: list[dict[str, str]], column: int) -> list[str]:
    """Give entries in lines, an empty one before each."""
    lines = []
    for entry in entries:
        items = [f"{key}: {value}" for key, value in entry.items()]
        lines += ["", f"- {items[0]}", *(f"  {item}" for item in items[1:])]
    return [" " * column + line if line else line for line in lines]


def _flow(entry: dict[str, str]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in entry.items())}}}"


def _fields(entry: WeightsEntry) -> dict[str, str]:
    """Give what a registry file says of an entry, each value as it is written."""
    given = {key: getattr(entry, key) for key in _KEYS}
    given["preprocessing"] = _plain(entry.preprocessing)
    return {key: _written(value) for key, value in given.items() if value is not None}


def _plain(preprocessing: Preprocessing) -> dict[str, Any]:
    height, width = preprocessing.size
    size = height if height == width else [height, width]
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    return {**vars(preprocessing), "size": size, "mean": mean, "std": std}


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.1 and 1.2 read alike, in one line."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    word = re.match("[A-Za-z]", text) and text.isprintable()
    digits = re.fullmatch("[0-9a-f]*[acdf][0-9a-f]*", text)  # a hash that is no number
    style = None if word or digits else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


def _written(value: Any) -> str:
    """Give a value as it stands within brackets or alone in a line."""
    listed = yaml.dump(
        [value],
        Dumper=_Dumper,
        default_flow_style=True,
        width=math.inf,
        allow_unicode=True,
        sort_keys=False,
    )
    text: str = listed.strip()
    return text[1:-1]
