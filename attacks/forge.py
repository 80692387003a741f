"""Hostile files: weights, pickles and pictures."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]

_NAMES: Final = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
}


@dataclass(frozen=True)
class Raw:
    """A tensor as a safetensors file has it.

    Attributes:
        dtype: The format's name of its type.
        shape: Its shape.
        data: Its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def raw(state: State) -> dict[str, Raw]:
    """Give tensors as a file has them."""
    return {
        name: Raw(
            _NAMES[tensor.dtype],
            tuple(tensor.shape),
            tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, tensor in state.items()
    }


def entries(tensors: Mapping[str, Raw]) -> dict[str, dict[str, Any]]:
    """Give what the header says of tensors that stand one behind the other."""
    told, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + len(tensor.data)
        told[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    return told


def bodies(tensors: Mapping[str, Raw]) -> bytes:
    """Give the bytes of tensors that stand one behind the other."""
    return b"".join(tensor.data for tensor in tensors.values())


def with_header(header: bytes, body: bytes) -> bytes:
    """Give a file of this header and this body."""
    return struct.pack("<Q", len(header)) + header + body


def pack(state: State, told: Mapping[str, Any] | None = None, body: bytes | None = None) -> bytes:
    """Give the safetensors file of tensors, with another header or body if they are given."""
    tensors = raw(state)
    header = json.dumps(entries(tensors) if told is None else told).encode()
    return with_header(header, bodies(tensors) if body is None else body)


def told_of(state: State) -> dict[str, dict[str, Any]]:
    """Give the honest header of tensors, to be changed."""
    return entries(raw(state))


def filled(shapes: Mapping[str, Tensor], value: float) -> State:
    """Give tensors of these shapes that a network runs with, made of one number."""
    return {
        name: torch.full_like(tensor, value)
        if tensor.is_floating_point()
        else torch.zeros_like(tensor)
        for name, tensor in shapes.items()
    }


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


def bare_pickle(canary: Path) -> bytes:
    """Give a pickle that writes the canary."""
    return pickle.dumps(Payload(canary), protocol=2)


def checkpoint(content: Mapping[str, Any]) -> bytes:
    """Give what ``torch.save`` writes: a zip file with a pickle in it."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def without_first(state: State) -> State:
    """Leave the first tensor out."""
    first = next(iter(state))
    return {name: tensor for name, tensor in state.items() if name != first}


def first_as(state: State, change: Any) -> State:
    """Change the first tensor."""
    first = next(iter(state))
    return {**state, first: change(state[first])}


def spoilt(tensor: Tensor, value: float) -> Tensor:
    """Give a tensor with another first value."""
    changed = tensor.clone()
    changed.view(-1)[0] = value
    return changed


def overlapping(state: State) -> bytes:
    """Have the second tensor begin within the first; a file shorter by as much."""
    told, body = told_of(state), bodies(raw(state))
    shift = 64
    for entry in list(told.values())[1:]:
        entry["data_offsets"] = [place - shift for place in entry["data_offsets"]]
    return pack(state, told, body[:-shift])


def gapped(state: State) -> bytes:
    """Hide bytes between the first and the second tensor."""
    told, body = told_of(state), bodies(raw(state))
    first, *others = told.values()
    hidden = b"hidden!!" * 8
    for entry in others:
        entry["data_offsets"] = [place + len(hidden) for place in entry["data_offsets"]]
    end = first["data_offsets"][1]
    return pack(state, told, body[:end] + hidden + body[end:])


def beyond_the_end(state: State) -> bytes:
    """Announce a last tensor that the file does not hold."""
    return pack(state, None, bodies(raw(state))[:-64])


def negative(state: State) -> bytes:
    """Have the first tensor begin before the file's tensors."""
    told = told_of(state)
    first = next(iter(told.values()))
    length = first["data_offsets"][1]
    first["data_offsets"] = [-8, length - 8]
    return pack(state, told)


def one_more(state: State, name: str, shape: list[int], data: bytes = b"") -> bytes:
    """Add a tensor of this shape at the end."""
    told, body = told_of(state), bodies(raw(state))
    place = [len(body), len(body) + len(data)]
    told[name] = {"dtype": "F32", "shape": shape, "data_offsets": place}
    return pack(state, told, body + data)


def twice(state: State) -> bytes:
    """Name the first tensor twice: as what it is, and as whole numbers."""
    tensors = raw(state)
    name, tensor = next(iter(tensors.items()))
    honest = json.dumps(entries(tensors))
    other = json.dumps(entries({name: replace(tensor, dtype="I32")}))
    return with_header(f"{honest[:-1]}, {other[1:]}".encode(), bodies(tensors))


def many_names() -> bytes:
    """Name six hundred thousand things, the last one twice."""
    names = ",".join(f'"{number:x}":0' for number in range(600_000))
    return with_header(f'{{{names},"again":0,"again":0}}'.encode(), b"")


def nested() -> bytes:
    """Nest a million lists."""
    return with_header(b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", b"")


def long_header(state: State, size: int) -> bytes:
    """Fill the header up with spaces."""
    header = json.dumps(told_of(state)).encode()
    return with_header(header + b" " * (size - len(header)), bodies(raw(state)))


def png(width: int, height: int) -> bytes:
    """Give a valid PNG of grey pixels of one colour, which deflates to almost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@cache
def photo() -> bytes:
    """Give an honest picture."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def postscript() -> bytes:
    """Give a PostScript program in the clothes of a picture."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
