"""Reading safetensors files: strictly, and hashed as they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from zoo_core.errors import DamagedFileError, WeightsError
from zoo_core.store import proofs
from zoo_core.store.header import header_length, read_header
from zoo_core.weights import TensorFile
from zoo_core.weights.tensorfile import DTYPES

Header = dict[str, Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def read(
    path: Path, sha256: str | None = None, infinite: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    with TensorFile(path, sha256) as file:
        return file.begin(list(file.slots), infinite).result()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("hashed", [False, True])
def test_all_types_and_shapes_are_read_as_safetensors_does(hashed: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {name: (torch.randn(3, 5) * 9).to(dtype) for name, dtype in DTYPES.items()}
    tensors |= {
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "large": torch.rand(3 << 20),
    }
    path = tmp_path / "all.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    ours = read(path, sha256_of(path) if hashed else None)
    theirs = load_file(path)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name


def test_tensors_are_aligned_as_torch_s_own_are(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sizes = [1, 3, 1000, 5, 70_001, 17, 20_000, 1]
    save_file({f"a{i}": torch.rand(size) for i, size in enumerate(sizes)}, path)
    assert {tensor.data_ptr() % 64 for tensor in read(path).values()} == {0}


def test_tensors_do_not_hang_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(100_000)}, path)
    tensor = read(path)["a"]
    path.write_bytes(b"")
    assert torch.equal(tensor, torch.ones(100_000))


def test_another_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    with pytest.raises(DamagedFileError) as caught:
        read(path, "0" * 64)
    assert str(caught.value) == f"{path}: its sha256 is {sha256_of(path)} instead of {'0' * 64}"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once."""
    monkeypatch.setattr(proofs, "_SETTLED_NS", -(10**12))


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was begun to be hashed while reading."""
    begun: list[int] = []
    sha256 = hashlib.sha256

    def counted(data: bytes = b"", **options: Any) -> Any:
        begun.append(len(data))
        return sha256(data, **options)

    monkeypatch.setattr("zoo_core.weights.tensorfile.hashlib.sha256", counted)
    return begun


def of_the_file(hashes: list[int], path: Path) -> int:
    head = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    return hashes.count(head)


def test_an_unchanged_file_is_hashed_once(settled: None, hashes: list[int], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    expected = sha256_of(path)
    for _ in range(3):
        read(path, expected)
    assert of_the_file(hashes, path) == 1


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_changed_file_is_hashed_again(settled: None, keeps_times: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    expected = sha256_of(path)
    read(path, expected)
    before = path.stat()
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    with path.open("r+b") as file:
        file.write(changed)
    if keeps_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedFileError, match="its sha256 is"):
        read(path, expected)


def test_a_file_changed_a_moment_ago_is_not_remembered(hashes: list[int], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    expected = sha256_of(path)
    for _ in range(2):
        read(path, expected)
    assert of_the_file(hashes, path) == 2


def test_a_file_changed_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(4)}, path)
    with TensorFile(path) as file, file.begin(["a"]) as reading:
        with path.open("ab") as more:
            more.write(b"x")
        with pytest.raises(DamagedFileError, match="it was changed while it was read"):
            reading.result()


def test_values_that_are_not_finite_are_named(settled: None, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    nan, inf = float("nan"), float("inf")
    save_file(
        {
            "fine": torch.ones(2),
            "half": torch.tensor([1, inf], dtype=torch.float16),
            "less": torch.tensor([1, -inf]),
            "none": torch.tensor([nan, 1], dtype=torch.bfloat16),
        },
        path,
    )
    for sha256 in (None, sha256_of(path), sha256_of(path)):
        with pytest.raises(WeightsError) as caught:
            read(path, sha256)
        assert str(caught.value) == (
            f"{path}: half holds infinite values; less holds infinite values; none holds NaN"
        )
    with pytest.raises(WeightsError) as caught:
        read(path, infinite=("half", "less", "none"))
    assert str(caught.value) == f"{path}: none holds NaN"


def test_bytes_that_are_no_booleans_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"mask": torch.tensor([True, False])}, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(WeightsError, match="mask holds other bytes than 0 and 1"):
        read(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(WeightsError, match=r"no file|\.safetensors files only"):
            TensorFile(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        TensorFile(tmp_path / "none.safetensors")


def forged(change: Callable[[Header], Any], extra: bytes = b"") -> bytes:
    """Give a file whose header was changed."""
    header: Header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [8, 16]},
    }
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16) + extra


def with_b(**fields: Any) -> bytes:
    return forged(lambda header: header["b"].update(fields))


def raw(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it does not begin as one does"),
        (bytes(8), "it does not begin as one does"),
        (b"\x80\x04\x95" + bytes(5) + b"cos", "it begins as a pickle does, and pickles are never"),
        (b"PK\x03\x04" + b"x" * 90, "it begins as a pickle does, and pickles are never read"),
        (b"\x80\x02}q\x00(X" + b"x" * 90, "it begins as a pickle does, and pickles are never read"),
        (b"\xff" * 20, "its header claims 18,446,744,073,709,551,615 bytes; at most 8,000,000"),
        ((900).to_bytes(8, "little") + b"{}", "its header claims 900 bytes, and the file has 10"),
        (raw(b"[]"), "it does not begin as one does"),
        (raw(b"{" * 5000), "its header is no JSON"),
        (raw(b'{"a":' + b"[" * 100_000), "its header is no JSON"),
        (raw(b'{"a": \xff}'), "its header is no JSON"),
        (raw(b'{"a": {}, "a": {}}'), "its header has 'a' twice"),
        (raw(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), "its header has 'dtype' twice"),
        (raw(b'{"__metadata__": {"a": 1}}'), "its __metadata__ is no mapping from text to text"),
        (raw(b'{"a": 3}'), "'a' needs dtype, shape and data_offsets, and nothing else"),
        (with_b(more=1), "'b' needs dtype, shape and data_offsets, and nothing else"),
        (with_b(dtype="F8_E4M3"), "'b' is of type 'F8_E4M3'; known are BOOL, U8, "),
        (with_b(dtype=["F32"]), "'b' is of type ['F32']; known are "),
        (with_b(shape=[-1, -2]), "'b' has shape [-1, -2] and data_offsets [8, 16]"),
        (with_b(shape=[True, 2]), "'b' has shape [True, 2]"),
        (with_b(shape=[1 << 62, 1 << 62]), "'b' of F32 [4611686018427387904, "),
        (with_b(shape=[3]), "'b' of F32 [3] needs 12 bytes, not 8"),
        (with_b(data_offsets=[8]), "'b' has shape [1, 2] and data_offsets [8]"),
        (with_b(data_offsets=[16, 8]), "'b' of F32 [1, 2] needs 8 bytes, not -8"),
        (with_b(data_offsets=[4, 12]), "its tensors overlap before 'b'"),
        (with_b(data_offsets=[12, 20]), "its tensors leave a gap before 'b'"),
        (forged(lambda header: header.pop("b")), "its tensors end at byte "),
        (forged(lambda header: None, b"more"), "its tensors end at byte "),
    ],
)
def test_every_rule_of_the_format_is_kept(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        TensorFile(path)
    assert str(caught.value).startswith(f"{path}: this is no readable safetensors file: {message}")


def test_a_header_of_any_legal_length_is_read(tmp_path: Path) -> None:
    """Lengths whose first bytes are those of a pickle too."""
    for length in (0x0280, 0x4B50):
        entry = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
        path = tmp_path / "padded.safetensors"
        path.write_bytes(raw(entry.ljust(length)) + b"\x05")
        assert read(path)["a"].tolist() == [5]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_file_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(save({"a": torch.arange(6.0), "b": torch.ones(2, 2)}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 140))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    content = content[:cut] if data.draw(st.booleans()) else content
    try:
        length = header_length(bytes(content[:8]), len(content), "it")
        slots = read_header(bytes(content[8 : 8 + length]), len(content), "it")
    except WeightsError:
        return
    assert sum(slot.size for slot in slots) == len(content) - 8 - length
