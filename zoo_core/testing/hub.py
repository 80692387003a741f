"""A Hugging Face Hub on this machine, for tests of downloads over real HTTP."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit


class LoopbackHub:
    """Serves files as the Hub does, to clients whose ``HF_ENDPOINT`` is :attr:`endpoint`.

    The client reads ``HF_ENDPOINT`` when it is imported, so set it for a child process.

    Attributes:
        requests: Method and path of each request so far.

    Example:
        >>> with LoopbackHub() as hub:
        ...     commit = hub.add("me/net", {"model.safetensors": Path("net.safetensors")})
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._files: dict[str, dict[str, Path]] = {}
        self._commits: dict[str, str] = {}
        hub = self

        class Handler(_Handler):
            def answer(self) -> None:
                hub.requests.append((self.command, self.path))
                hub._answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """The address to set ``HF_ENDPOINT`` to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, repository: str, files: dict[str, Path]) -> str:
        """Serve files as a repository, and give its commit."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, path in sorted(files.items()):
            digest.update(name.encode() + path.read_bytes())
        self._files[repository] = dict(files)
        self._commits[repository] = digest.hexdigest()
        return self._commits[repository]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: _Handler) -> None:
        owner, name, verb, revision, filename = _split(handler.path)
        repository = f"{owner}/{name}"
        if verb != "resolve" or repository not in self._files:
            return handler.refuse(404, "RepoNotFound", f"no repository {repository}")
        commit = self._commits[repository]
        if revision not in ("main", commit):
            return handler.refuse(404, "RevisionNotFound", f"no revision {revision}")
        file = self._files[repository].get(filename)
        if file is None:
            return handler.refuse(404, "EntryNotFound", f"no file {filename}")
        return handler.give(file.read_bytes(), commit)


def _split(path: str) -> list[str]:
    """Give owner, repository, verb, revision and file of a path, empty where it has none."""
    parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/", 4)]
    return parts + [""] * (5 - len(parts))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        raise AssertionError("overridden by the hub")

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def give(self, body: bytes, commit: str) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start:])

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
