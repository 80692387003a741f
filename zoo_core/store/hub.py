"""Asking the Hub for a file: bounded in time, and never trusting what a server says.

The connection is the Hub client's own (proxies, certificates). What its downloads lack is here:
resuming, retries of broken answers, a limit on silence, and a check of the hash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from zoo_core._version import __version__
from zoo_core.errors import WeightsError
from zoo_core.store.cache import COMMIT, SHA256

PATIENCE: Final = 40.0  # seconds without progress before giving up
STEP: Final = 64 * 1024  # bytes that count as progress
_ANSWER: Final = 15.0  # seconds for one answer's head, and for one wait for more of its body
_LATER: Final = 0.25
"""Seconds by which the Hub client's patience is longer than ours, so that ours is told of."""
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
_REDIRECTS: Final = 5

_T = TypeVar("_T")


class TransientError(WeightsError):
    """An answer that another attempt may better: a server's failure or a cut connection."""


class UnreachableError(WeightsError):
    """The server gave no usable answer in time."""


class WrongSizeError(WeightsError):
    """The file has another size than the server announced."""


class Progress:
    """Tells how long ago something was gained, so that silence has a limit."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._lost = 0.0
        self._bytes = 0

    def gained(self, count: int) -> None:
        """Note bytes received; crumbs do not count before they add up."""
        self._bytes += count
        if self._bytes >= STEP:
            self._last = time.monotonic()
            self._bytes = 0

    def broke_off(self) -> None:
        """Note that an attempt failed: what the next one gains does not make good the wait."""
        now = time.monotonic()
        self._lost += now - self._last
        self._last = now

    @property
    def left(self) -> float:
        """Seconds of patience left."""
        return PATIENCE - self._lost - (time.monotonic() - self._last)


@dataclass(frozen=True)
class Remote:
    """What the Hub says of a file.

    Attributes:
        commit: The commit that the revision asked for stands for.
        sha256: The hash it announces; ``None`` for a small file that it keeps as a git blob.
        blob: That git blob's hash; ``None`` for a large file.
        size: Bytes.
    """

    commit: str
    sha256: str | None
    blob: str | None
    size: int


class Hub:
    """A Hub, at ``HF_ENDPOINT``.

    Args:
        token: Who asks; by default whom ``hf auth login`` or ``HF_TOKEN`` named, ``False`` nobody.
    """

    def __init__(self, token: str | bool | None = None) -> None:
        from huggingface_hub import constants, get_token

        self.endpoint = constants.ENDPOINT.rstrip("/")
        _check_endpoint(self.endpoint)
        self.offline = bool(constants.HF_HUB_OFFLINE)
        try:
            own = get_token() if token in (None, True) else token
        except OSError as error:
            raise WeightsError(
                f"HF_HOME is {constants.HF_HOME}, where no token can be looked for: "
                f"{error.strerror}"
            ) from error
        self._token = own if isinstance(own, str) else None

    def ask(
        self, repository: str, filename: str, revision: str, progress: Progress | None = None
    ) -> Remote:
        """Ask what a file is, without its contents.

        Raises:
            WeightsError: If there is no such file, the server gives no answer, or it announces
                something that cannot be.
        """
        url = self._url(repository, filename, revision)
        what = f"{filename} of {repository}"
        patience = progress or Progress()

        def attempt() -> Remote:
            with self._open("HEAD", url, {}, patience) as answer:
                self._check(answer, repository, filename, revision)
                return _remote(answer.headers, what)

        return self.persist(attempt, patience, what)

    def stream(
        self, repository: str, filename: str, remote: Remote, start: int, progress: Progress
    ) -> Iterator[tuple[int, bytes]]:
        """Give a file's bytes from ``start`` on, each block with its place, in one attempt.

        A server that does not know ranges sends the file from its beginning.

        Raises:
            TransientError: If the answer broke off.
            WeightsError: If the server refuses.
        """
        url = self._url(repository, filename, remote.commit)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._open("GET", url, headers, progress) as answer:
            if answer.status_code == 416:
                raise WrongSizeError(
                    f"{filename} of {repository}: the server announces {remote.size:,} bytes, and "
                    f"has none from byte {start:,} on; nothing of it was kept"
                )
            self._check(answer, repository, filename, remote.commit)
            place = _first_byte(answer, start, remote.size)
            for block in _blocks(answer, progress):
                yield place, block
                place += len(block)
                if place > remote.size:
                    raise WrongSizeError(
                        f"{filename} of {repository}: the server sends more than the "
                        f"{remote.size:,} bytes it announced"
                    )

    def persist(self, attempt: Callable[[], _T], progress: Progress, what: str) -> _T:
        """Repeat an attempt that fails by chance, a few times and while there is patience.

        Raises:
            UnreachableError: If none succeeds.
        """
        failure: Exception | None = None
        for pause in (*_PAUSES, 0.0):
            try:
                return attempt()
            except (TransientError, _transport_error()) as error:
                failure = error
                progress.broke_off()
            if progress.left <= pause:
                break
            time.sleep(pause)
        reason = " ".join(str(failure).split()) or type(failure).__name__
        raise UnreachableError(
            f"{what} is not in the cache, and {self.endpoint} cannot be reached ({reason}); a "
            f"local file can be given with --weights FILE (weights=…)"
        ) from failure

    def _url(self, repository: str, filename: str, revision: str) -> str:
        return f"{self.endpoint}/{repository}/resolve/{quote(revision, safe='')}/{quote(filename)}"

    @contextmanager
    def _open(
        self, method: str, url: str, headers: Mapping[str, str], progress: Progress
    ) -> Iterator[Any]:
        """Give the answer to a request, redirects followed without handing on the token."""
        from huggingface_hub import get_session

        for _ in range(_REDIRECTS):
            wait = max(1.0, min(_ANSWER, progress.left))
            context = get_session().stream(
                method,
                url,
                headers={**headers, **self._own_headers(url)},
                follow_redirects=False,
                timeout=wait + _LATER,
            )
            answer = _within(wait, context.__enter__)
            try:
                target = answer.headers.get("location")
                if not 300 <= answer.status_code < 400 or target is None:
                    yield answer
                    return
                if method == "HEAD" and answer.headers.get("x-linked-etag"):
                    yield answer  # the file itself lies elsewhere, and all is told of it here
                    return
                url = self._redirected(url, target)
            finally:
                context.__exit__(None, None, None)
        raise WeightsError(f"{self.endpoint} redirects in circles")

    def _own_headers(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": f"zoo-core/{__version__}", "Accept-Encoding": "identity"}
        if self._token and _origin(url) == _origin(self.endpoint) and is_private(url):
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _redirected(self, url: str, target: str) -> str:
        there = urljoin(url, target)
        scheme = urlsplit(there).scheme
        if scheme not in ("http", "https") or (url.startswith("https:") and scheme != "https"):
            raise WeightsError(f"{self.endpoint} redirects to {there!r}, which is not followed")
        return there

    def _check(self, answer: Any, repository: str, filename: str, revision: str) -> None:
        """Turn an answer that is no file into the error it stands for."""
        status, code = answer.status_code, answer.headers.get("x-error-code", "")
        what = f"{filename} of {repository}"
        if status in (200, 206) or 300 <= status < 400:
            return
        if status == 429 or status >= 500:
            raise TransientError(f"{what}: {self.endpoint} answers {status}")
        if code == "GatedRepo":
            raise WeightsError(
                f"{what} is gated at {self.endpoint}: access must be asked for on its page, and "
                f"'hf auth login' done"
            )
        if code == "RevisionNotFound":
            raise WeightsError(f"{repository} has no revision {revision}")
        if code == "EntryNotFound":
            raise WeightsError(f"{repository} has no file {filename}")
        if status in (401, 403) and _origin(str(answer.url)) != _origin(self.endpoint):
            host = urlsplit(str(answer.url)).netloc
            raise WeightsError(
                f"{what}: {self.endpoint} redirects to {host}, which answers {status}; the token "
                f"is sent to no other host"
            )
        if code == "RepoNotFound" or status in (401, 404):
            if self._token and not is_private(self.endpoint):
                raise WeightsError(
                    f"{self.endpoint} has no repository {repository}, or it is private: the token "
                    f"is not sent there, since http is not encrypted"
                )
            raise WeightsError(
                f"{self.endpoint} has no repository {repository}, or it is private: then "
                f"'hf auth login' is needed"
            )
        raise WeightsError(f"{what}: {self.endpoint} answers {status} {code}".rstrip())


def _transport_error() -> type[Exception]:
    """Give the base of the Hub client's transport's errors; it has moved between its versions."""
    from huggingface_hub import errors

    base: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return base


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Call something that may hang beyond its own timeouts, as with a head sent in crumbs."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TransientError(f"no answer within {seconds:.0f} s")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _blocks(answer: Any, progress: Progress) -> Iterator[bytes]:
    for block in answer.iter_raw():
        progress.gained(len(block))
        if progress.left <= 0:
            raise TransientError("the connection is too slow")
        yield block


def _first_byte(answer: Any, start: int, size: int) -> int:
    """Give where the answer's body begins in the file."""
    if answer.status_code != 206:
        return 0
    given = answer.headers.get("content-range", "")
    if given != f"bytes {start}-{size - 1}/{size}":
        raise TransientError(f"the server answers with range {given!r}")
    return start


def _remote(headers: Mapping[str, str], what: str) -> Remote:
    commit = headers.get("x-repo-commit", "")
    if not COMMIT.fullmatch(commit):
        raise WeightsError(f"{what}: the server names a commit {_short(commit)}, which is none")
    tag = headers.get("x-linked-etag") or headers.get("etag") or ""
    tag = tag.removeprefix("W/").strip('"')
    sha256 = tag if SHA256.fullmatch(tag) else None
    blob = tag if COMMIT.fullmatch(tag) else None
    if sha256 is None and blob is None:
        raise WeightsError(f"{what}: the server announces {_short(tag)} as its hash, which is none")
    size = headers.get("x-linked-size") or headers.get("content-length") or ""
    if not size.isdecimal() or len(size) > 15:
        raise WeightsError(f"{what}: the server announces {_short(size)} as its size")
    return Remote(commit, sha256, blob, int(size))


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise WeightsError(
            f"HF_ENDPOINT is {endpoint!r}, which is no address such as https://huggingface.co"
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def is_private(url: str) -> bool:
    """Tell whether nobody between here and there can read along."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("127.0.0.1", "::1", "localhost")
