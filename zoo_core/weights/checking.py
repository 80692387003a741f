"""Reading whole files of weights to see whether they are what they should be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from zoo_core.errors import DamagedFileError, WeightsError
from zoo_core.manifest import WeightsEntry
from zoo_core.store import WeightsFile, proofs
from zoo_core.weights.tensorfile import TensorFile


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file.

    Attributes:
        problem: In words; empty if nothing is.
        damaged: Whether the file differs from the one that was published, so that fetching it
            again helps.
    """

    problem: str = ""
    damaged: bool = False


def check(entry: WeightsEntry, file: WeightsFile) -> Finding:
    """Compare a file's size and hash, read its header, and look for values that are not finite.

    Earlier proofs are not trusted; that of a damaged file is dropped, so that loading finds the
    damage too. Nothing else is changed.
    """
    try:
        with (
            TensorFile(file.path, file.sha256) as opened,
            opened.begin(opened.slots, afresh=True) as reading,
        ):
            reading.result()
            if entry.size not in (None, opened.status.st_size):
                return Finding(
                    f"{file.path}: it has {opened.status.st_size:,} bytes, and {entry.origin} says "
                    f"{entry.size:,}"
                )
    except DamagedFileError as error:
        with suppress(OSError):
            proofs.forget(file.sha256, file.path.stat())
        return Finding(str(error), damaged=True)
    except WeightsError as error:
        return Finding(str(error))
    return Finding()
