"""The Hugging Face cache: where files of the Hub lie on this machine.

A repository has a folder ``models--owner--name`` with ``blobs/<hash>``, the files by their hash;
``snapshots/<commit>/<name>``, links to them; and ``refs/<branch>``, the commit of a branch. Other
programs that use the Hub see the same files.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Repository:
    """The folder of one repository of models in the cache.

    Args:
        name: ``owner/name``, checked already.
        cache: The cache's folder; by default the one that ``HF_HUB_CACHE`` or ``HF_HOME`` names.
    """

    def __init__(self, name: str, cache: str | os.PathLike[str] | None = None) -> None:
        from huggingface_hub import constants

        self.name = name
        self.cache = Path(cache or constants.HF_HUB_CACHE)
        folder = "--".join(("models", *name.split("/")))
        self.folder = self.cache / folder
        self.blobs = self.folder / "blobs"
        self._locks = self.cache / ".locks" / folder

    def find(self, filename: str, sha256: str, commit: str | None = None) -> Path | None:
        """Give the file that may have this hash, ``None`` if there is none; nothing is hashed.

        That is the blob of this name. A small file's blob has its git hash for a name, and where
        links cannot be made, the files themselves stand in the snapshots.
        """
        if self.blob(sha256).is_file():
            return self.blob(sha256)
        placed = self.snapshot(commit, filename) if commit else None
        if placed is None or not placed.is_file():
            return None
        another = placed.is_symlink() and SHA256.fullmatch(placed.readlink().name)
        return None if another else placed

    def newest(self, branch: str) -> str | None:
        """Give the commit of a branch as it was when it was last asked for."""
        try:
            commit = (self.folder / "refs" / branch).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def announced(self, filename: str, commit: str) -> str | None:
        """Give the sha256 that the Hub announced of a file that is cached: its blob's name."""
        with suppress(OSError):
            blob = self.snapshot(commit, filename).readlink().name
            if SHA256.fullmatch(blob) and self.blob(blob).is_file():
                return blob
        return None

    def blob(self, sha256: str) -> Path:
        """Give the place of a file by its hash."""
        return self.blobs / sha256

    def snapshot(self, commit: str, filename: str) -> Path:
        """Give the place of a file by its commit and name."""
        return self.folder / "snapshots" / commit / filename

    def partial(self, sha256: str) -> Path:
        """Give the place of an unfinished download."""
        return self.blobs / f"{sha256}.incomplete"

    def link(self, sha256: str, commit: str, filename: str, branch: str | None = None) -> None:
        """Make a blob known by its commit and name, and as the newest of a branch."""
        placed = self.snapshot(commit, filename)
        placed.parent.mkdir(parents=True, exist_ok=True)
        placed.unlink(missing_ok=True)
        try:
            placed.symlink_to(os.path.relpath(self.blob(sha256), placed.parent))
        except OSError:  # a system without links
            shutil.copyfile(self.blob(sha256), placed)
        if branch is not None:
            self.point(branch, commit)

    def point(self, branch: str, commit: str) -> None:
        """Note the commit of a branch."""
        ref = self.folder / "refs" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="ascii")

    def discard(self, file: Path) -> None:
        """Delete a file of the cache, and the links that lead to it."""
        real = file.resolve()
        for link in (self.folder / "snapshots").glob("**/*"):
            if link.is_symlink() and link.resolve() == real:
                link.unlink()
        if file.is_symlink():
            file.unlink()
        if real.is_relative_to(self.folder.resolve()):
            real.unlink(missing_ok=True)

    @contextmanager
    def locked(self, sha256: str, timeout: float = -1) -> Iterator[None]:
        """Keep other processes, the Hub's own client too, from downloading the same file.

        Args:
            sha256: The file's hash.
            timeout: Seconds to wait for one that is at it; negative for ever.

        Raises:
            filelock.Timeout: If that was not enough.
        """
        from filelock import FileLock

        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"{sha256}.lock", timeout=timeout):
            yield
