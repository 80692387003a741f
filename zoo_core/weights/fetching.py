"""Getting a file of weights onto this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zoo_core.catalogue import registry
from zoo_core.errors import WeightsError
from zoo_core.loader import CATCH, describe
from zoo_core.manifest import WeightsEntry


def fetch(entry: WeightsEntry) -> Path:
    """Give the local file of a weights entry, downloading it if it is not cached.

    Plugins' stores are asked first, then the Hugging Face Hub; ``HF_ENDPOINT``, ``HF_HOME`` and
    ``HF_HUB_OFFLINE`` are honoured. A file whose hash is pinned is checked against it.

    Raises:
        WeightsError: If the file cannot be had, or has another hash than the pinned one.
    """
    path = _from_plugins(entry) or _from_hub(entry)
    if entry.sha256 is not None:
        found = _sha256(path)
        if found != entry.sha256:
            raise WeightsError(
                f"{path}: sha256 is {found}, and {entry.name} is pinned to {entry.sha256}; "
                f"delete the file to fetch it again"
            )
    return path


def _from_plugins(entry: WeightsEntry) -> Path | None:
    for distribution, call in registry.loader.call("zoo_fetch_weights", entry=entry):
        try:
            path = call()
        except CATCH as error:
            raise WeightsError(
                f"plugin {distribution} cannot fetch {entry.name}: {describe(error)}"
            ) from error
        if path is not None:
            return Path(path)
    return None


def _from_hub(entry: WeightsEntry) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The client's own transport, whose name has changed between its versions.
    transport: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    what = f"{entry.filename} of {entry.repository}"
    try:
        return Path(hf_hub_download(entry.repository, entry.filename, revision=entry.revision))
    except GatedRepoError as error:
        reason = "access must be asked for on its page, and 'hf auth login' done"
        raise WeightsError(f"{what} is gated at {constants.ENDPOINT}: {reason}") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(f"{constants.ENDPOINT} has no repository {entry.repository}") from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{entry.repository} has no revision {entry.revision}") from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        else:
            reason = f"{constants.ENDPOINT} cannot be reached"
        raise WeightsError(
            f"{what} is not in the cache, and {reason}; a local file can be given with --weights "
            f"FILE (weights=…)"
        ) from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{entry.repository} has no file {entry.filename}") from error
    except (HfHubHTTPError, HFValidationError, transport, OSError) as error:
        text = " ".join(str(error).split())
        raise WeightsError(f"{what} cannot be fetched: {text}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
