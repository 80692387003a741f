"""Pushing saved models to the Hub, through huggingface-hub's own calls."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session, get_token
from huggingface_hub import errors as hub_errors
from huggingface_hub import utils as hub_utils

from zoo_core.errors import SavedModelError, UsageError, ZooError
from zoo_core.manifest import RULES
from zoo_core.saved.saving import CARD, FILES, saved_files
from zoo_core.store.hub import is_private

if TYPE_CHECKING:
    from zoo_core.models.multitask import MultitaskModel

MESSAGE: Final = "Push a model of zoo-core"
_SILENCE: Final = 120.0  # seconds without an answer before giving up
_LOADED_BY_NAME: Final = re.compile(r'(MultitaskModel\.from_pretrained\()"[^"/\\]*"\)')


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was pushed, and where it can be seen.

    Attributes:
        repository: Owner and name.
        url: The page of the repository, or of the branch.
        commit: The commit.
        files: What was pushed.
        left_out: What else is in the folder.
    """

    repository: str
    url: str
    commit: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def check_repository(name: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UsageError: If it is none.
    """
    problem = RULES["repository"](name)
    if problem:
        raise UsageError(problem)


def push_model(
    model: MultitaskModel,
    push: Callable[..., str],
    repository: str,
    options: Mapping[str, Any],
) -> str:
    """Push a model by the Hub client's own means.

    Args:
        model: The model.
        push: The mixin's ``push_to_hub``.
        repository: ``owner/name``, or a name of one's own.
        options: Those of ``push``.

    Raises:
        SavedModelError: If the model cannot be saved, or the Hub does not take it.
    """
    from zoo_core.saved.card import card_options
    from zoo_core.saved.saving import check_savable

    check_savable(model)
    branch = options.get("branch")
    with _talking(repository, options.get("token")) as api:
        if "/" not in repository:
            repository = f"{api.whoami()['name']}/{repository}"
        check_repository(repository)
        card = card_options(options.get("model_card_kwargs"), repository)
        if branch is not None and not options.get("create_pr"):
            api.create_repo(repository, private=options.get("private"), exist_ok=True)
            api.create_branch(repository, branch=branch, exist_ok=True)
        given = {**options, "model_card_kwargs": {**card, "repo_id": repository}}
        return push(repo_id=repository, **given)


def push_folder(
    folder: Path,
    repository: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    message: str = MESSAGE,
) -> Pushed:
    """Push the files of a saved model as they are.

    In the card, a snippet that loads the folder by its name is made to load the repository.
    The model must have been loaded before, so that nothing is pushed that cannot be.

    Args:
        folder: The folder.
        repository: ``owner/name``; made if there is none.
        private: Whether a new repository is private; by default as the owner has it.
        branch: The branch, begun at ``main`` if there is none; ``main`` by default.
        message: The commit's message.

    Raises:
        SavedModelError: If the Hub does not take it.
    """
    check_repository(repository)
    present = saved_files(folder)
    additions = [_addition(file, repository) for file in present.values()]
    with _talking(repository, None) as api:
        api.create_repo(repository, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        commit = api.create_commit(repository, additions, commit_message=message, revision=branch)
    url = f"{api.endpoint}/{repository}"
    return Pushed(
        repository=repository,
        url=url if branch is None else f"{url}/tree/{branch}",
        commit=commit.oid,
        files=tuple(present),
        left_out=tuple(sorted(path.name for path in folder.iterdir() if path.name not in FILES)),
    )


def _addition(file: Path, repository: str) -> CommitOperationAdd:
    content: str | bytes = str(file)
    if file.name == CARD:
        try:
            text = file.read_bytes().decode()
        except ValueError as error:
            raise SavedModelError(f"{file}: is no text in UTF-8: {error}") from error
        content = _LOADED_BY_NAME.sub(rf"\g<1>{json.dumps(repository)})", text).encode()
    return CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=content)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, the Hub's client shows no progress bars unless on a terminal."""
    bars: Any = hub_utils
    if sys.stderr.isatty() or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


@contextmanager
def _talking(repository: str, token: str | bool | None) -> Iterator[HfApi]:
    """Give the Hub's client, and turn what goes wrong into one of our errors."""
    api = HfApi(token=token)
    _check_connection(api, token)
    session = get_session()
    before = session.timeout
    session.timeout = _SILENCE  # the client itself would wait for ever
    try:
        yield api
    except ZooError:
        raise
    except hub_errors.HfHubHTTPError as error:
        raise SavedModelError(f"{repository}: {_refusal(api.endpoint, error)}") from error
    except (hub_errors.HTTPError, OSError, ValueError, RuntimeError) as error:  # type: ignore[attr-defined]
        text = " ".join(str(error).split()) or type(error).__name__
        raise SavedModelError(f"{repository} cannot be pushed to {api.endpoint}: {text}") from error
    finally:
        session.timeout = before


def _check_connection(api: HfApi, token: str | bool | None) -> None:
    if constants.HF_HUB_OFFLINE:
        raise SavedModelError("HF_HUB_OFFLINE is set, so nothing can be pushed")
    if not isinstance(token, str) and (token is False or get_token() is None):
        raise SavedModelError("you are not logged in to the Hub; 'hf auth login' does that")
    if not is_private(api.endpoint):
        raise SavedModelError(
            f"{api.endpoint} would get your token over an open connection; HF_ENDPOINT must be "
            f"https"
        )


def _refusal(endpoint: str, error: hub_errors.HfHubHTTPError) -> str:
    status = error.response.status_code
    told = " ".join((error.server_message or "").split())
    answer = f"{endpoint} answers {status}" + (f" ({told})" if told else "")
    if status == 401:
        return f"{answer}: your token is not accepted; 'hf auth login' sets another"
    if status == 403:
        return f"{answer}: your token may not write there; 'hf auth login' sets another"
    if status == 404:
        return f"{answer}: there is no such repository or branch"
    if status == 429 or status >= 500:
        return f"{answer}: the Hub cannot take it now; try again later"
    return answer
