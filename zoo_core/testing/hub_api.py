"""What a loopback hub answers: downloads, listings and pushes of model repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, unquote
from uuid import uuid4

from zoo_core.testing.faults import UNDISTURBED, Request
from zoo_core.testing.hub_store import Blob, Commit, Repository, is_large

USER: Final = "loopback"


@dataclass(frozen=True)
class Answer:
    """An answer that is about to be sent.

    Attributes:
        status: Its status code.
        headers: Its headers, with the length of what is sent.
        content: What it is a part, or the whole, of.
        start: Where the part starts.
        stop: Where it ends; ``None`` means at the end.
        flip: The byte of the content that goes out changed, if any does.
    """

    status: int
    headers: Mapping[str, str]
    content: Blob
    start: int = 0
    stop: int | None = None
    flip: int | None = None

    def pieces(self) -> Iterator[bytes]:
        """Give what is sent, piece by piece."""
        position = self.start
        for piece in self.content.read(self.start, self.stop):
            at = -1 if self.flip is None else self.flip - position
            position += len(piece)
            if 0 <= at < len(piece):
                yield piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
            else:
                yield piece


def give(content: Blob, headers: Mapping[str, str], status: int = 200) -> Answer:
    """Answer with content."""
    return Answer(status, {"Content-Length": str(content.size), **headers}, content)


def give_json(value: object, headers: Mapping[str, str] = {}, status: int = 200) -> Answer:
    """Answer with a JSON value."""
    content = Blob(json.dumps(value).encode())
    return give(content, {"Content-Type": "application/json", **headers}, status)


def refuse(status: int, code: str, message: str, headers: Mapping[str, str] = {}) -> Answer:
    """Answer with an error, of whose code the client makes its exceptions."""
    told = {"X-Error-Code": code, "X-Error-Message": " ".join(message.split())}
    return give_json(
        {"error": message}, {**headers, **{k: v for k, v in told.items() if v}}, status
    )


class RefusalError(Exception):
    """Raised where a request is not met, with what :func:`refuse` takes."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(message)
        self.answer = refuse(status, code, message, headers)


