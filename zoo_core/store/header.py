"""The head of a safetensors file: names, types, shapes and places of its tensors, read strictly.

The format: eight bytes that give the length of a JSON text, that text, then the tensors' bytes in
the order of the text's offsets (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import Any, Final, NoReturn

from zoo_core.errors import WeightsError

MAX_HEADER: Final = 8_000_000  # bytes; a model of two thousand tensors needs some 250,000
_LENGTH: Final = 8
_MAX_NAME: Final = 200  # characters, for names stand in messages
_MAX_DIMENSIONS: Final = 64  # as many as torch has
_MAX_NUMBERS: Final = 2**60  # times eight bytes still fits into the numbers that torch counts with

ITEM_SIZES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """Where one tensor stands in a file, and what it is.

    Attributes:
        name: The tensor's name.
        dtype: The format's name of its type: ``F32``.
        shape: Its shape.
        start: Its first byte, counted from the file's beginning.
        size: Its bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def header_length(first: bytes, total: int, where: str) -> int:
    """Give the length of the header from a file's first eight bytes.

    Args:
        first: Those bytes.
        total: Bytes of the whole file.
        where: What an error calls the file.

    Raises:
        WeightsError: If this is no safetensors file, or its header is too long.
    """
    length = int.from_bytes(first[:_LENGTH], "little")
    if len(first) < _LENGTH or length < 2:
        _refuse(where, "it does not begin as one does")
    if length > MAX_HEADER and first.startswith((b"PK", b"\x80")):
        _refuse(where, "it begins as a pickle does, and pickles are never read")
    if length > MAX_HEADER:
        _refuse(where, f"its header claims {length:,} bytes; at most {MAX_HEADER:,} are read")
    if _LENGTH + length > total:
        _refuse(where, f"its header claims {length:,} bytes, and the file has {total:,}")
    return length


def read_header(text: bytes, total: int, where: str) -> list[Slot]:
    """Give the tensors of a file in the order in which they stand in it.

    Args:
        text: The header, without the eight bytes before it.
        total: Bytes of the whole file.
        where: What an error calls the file.

    Raises:
        WeightsError: If a rule of the format is broken: the tensors must fill the rest of the
            file exactly, without gaps and without overlap.
    """
    given = _parsed(text, where)
    metadata = given.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(where, "its __metadata__ is no mapping from text to text")
    begin = _LENGTH + len(text)
    slots = sorted(
        (_slot(name, entry, begin, where) for name, entry in given.items()),
        key=lambda slot: (slot.start, slot.size),
    )
    end = begin
    for slot in slots:
        if slot.start != end:
            problem = "overlap" if slot.start < end else "leave a gap"
            _refuse(where, f"its tensors {problem} before {slot.name!r}")
        end += slot.size
    if end != total:
        _refuse(where, f"its tensors end at byte {end:,}, and the file has {total:,}")
    return slots


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for name, value in pairs:
            if name in entries:
                _refuse(where, f"its header has {_short(name)} twice")
            entries[name] = value
        return entries

    if not text.startswith(b"{"):
        _refuse(where, "it does not begin as one does")
    try:
        given = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except RecursionError:
        _refuse(where, "its header is no JSON of use: too many values in one another")
    except ValueError as error:
        _refuse(where, f"its header is no JSON ({error})")
    assert isinstance(given, dict)
    return given


def _slot(name: str, entry: object, begin: int, where: str) -> Slot:
    if len(name) > _MAX_NAME or not name.isprintable():
        _refuse(where, f"{_short(name)} is no name of a tensor")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(where, f"{name!r} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_SIZES:
        _refuse(where, f"{name!r} is of type {_short(dtype)}; known are {', '.join(ITEM_SIZES)}")
    numbers = _whole_numbers(shape) and _whole_numbers(offsets)
    if not numbers or len(offsets) != 2 or max(offsets) > _MAX_NUMBERS:
        _refuse(where, f"{name!r} has shape {_short(shape)} and data_offsets {_short(offsets)}")
    if len(shape) > _MAX_DIMENSIONS or prod(max(side, 1) for side in shape) > _MAX_NUMBERS:
        _refuse(where, f"{name!r} of {dtype} {_short(shape)} is larger than a tensor can be")
    start, stop = offsets
    size = prod(shape) * ITEM_SIZES[dtype]
    if stop - start != size:
        _refuse(where, f"{name!r} of {dtype} {shape} needs {size:,} bytes, not {stop - start:,}")
    return Slot(name, dtype, tuple(shape), begin + start, size)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _whole_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _refuse(where: str, problem: str) -> NoReturn:
    raise WeightsError(f"{where}: this is no readable safetensors file: {problem}") from None
