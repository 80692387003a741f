"""What a loopback hub keeps: the contents of files, commits and repositories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

PIECE: Final = 2**16
LARGE_SIZE: Final = 10 * 2**20
LARGE_SUFFIXES: Final = (
    ".bin", ".ckpt", ".gz", ".h5", ".keras", ".msgpack", ".npy", ".npz", ".onnx", ".parquet",
    ".pb", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".tar", ".tflite", ".zip",
)  # fmt: skip


@dataclass(frozen=True)
class Blob:
    """The content of a file, in memory or on the disk, where it must stay as it is.

    Attributes:
        source: The content, or the file that has it.
        large: Whether it lies in the storage of large files (LFS), as weights do.
    """

    source: Path | bytes
    large: bool = False

    @cached_property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def etag(self) -> str:
        """What the Hub knows the content by: its SHA-256 if it is large, else git's SHA-1."""
        if self.large:
            digest = hashlib.sha256()
        else:
            digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        for piece in self.read():
            digest.update(piece)
        return digest.hexdigest()

    @property
    def pointer(self) -> Blob:
        """What git keeps of the file: of a large one, a text that names it."""
        if not self.large:
            return self
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.etag}\n"
        return Blob(f"{text}size {self.size}\n".encode())

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Give a part of the content in pieces."""
        stop = self.size if stop is None else stop
        if isinstance(self.source, bytes):
            yield self.source[start:stop]
            return
        with self.source.open("rb") as stream:
            stream.seek(start)
            while piece := stream.read(min(PIECE, stop - stream.tell())):
                yield piece


def is_large(name: str, size: int) -> bool:
    """Whether the Hub puts a file into the storage of large files; it never does empty ones."""
    return size > LARGE_SIZE or (size > 0 and name.endswith(LARGE_SUFFIXES))


@dataclass(frozen=True)
class Commit:
    """The files of a repository at a time.

    Attributes:
        files: Their contents by name.
        title: The first line of the message.
    """

    files: Mapping[str, Blob]
    title: str = ""

    @cached_property
    def id(self) -> str:
        """40 hexadecimal digits that depend on the names and contents alone."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, blob in sorted(self.files.items()):
            digest.update(f"{name}\0{blob.etag}\n".encode())
        return digest.hexdigest()


@dataclass
class Repository:
    """A repository: its commits, its branches, and who may read it.

    Attributes:
        name: Owner and name.
        history: All commits, the oldest first; one may stand there again.
        branches: The commit of each branch.
        private: Whether it shows itself only to those with ``private_token``.
        gated: Whether it gives its files only to those with ``gate_token``.
    """

    name: str
    history: list[Commit] = field(default_factory=list)
    branches: dict[str, Commit] = field(default_factory=dict)
    private: bool = False
    private_token: str | None = None
    gated: bool = False
    gate_token: str | None = None

    def commit(self, commit: Commit, branch: str = "main") -> None:
        """Move a branch to a commit."""
        self.history.append(commit)
        self.branches[branch] = commit

    def at(self, revision: str) -> Commit | None:
        """Give the commit of a branch, or the one of this id."""
        known = {commit.id: commit for commit in self.history}
        return self.branches.get(revision) or known.get(revision)
