"""A Hugging Face Hub on this machine, for tests of downloads and pushes over real HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import TracebackType
from typing import Self

from zoo_core.testing.faults import Fault, Request, Rule, Rules
from zoo_core.testing.hub_api import HubApi
from zoo_core.testing.hub_server import HubServer
from zoo_core.testing.hub_store import Blob, Commit, Repository, is_large


class LoopbackHub:
    """Serves and takes model repositories as the Hub does, and fails as it is told to.

    Clients reach it if their ``HF_ENDPOINT`` is :attr:`endpoint`, and push to it if
    ``HF_HUB_DISABLE_XET`` is set too. The client reads both when it is imported: set them for a
    child process, or use the fixture ``loopback_hub``, which sets them for both.

    Attributes:
        log: Each request so far, with its headers.

    Example:
        >>> with LoopbackHub() as hub:
        ...     commit = hub.add("me/net", {"model.safetensors": Path("net.safetensors")})
        ...     cut = hub.fault(Cut(after=1000), path="*/model.safetensors", times=1)
    """

    def __init__(self) -> None:
        self.log: list[Request] = []
        self._rules = Rules()
        self._server = HubServer(self._rules, self.log)
        self._api = HubApi(self.endpoint)
        self._server.answer = self._api.answer
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The address to set ``HF_ENDPOINT`` to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each request so far."""
        return [(request.method, request.path) for request in self.log]

    def add(
        self, repository: str, files: Mapping[str, Path | bytes], *, revision: str = "main"
    ) -> str:
        """Serve files as a repository, and give the commit.

        To move a branch, add again: the new commit has just these files, and the older ones can
        still be had by their ids. The id depends on the names and contents of the files alone.

        Args:
            repository: Owner and name.
            files: The content of each file; a file on the disk is read as it is served, and must
                stay as it is.
            revision: The branch.
        """
        blobs = {}
        for name, source in files.items():
            blob = Blob(source)
            blobs[name] = Blob(source, large=is_large(name, blob.size))
        commit = Commit(blobs)
        self._api.add(repository, commit, revision)
        return commit.id

    def commits(self, repository: str) -> list[Commit]:
        """Give all commits of a repository, the oldest first, those of all branches together.

        Raises:
            ValueError: If there is no such repository.
        """
        return list(self._find(repository).history)

    def gate(self, repository: str, token: str | None = None) -> None:
        """Give a repository's files only to those who send a token, or to nobody.

        Others are refused with 403, of which the client makes a ``GatedRepoError``.

        Raises:
            ValueError: If there is no such repository.
        """
        found = self._find(repository)
        found.gated, found.gate_token = True, token

    def make_private(self, repository: str, token: str | None = None) -> None:
        """Hide a repository from all but those who send a token, or from everybody.

        Others are refused with 401, of which the client makes a ``RepositoryNotFoundError``.

        Raises:
            ValueError: If there is no such repository.
        """
        found = self._find(repository)
        found.private, found.private_token = True, token

    def fault(
        self, fault: Fault, *, method: str | None = None, path: str = "*", times: int | None = None
    ) -> Rule:
        """Have something go wrong from now on.

        Of the faults that a request matches, the first one applies, and all :class:`Header` ones
        beside it. A fault that cannot show in an answer leaves it alone, and is not used up by
        it: a cut needs content, so the ``HEAD`` before a download does not count. Neither does
        the client's question for ``/api/agent-harnesses``.

        Args:
            fault: What goes wrong.
            method: ``HEAD``, ``GET``, ``POST`` or ``PUT``; all of them by default.
            path: A pattern of paths such as ``*/model.safetensors``, where ``*`` matches ``/``
                too. Large files are uploaded to ``/lfs-storage/*``.
            times: How often it applies; always by default.

        Returns:
            The rule, whose ``hits`` tell how often it has applied.
        """
        rule = Rule(fault, method, path, times)
        self._rules.rules.append(rule)
        return rule

    def heal(self) -> None:
        """Have nothing go wrong from now on."""
        self._rules.rules.clear()

    def __enter__(self) -> Self:
        self._uploads = TemporaryDirectory(prefix="loopback-hub-")
        self._api.folder = Path(self._uploads.name)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self._thread.join()
        self._uploads.cleanup()

    def _find(self, repository: str) -> Repository:
        found = self._api.repositories.get(repository)
        if found is None:
            raise ValueError(f"the hub has no repository {repository}")
        return found
