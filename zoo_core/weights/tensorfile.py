"""Reading safetensors files: the header first, then the tensors, hashed as they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from io import FileIO
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo_core.errors import DamagedFileError, WeightsError
from zoo_core.store import proofs
from zoo_core.store.header import Slot, header_length, read_header

DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
INFINITE: Final = "infinite values"
_PART: Final = 16 << 20  # bytes that are read at a time, unless one tensor is larger
_FIRST: Final = 1 << 20  # bytes of the first time, so that hashing need not wait for long
_ALIGNMENT: Final = 64  # bytes
_SMALL: Final = 4096  # bytes, few enough to be copied to where they are aligned
_EXPONENTS: Final = {"F16": 0x7C00, "BF16": 0x7F80}  # all set: not finite
_FLOATS: Final = {"F32": np.float32, "F64": np.float64}

Bytes = npt.NDArray[np.uint8]
_CHANGES: Final = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class TensorFile:
    """An open safetensors file whose header has been read and checked.

    A file whose hash is known is read in the background from now on, and hashed where that has to
    be proved. Of any other, nothing but the header is read before :meth:`begin`.

    Args:
        path: A ``.safetensors`` file, or one of any name whose hash is known.
        sha256: The hash that it must have, compared when tensors are read; ``None`` for any.

    Attributes:
        slots: The tensors by name, in the order in which they stand in the file.

    Raises:
        DamagedFileError: If it should have a hash, and breaks a rule of the format.
        WeightsError: If there is no such file, or it breaks a rule of the format.
    """

    def __init__(self, path: str | os.PathLike[str], sha256: str | None = None) -> None:
        self.path = Path(path)
        self.sha256 = sha256
        if sha256 is None and self.path.suffix != ".safetensors":
            raise WeightsError(f"{self.path}: weights are read from .safetensors files only")
        self._file = self._opened()
        self._reading: Reading | None = None
        try:
            self.status = os.fstat(self._file.fileno())
            self.head, self.slots = self._read_head()
        except WeightsError as error:
            self._file.close()
            if sha256 is not None:
                raise DamagedFileError(str(error)) from error
            raise
        self.proven = sha256 is not None and proofs.is_proven(sha256, self.status)
        if sha256 is not None:
            self._reading = Reading(self, self.slots.values())

    def _opened(self) -> FileIO:
        try:
            # What is no file, a pipe for one, might never end.
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise WeightsError(f"{self.path}: this is no readable safetensors file: no file")
            return self.path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise WeightsError(f"{self.path}: there is no such file") from error
        except OSError as error:
            raise WeightsError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _read_head(self) -> tuple[bytes, dict[str, Slot]]:
        total = self.status.st_size
        first = self._file.read(8)
        text = self._file.read(header_length(first, total, str(self.path)))
        slots = read_header(text, total, str(self.path))
        return first + text, {slot.name: slot for slot in slots}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reading is not None:
            self._reading.stop()
        self._file.close()

    @cached_property
    def told(self) -> dict[str, Tensor]:
        """The tensors without their values."""
        return {
            slot.name: torch.empty(slot.shape, dtype=DTYPES[slot.dtype], device="meta")
            for slot in self.slots.values()
        }

    def begin(
        self, wanted: Collection[str], infinite: Collection[str] = (), *, afresh: bool = False
    ) -> Reading:
        """Begin to read tensors in the background, where that has not begun already.

        Args:
            wanted: Their names.
            infinite: Names of those that may hold infinities; NaN is never let through.
            afresh: Prove the hash again even if the file is unchanged since.
        """
        if self._reading is not None and self.proven and afresh:
            self._reading.stop()
            self._reading, self.proven = None, False
        if self._reading is None:
            known = self.sha256 is not None
            slots = [slot for slot in self.slots.values() if known or slot.name in wanted]
            self._reading = Reading(self, slots)
        self._reading.wanted = wanted
        self._reading.infinite = infinite
        return self._reading

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the bytes from ``start`` on; threads may do so at once.

        Raises:
            DamagedFileError: If the file ends before.
        """
        done = 0
        while done < len(buffer):
            count = os.preadv(self._file.fileno(), [buffer[done:]], start + done)
            if count == 0:
                raise DamagedFileError(f"{self.path}: it ends early, at byte {start + done:,}")
            done += count

    def check_unchanged(self) -> None:
        """Check that nobody wrote to the file since it was opened.

        Raises:
            DamagedFileError: If somebody did.
        """
        now = os.fstat(self._file.fileno())
        if any(getattr(now, key) != getattr(self.status, key) for key in _CHANGES):
            raise DamagedFileError(f"{self.path}: it was changed while it was read")


