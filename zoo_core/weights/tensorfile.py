"""Reading safetensors files: the header first, then the tensors, hashed as they are read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

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
_BLOCK: Final = 4 * 1024 * 1024
_CHANGES: Final = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class TensorFile:
    """An open safetensors file whose header has been read and checked.

    Args:
        path: A ``.safetensors`` file, or one of any name whose hash is known.
        sha256: The hash that it must have, compared when tensors are read; ``None`` for any.

    Attributes:
        slots: The tensors by name, in the order in which they stand in the file.

    Raises:
        WeightsError: If there is no such file, or it breaks a rule of the format.
    """

    def __init__(self, path: str | os.PathLike[str], sha256: str | None = None) -> None:
        self.path = Path(path)
        self.sha256 = sha256
        if sha256 is None and self.path.suffix != ".safetensors":
            raise WeightsError(f"{self.path}: weights are read from .safetensors files only")
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise WeightsError(f"{self.path}: this is no readable safetensors file: no file")
            self._file = self.path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise WeightsError(f"{self.path}: there is no such file") from error
        except OSError as error:
            raise WeightsError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            self.status = os.fstat(self._file.fileno())
            self.head, self.slots = self._read_head()
        except WeightsError as error:
            self._file.close()
            if sha256 is not None:
                raise DamagedFileError(str(error)) from error
            raise

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
        self._file.close()

    def begin(
        self, wanted: Collection[str], infinite: Collection[str] = (), *, afresh: bool = False
    ) -> Reading:
        """Begin to read tensors in the background.

        Args:
            wanted: Their names.
            infinite: Names of those that may hold infinities; NaN is never let through.
            afresh: Whether to compare the hash even if the file was proven before.
        """
        return Reading(self, wanted, infinite, afresh=afresh)

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

    A file with a hash to prove is read once, in order, by one thread, while another hashes the
    very bytes that were read; a file proven before is read by two threads at once.
    """

    def __init__(
        self,
        file: TensorFile,
        wanted: Collection[str],
        infinite: Collection[str],
        *,
        afresh: bool = False,
    ) -> None:
        self._file = file
        self._infinite = frozenset(infinite)
        self._proven = (
            not afresh
            and file.sha256 is not None
            and proofs.is_proven(file.sha256, file.status)
        )
        self._digest = (
            None if file.sha256 is None or self._proven else hashlib.sha256(file.head)
        )
        slots = list(file.slots.values())
        self._tensors = {
            slot.name: torch.empty(slot.shape, dtype=DTYPES[slot.dtype], device="cpu")
            for slot in slots
            if slot.name in wanted
        }
        self._hasher = ThreadPoolExecutor(1, "zoo-hash")
        self._readers = ThreadPoolExecutor(2 if self._digest is None else 1, "zoo-read")
        batches = _batches(slots if self._digest is not None else self._wanted(slots))
        self._jobs = [self._readers.submit(self._read, batch) for batch in batches]
        self._hashed: list[Future[None]] = []

    def _wanted(self, slots: list[Slot]) -> list[Slot]:
        return [slot for slot in slots if slot.name in self._tensors]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def result(self) -> dict[str, Tensor]:
        """Wait for the tensors, by name.

        Raises:
            DamagedFileError: If the file has another hash, or was changed meanwhile.
            WeightsError: If a tensor holds what it must not.
        """
        problems: list[str] = []
        for job in self._jobs:
            problems += job.result()
        if self._digest is not None:
            for part in self._hashed:
                part.result()
            found = self._digest.hexdigest()
            if found != self._file.sha256:
                raise DamagedFileError(
                    f"{self._file.path}: its sha256 is {found} instead of {self._file.sha256}"
                )
        self._file.check_unchanged()
        if problems:
            raise WeightsError(f"{self._file.path}: {'; '.join(sorted(problems))}")
        if self._file.sha256 is not None and not self._proven:
            proofs.remember(self._file.sha256, self._file.status)
        return self._tensors

    def _read(self, batch: list[Slot]) -> list[str]:
        """Read some tensors; give what is wrong with their values."""
        problems = []
        for slot in batch:
            for buffer, start in self._buffers(slot):
                self._file.read_into(buffer, start)
                if self._digest is not None:
                    self._hashed.append(self._hasher.submit(self._digest.update, buffer))
            tensor = self._tensors.get(slot.name)
            if tensor is not None and not self._proven:
                problems += _problem(slot, tensor, slot.name in self._infinite)
        return problems

    def _buffers(self, slot: Slot) -> Iterator[tuple[memoryview, int]]:
        """Give memory for a tensor's bytes; what is only hashed goes in blocks."""
        if not slot.size:
            return
        if slot.name in self._tensors:
            flat = self._tensors[slot.name].reshape(-1).view(torch.uint8)
            yield memoryview(flat.numpy()), slot.start
            return
        for start in range(slot.start, slot.start + slot.size, _BLOCK):
            length = min(_BLOCK, slot.start + slot.size - start)
            yield memoryview(bytearray(length)), start


def _batches(slots: list[Slot]) -> Iterator[list[Slot]]:
    """Group small tensors, so that threads are not woken for each."""
    batch: list[Slot] = []
    size = 0
    for slot in slots:
        batch.append(slot)
        size += slot.size
        if size >= _BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _problem(slot: Slot, tensor: Tensor, may_be_infinite: bool) -> list[str]:
    if not tensor.numel():
        return []
    if tensor.dtype == torch.bool:
        return [f"{slot.name} holds other bytes than 0 and 1"] if _odd(tensor) else []
    if not tensor.is_floating_point():
        return []
    low, high = tensor.aminmax()
    if low.isnan():
        return [f"{slot.name} holds NaN"]
    if not may_be_infinite and (low.isinf() or high.isinf()):
        return [f"{slot.name} holds infinite values"]
    return []


def _odd(tensor: Tensor) -> bool:
    return bool(tensor.view(torch.uint8).amax() > 1)