class HubApi:
    """Answers requests as the Hub does, from what it keeps.

    Attributes:
        endpoint: The address that its URLs start with.
        folder: Where uploaded large files go.
        repositories: What it has, by owner and name.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.folder = Path()
        self.repositories: dict[str, Repository] = {}
        self._large: dict[str, Blob] = {}
        self._lock = Lock()

    def add(self, name: str, commit: Commit, branch: str) -> None:
        """Move a branch of a repository, which need not be there, to a commit."""
        with self._lock:
            self._large |= {blob.etag: blob for blob in commit.files.values() if blob.large}
            self.repositories.setdefault(name, Repository(name)).commit(commit, branch)

    def answer(self, request: Request, body: Iterator[bytes]) -> Answer:
        """Meet a request, or refuse it."""
        try:
            for methods, pattern, route in _ROUTES:
                match = pattern.fullmatch(request.place)
                if match and request.method in methods:
                    given = {name: unquote(text) for name, text in match.groupdict("").items()}
                    return route(self, request, body, **given)
        except RefusalError as refused:
            return refused.answer
        except (KeyError, TypeError, ValueError) as error:
            return refuse(400, "", f"the request is malformed: {error!r}")
        return refuse(404, "", f"this hub knows no {request.method} {request.place}")

    def _find(self, name: str, request: Request) -> Repository:
        repository = self.repositories.get(name)
        if repository is None:
            raise RefusalError(404, "RepoNotFound", f"no repository {name}")
        if repository.private and not _admits(request, repository.private_token):
            raise RefusalError(401, "RepoNotFound", "Repository not found")
        return repository

    def _find_commit(self, name: str, revision: str, request: Request) -> Commit:
        commit = self._find(name, request).at(revision or "main")
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"no revision {revision}")
        return commit

    def _find_branch(self, name: str, revision: str, request: Request) -> Commit:
        commit = self._find(name, request).branches.get(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"no branch {revision}")
        return commit

    def _resolve(
        self, request: Request, _body: Iterator[bytes], repository: str, revision: str, file: str
    ) -> Answer:
        commit = self._find_commit(repository, revision, request)
        found = self.repositories[repository]
        if found.gated and not _admits(request, found.gate_token):
            raise RefusalError(403, "GatedRepo", f"Access to model {repository} is restricted")
        blob = commit.files.get(file)
        if blob is None:
            raise RefusalError(
                404, "EntryNotFound", f"no file {file}", {"X-Repo-Commit": commit.id}
            )
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.large:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(blob.size)}
        return give(blob, headers)

    def _tell_model(
        self, request: Request, _body: Iterator[bytes], repository: str, revision: str
    ) -> Answer:
        commit = self._find_commit(repository, revision, request)
        found = self.repositories[repository]
        detailed = "blobs" in _query(request)
        facts = {
            "id": repository,
            "modelId": repository,
            "author": repository.rpartition("/")[0] or None,
            "sha": commit.id,
            "private": found.private,
            "gated": "auto" if found.gated else False,
            "disabled": False,
            "tags": [],
            "siblings": [
                {"rfilename": name, **(_describe_sibling(blob) if detailed else {})}
                for name, blob in sorted(commit.files.items())
            ],
        }
        return give_json(facts)

    def _list(
        self, request: Request, _body: Iterator[bytes], repository: str, revision: str, file: str
    ) -> Answer:
        commit = self._find_commit(repository, revision, request)
        folder = f"{file.rstrip('/')}/" if file else ""
        below = [name for name in sorted(commit.files) if name.startswith(folder)]
        if folder and not below:
            raise RefusalError(404, "EntryNotFound", f"no folder {file}")
        deep = _query(request).get("recursive", "").lower() in ("true", "1")
        parents = {str(parent) for name in below for parent in PurePosixPath(name).parents}
        inner = sorted(parent for parent in parents - {"."} if parent.startswith(folder))
        entries = [_describe_folder(name) for name in inner]
        entries += [_describe_file(name, commit.files[name]) for name in below]
        return give_json([e for e in entries if deep or "/" not in e["path"][len(folder) :]])

    def _create(self, request: Request, body: Iterator[bytes]) -> Answer:
        wanted = _read_json(body)
        if (wanted.get("type") or "model") != "model":
            raise RefusalError(400, "", "this hub has model repositories only")
        private = wanted.get("visibility") == "private"
        if private and _token(request) is None:
            raise RefusalError(401, "", "Invalid username or password.")
        name = f"{wanted.get('organization') or USER}/{wanted.get('name')}"
        told = {"name": name, "url": f"{self.endpoint}/{name}"}
        with self._lock:
            if name in self.repositories:
                return give_json(
                    told | {"error": "You already created this model repo"}, status=409
                )
            token = _token(request) if private else None
            repository = Repository(name, private=private, private_token=token)
            repository.commit(Commit({}, "initial commit"))
            self.repositories[name] = repository
        return give_json(told)

    def _create_branch(
        self, request: Request, body: Iterator[bytes], repository: str, revision: str
    ) -> Answer:
        start = str(_read_json(body).get("startingPoint") or "main")
        commit = self._find_commit(repository, start, request)
        with self._lock:
            if revision in self.repositories[repository].branches:
                raise RefusalError(409, "", f"branch {revision} exists already")
            self.repositories[repository].branches[revision] = commit
        return give_json({})

    def _choose_modes(
        self, request: Request, body: Iterator[bytes], repository: str, revision: str
    ) -> Answer:
        here = self._find_branch(repository, revision, request).files
        return give_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                        "shouldIgnore": False,
                        "oid": here[file["path"]].etag if file["path"] in here else None,
                    }
                    for file in _read_json(body)["files"]
                ]
            }
        )

    def _offer_uploads(self, request: Request, body: Iterator[bytes], repository: str) -> Answer:
        self._find(repository, request)
        offers = []
        for wanted in _read_json(body)["objects"]:
            offer = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if wanted["oid"] not in self._large:
                place = f"{self.endpoint}/{repository}.git/info/lfs/verify"
                offer["actions"] = {
                    "upload": {"href": f"{self.endpoint}/lfs-storage/{wanted['oid']}"},
                    "verify": {"href": place},
                }
            offers.append(offer)
        return give_json({"transfer": "basic", "objects": offers})

    def _store(self, _request: Request, body: Iterator[bytes], oid: str) -> Answer:
        file = self.folder / uuid4().hex
        with file.open("wb") as stream:
            for piece in body:
                stream.write(piece)
        blob = Blob(file, large=True)
        if blob.etag != oid:
            file.unlink()
            raise RefusalError(400, "", f"the sha256 of what came is {blob.etag}, not {oid}")
        self._large[oid] = blob
        return give_json({})

    def _verify(self, request: Request, body: Iterator[bytes], repository: str) -> Answer:
        self._find(repository, request)
        wanted = _read_json(body)
        blob = self._large.get(wanted["oid"])
        if blob is None or blob.size != wanted["size"]:
            raise RefusalError(404, "", f"no content {wanted['oid']} of {wanted['size']} bytes")
        return give_json({})

    def _commit(
        self, request: Request, body: Iterator[bytes], repository: str, revision: str
    ) -> Answer:
        lines = [json.loads(line) for line in b"".join(body).splitlines()]
        with self._lock:
            head = self._find_branch(repository, revision, request)
            files, title = dict(head.files), ""
            for line in lines:
                if line["key"] == "header":
                    title = line["value"]["summary"]
                    if line["value"].get("parentCommit", head.id) != head.id:
                        raise RefusalError(412, "", "A commit has happened since. Please refresh")
                else:
                    self._change(files, line["key"], line["value"])
            found, commit = self.repositories[repository], Commit(files, title)
            told = {"success": True, "commitOid": commit.id}
            told["commitUrl"] = f"{self.endpoint}/{repository}/commit/{commit.id}"
            if "create_pr" in _query(request):
                number = 1 + sum(name.startswith("refs/pr/") for name in found.branches)
                told["pullRequestUrl"] = f"{self.endpoint}/{repository}/discussions/{number}"
                revision = f"refs/pr/{number}"
            found.commit(commit, revision)
        return give_json(told)

    def _change(self, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        """Make one of the changes of a commit."""
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in self._large:
                raise RefusalError(400, "", f"the content of {path} has not been uploaded")
            files[path] = self._large[value["oid"]]
        elif key in ("deletedFile", "deletedFolder"):
            folder = f"{path.rstrip('/')}/"
            gone = [n for n in files if n == path or (key.endswith("r") and n.startswith(folder))]
            if not gone:
                raise RefusalError(
                    404, "EntryNotFound", f"A file with this name doesn't exist: {path}"
                )
            for name in gone:
                del files[name]
        else:
            raise RefusalError(400, "", f"{key} is no change that this hub knows")

    def _check_card(self, _request: Request, _body: Iterator[bytes]) -> Answer:
        return give_json({"errors": [], "warnings": []})

    def _tell_user(self, request: Request, _body: Iterator[bytes]) -> Answer:
        if _token(request) is None:
            raise RefusalError(401, "", "Invalid username or password.")
        return give_json({"type": "user", "id": USER, "name": USER, "fullname": USER, "orgs": []})

    def _tell_harnesses(self, _request: Request, _body: Iterator[bytes]) -> Answer:
        return give_json({"standardEnvVars": [], "harnesses": {}})


_REPOSITORY = "(?P<repository>[^/]+(?:/[^/]+)?)"
_REVISION = "(?P<revision>[^/]+)"
_MODEL = f"/api/models/{_REPOSITORY}"
_LFS = rf"/{_REPOSITORY}\.git/info/lfs"
_Route = tuple[tuple[str, ...], re.Pattern[str], Callable[..., Answer]]
_ROUTES: Final[tuple[_Route, ...]] = tuple(
    (tuple(methods.split()), re.compile(pattern), route)
    for methods, pattern, route in (
        ("GET HEAD", rf"/{_REPOSITORY}/resolve/{_REVISION}/(?P<file>.+)", HubApi._resolve),
        ("GET", rf"{_MODEL}(?:/revision/{_REVISION})?", HubApi._tell_model),
        ("GET", rf"{_MODEL}/tree/{_REVISION}(?:/(?P<file>.+))?", HubApi._list),
        ("POST", rf"{_MODEL}/branch/{_REVISION}", HubApi._create_branch),
        ("POST", rf"{_MODEL}/preupload/{_REVISION}", HubApi._choose_modes),
        ("POST", rf"{_MODEL}/commit/{_REVISION}", HubApi._commit),
        ("POST", rf"{_LFS}/objects/batch", HubApi._offer_uploads),
        ("PUT", r"/lfs-storage/(?P<oid>[0-9a-f]{64})", HubApi._store),
        ("POST", rf"{_LFS}/verify", HubApi._verify),
        ("POST", r"/api/repos/create", HubApi._create),
        ("POST", r"/api/validate-yaml", HubApi._check_card),
        ("GET", r"/api/whoami-v2", HubApi._tell_user),
        ("GET", UNDISTURBED, HubApi._tell_harnesses),
    )
)


def _admits(request: Request, token: str | None) -> bool:
    return token is not None and _token(request) == token


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


def _query(request: Request) -> dict[str, str]:
    given = parse_qs(request.path.partition("?")[2])
    return {name: values[-1] for name, values in given.items()}


def _read_json(body: Iterator[bytes]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(b"".join(body) or b"{}")
    return value


def _describe_sibling(blob: Blob) -> dict[str, Any]:
    """Describe a file as among the facts of a model."""
    lfs = {"sha256": blob.etag, "size": blob.size, "pointerSize": blob.pointer.size}
    told = {"size": blob.size, "blobId": blob.pointer.etag}
    return told | ({"lfs": lfs} if blob.large else {})


def _describe_file(name: str, blob: Blob) -> dict[str, Any]:
    """Describe a file as in a listing."""
    lfs = {"oid": blob.etag, "size": blob.size, "pointerSize": blob.pointer.size}
    told = {"type": "file", "path": name, "size": blob.size, "oid": blob.pointer.etag}
    return told | ({"lfs": lfs} if blob.large else {})


def _describe_folder(name: str) -> dict[str, Any]:
    oid = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return {"type": "directory", "path": name, "size": 0, "oid": oid}