class Reading:
    """Tensors on their way into memory of their own.

    Two threads read them, many at a time, since whoever builds a model meanwhile keeps Python's
    lock long. Where a hash has to be proved, another thread hashes the very bytes that were read.

    Args:
        file: What is read.
        slots: The tensors to read; all of them where the hash is known.

    Attributes:
        wanted: Names of the tensors to give.
        infinite: Names of those that may hold infinities.
    """

    def __init__(self, file: TensorFile, slots: Iterable[Slot]) -> None:
        self.wanted: Collection[str] = ()
        self.infinite: Collection[str] = ()
        self._file = file
        proves = file.sha256 is not None and not file.proven
        self._parts = [_Part(group) for group in _groups(slots)]
        self._readers = ThreadPoolExecutor(2, "zoo-read")
        self._jobs = [
            self._readers.submit(file.read_into, part.bytes.data, part.start)
            for part in self._parts
        ]
        self._hasher = ThreadPoolExecutor(1, "zoo-hash")
        self._hash = self._hasher.submit(self._hashed) if proves else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the reading, finished or not."""
        self._readers.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def result(self) -> dict[str, Tensor]:
        """Wait for the tensors that are wanted, by name, and prove them.

        Raises:
            DamagedFileError: If the file has another hash, or was changed meanwhile.
            WeightsError: If a tensor holds what it must not.
        """
        tensors = self.arrived()
        self.prove()
        return tensors

    def arrived(self) -> dict[str, Tensor]:
        """Wait for the tensors that are wanted, by name; :meth:`prove` says if they may be used.

        Raises:
            DamagedFileError: If the file ends early.
        """
        for job, part in zip(self._jobs, self._parts, strict=True):
            job.result()
            if not self._file.proven:
                part.check()
        return {
            slot.name: part.tensor(slot)
            for part in self._parts
            for slot in part.slots
            if slot.name in self.wanted
        }

    def prove(self) -> None:
        """Wait for the hash, and check that what has arrived is what it must be.

        Raises:
            DamagedFileError: If the file has another hash, or was changed meanwhile.
            WeightsError: If a tensor holds what it must not.
        """
        if self._hash is not None and self._hash.result() != self._file.sha256:
            raise DamagedFileError(
                f"{self._file.path}: its sha256 is {self._hash.result()} instead of "
                f"{self._file.sha256}"
            )
        self._file.check_unchanged()
        wrong = {name: what for part in self._parts for name, what in part.wrong.items()}
        self._check_values(wrong)
        if self._file.sha256 is not None and not wrong:
            proofs.remember(self._file.sha256, self._file.status)

    def _check_values(self, wrong: dict[str, str]) -> None:
        problems = [
            f"{name} holds {what}"
            for name, what in sorted(wrong.items())
            if name in self.wanted and not (what == INFINITE and name in self.infinite)
        ]
        if problems:
            more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
            raise WeightsError(f"{self._file.path}: {'; '.join(problems[:4])}{more}")

    def _hashed(self) -> str:
        digest = hashlib.sha256(self._file.head)
        for job, part in zip(self._jobs, self._parts, strict=True):
            job.result()
            digest.update(part.bytes.data)
        return digest.hexdigest()


class _Part:
    """Tensors that stand next to each other in a file, and their bytes.

    Args:
        slots: The tensors.
    """

    def __init__(self, slots: list[Slot]) -> None:
        self.slots = slots
        self.start = slots[0].start
        size = slots[-1].start + slots[-1].size - self.start
        # Torch's memory begins at multiples of 64 bytes, as its kernels like it.
        self.bytes = torch.empty(size, dtype=torch.uint8, device="cpu").numpy()
        self.wrong: dict[str, str] = {}

    def tensor(self, slot: Slot) -> Tensor:
        """Give one tensor, with a storage of its own; the memory stays while any of them is."""
        dtype = DTYPES[slot.dtype]
        if not slot.size:
            return torch.empty(slot.shape, dtype=dtype, device="cpu")
        offset = slot.start - self.start
        count = slot.size // dtype.itemsize
        flat = torch.frombuffer(self.bytes, dtype=dtype, offset=offset, count=count)
        # Elsewhere kernels take other ways, and give other last digits.
        return (flat.clone() if offset % _ALIGNMENT else flat).reshape(slot.shape)

    def check(self) -> None:
        """Look for values that must not be: in all tensors of a type at once, for they are fine."""
        for name, same in groupby(self.slots, key=lambda slot: slot.dtype):
            slots = list(same)
            begin, end = slots[0].start - self.start, slots[-1].start + slots[-1].size - self.start
            if end > begin and not _is_fine(self.bytes[begin:end], name):
                for slot in slots:
                    what = _what_is_wrong(self.tensor(slot))
                    if what:
                        self.wrong[slot.name] = what


def _groups(slots: Iterable[Slot]) -> Iterator[list[Slot]]:
    """Divide tensors, in the file's order, into groups to be read at once."""
    group: list[Slot] = []
    limit = _FIRST
    for slot in slots:
        if group and not _may_follow(group, slot, limit):
            yield group
            group = []
            limit = min(4 * limit, _PART)
        group.append(slot)
    if group:
        yield group


def _may_follow(group: list[Slot], slot: Slot, limit: int) -> bool:
    offset = slot.start - group[0].start
    aligned = _ALIGNMENT if slot.size > _SMALL else DTYPES[slot.dtype].itemsize
    is_next = group[-1].start + group[-1].size == slot.start
    return is_next and offset % aligned == 0 and offset + slot.size <= limit


def _is_fine(data: Bytes, dtype: str) -> bool:
    """Tell whether there is no value that a tensor of this type must not hold."""
    if dtype == "BOOL":
        return bool(data.max() <= 1)
    if dtype in _EXPONENTS:
        exponent = _EXPONENTS[dtype]
        blocks = np.array_split(data.view(np.uint16), 1 + data.size // _PART)
        return all(int((block & exponent).max()) < exponent for block in blocks)
    if dtype not in _FLOATS:
        return True
    # By numpy, whose reductions stay in their thread: torch's start others, which take the cores
    # from the thread that hashes.
    values = data.view(_FLOATS[dtype])
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _what_is_wrong(tensor: Tensor) -> str:
    """Name the values that a tensor must not hold."""
    if tensor.dtype == torch.bool:
        return "other bytes than 0 and 1" if (tensor.view(torch.uint8) > 1).any() else ""
    if tensor.isfinite().all():
        return ""
    return "NaN" if tensor.isnan().any() else INFINITE
