"""The loopback hub, through the real client and, where that hides things, through bare HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from socket import create_connection
from urllib.parse import urlsplit

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    ModelHubMixin,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    list_repo_files,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zoo_core.testing import (
    Cut,
    Drip,
    Fault,
    Hang,
    Header,
    LoopbackHub,
    NoRange,
    Redirect,
    Slow,
    Status,
    Tampered,
    WrongSize,
)

# The client's own way of sending a file.

NAME = "me/net"
MODEL = "model.safetensors"
WEIGHTS = bytes(range(256)) * 16
CONFIG = b'{"width": 8}'
PLACE = f"/{NAME}/resolve/main/{MODEL}"


@pytest.fixture
def hub(loopback_hub: LoopbackHub) -> LoopbackHub:
    loopback_hub.add(NAME, {MODEL: WEIGHTS, "config.json": CONFIG})
    return loopback_hub


@pytest.fixture
def wire(hub: LoopbackHub) -> Iterator[HTTPConnection]:
    with closing(connect(hub)) as connection:
        yield connection


def connect(hub: LoopbackHub) -> HTTPConnection:
    return HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=5)


def ask(
    wire: HTTPConnection, method: str = "GET", path: str = PLACE, **headers: str
) -> tuple[HTTPResponse, bytes]:
    wire.request(method, path, headers=headers)
    answer = wire.getresponse()
    return answer, answer.read()


def fetch(name: str = MODEL, revision: str | None = None, token: str | bool | None = None) -> bytes:
    return Path(hf_hub_download(NAME, name, revision=revision, token=token)).read_bytes()


def downloads(hub: LoopbackHub, method: str) -> int:
    return [method for method, path in hub.requests if "/resolve/" in path].count(method)


# Downloads


def test_a_file_is_fetched_under_its_digest(hub: LoopbackHub, tmp_path: Path) -> None:
    assert fetch() == WEIGHTS
    assert fetch("config.json") == CONFIG
    blobs = {path.name for path in (tmp_path / "huggingface").rglob("blobs/*")}
    git = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    assert blobs == {hashlib.sha256(WEIGHTS).hexdigest(), git}


def test_files_on_the_disk_are_served_in_folders(hub: LoopbackHub, tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    file.write_bytes(os.urandom(300_000))
    hub.add(NAME, {"a b/deep/big.bin": file, "empty.bin": b""})
    assert fetch("a b/deep/big.bin") == file.read_bytes()
    assert fetch("empty.bin") == b""


def test_large_files_have_the_headers_of_large_files(
    hub: LoopbackHub, wire: HTTPConnection
) -> None:
    hub.add(NAME, {"notes.txt": bytes(10 * 2**20 + 1), MODEL: WEIGHTS, "empty.bin": b""})
    for name, digits in (("notes.txt", 64), (MODEL, 64), ("empty.bin", 40)):
        answer, body = ask(wire, "HEAD", f"/{NAME}/resolve/main/{name}")
        assert body == b""
        assert len(answer.headers["ETag"].strip('"')) == digits
        assert ("X-Linked-Etag" in answer.headers) == (digits == 64)
        assert answer.headers.get("X-Linked-Size") in (None, answer.headers["Content-Length"])


def test_old_commits_stay_when_a_branch_moves(hub: LoopbackHub) -> None:
    first = hub.commits(NAME)[0].id
    second = hub.add(NAME, {MODEL: b"new"})
    assert first != second
    assert fetch() == fetch(revision=second) == b"new"
    assert fetch(revision=first) == WEIGHTS
    assert hub.add(NAME, {MODEL: b"dev"}, revision="dev") not in (first, second)
    assert fetch(revision="dev") == b"dev"
    assert HfApi().model_info(NAME).sha == second
    assert hub.add("me/other", {MODEL: b"new"}) == second


def test_what_is_not_there_is_told_as_the_hub_does(hub: LoopbackHub) -> None:
    with pytest.raises(EntryNotFoundError, match="no file other"):
        fetch("other")
    with pytest.raises(RevisionNotFoundError):
        fetch(revision="none")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("me/none", MODEL)
    with pytest.raises(HfHubHTTPError, match="model repositories only"):
        HfApi().create_repo("me/data", repo_type="dataset")
    with pytest.raises(ValueError, match="no repository me/none"):
        hub.gate("me/none")


def test_listings_tell_of_all_files(hub: LoopbackHub) -> None:
    hub.add(NAME, {MODEL: WEIGHTS, "a/b/c.txt": b"c", "a/d.txt": b"d"})
    api = HfApi()
    assert list_repo_files(NAME) == api.list_repo_files(NAME) == ["a/b/c.txt", "a/d.txt", MODEL]
    assert [entry.path for entry in api.list_repo_tree(NAME)] == ["a", MODEL]
    assert [entry.path for entry in api.list_repo_tree(NAME, "a")] == ["a/b", "a/d.txt"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(NAME, "b"))
    info = api.model_info(NAME, files_metadata=True)
    sibling = next(file for file in info.siblings or () if file.rfilename == MODEL)
    assert sibling.lfs is not None
    assert sibling.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert (sibling.size, info.private, info.gated) == (len(WEIGHTS), False, False)
    assert api.file_exists(NAME, "a/d.txt")
    assert not api.file_exists(NAME, "a/e.txt")
    assert api.repo_exists(NAME)
    assert not api.repo_exists("me/none")
    assert (Path(snapshot_download(NAME)) / "a/b/c.txt").read_bytes() == b"c"


@pytest.mark.parametrize(
    ("wanted", "status", "told", "body"),
    [
        ("bytes=4000-", 206, "bytes 4000-4095/4096", WEIGHTS[4000:]),
        ("bytes=0-", 206, "bytes 0-4095/4096", WEIGHTS),
        ("bytes=3-9", 206, "bytes 3-9/4096", WEIGHTS[3:10]),
        ("bytes=9-9999", 206, "bytes 9-4095/4096", WEIGHTS[9:]),
        ("bytes=-10", 206, "bytes 4086-4095/4096", WEIGHTS[-10:]),
        ("bytes=4096-", 416, "bytes */4096", None),
        ("bytes=9-3", 200, None, WEIGHTS),
        ("bytes=1-2,5-6", 200, None, WEIGHTS),
    ],
)
def test_single_ranges_are_given(
    wire: HTTPConnection, wanted: str, status: int, told: str | None, body: bytes | None
) -> None:
    answer, got = ask(wire, Range=wanted)
    assert (answer.status, answer.headers["Content-Range"]) == (status, told)
    assert body is None or got == body


def test_a_connection_stays_usable_after_any_answer(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.add("me/secret", {MODEL: WEIGHTS})
    hub.make_private("me/secret")
    hub.fault(Status(503), method="POST", times=1)
    hub.fault(NoRange(), times=1)
    hub.fault(WrongSize(-10), method="GET", times=1)
    wire.connect()
    socket = wire.sock
    answers = [
        ask(wire, "HEAD", "/none/net/resolve/main/x")[0],
        ask(wire, "GET", "/me/secret/resolve/main/x")[0],
        ask(wire, "DELETE", "/me/net")[0],
        ask(wire, "GET", Range="bytes=9999-")[0],
        ask(wire, "GET", Range="bytes=9999-")[0],
    ]
    assert [answer.status for answer in answers] == [404, 401, 404, 200, 416]
    for method, path in (("POST", "/api/none"), ("POST", "/api/repos/create")):
        wire.request(method, path, body=b"{" * 200_000)
        answer = wire.getresponse()
        answer.read()
        answers.append(answer)
    wire.request("PUT", f"/lfs-storage/{'0' * 64}", body=iter([b"chunk"] * 9), encode_chunked=True)
    answers.append(wire.getresponse())
    assert b"the sha256 of what came is" in answers[-1].read()
    assert [answer.status for answer in answers[5:]] == [503, 400, 400]
    assert ask(wire)[1] == WEIGHTS
    assert wire.sock is socket


# Access


def test_gated_files_need_the_token(hub: LoopbackHub) -> None:
    hub.gate(NAME, "hf_right")
    for token in (None, "hf_wrong"):
        with pytest.raises(GatedRepoError, match="403"):
            fetch(token=token)
    assert HfApi().model_info(NAME).gated == "auto"
    assert fetch(token="hf_right") == WEIGHTS
    hub.gate(NAME)
    with pytest.raises(GatedRepoError):
        fetch("config.json", token="hf_right")


def test_private_repositories_show_themselves_with_the_token(hub: LoopbackHub) -> None:
    hub.make_private(NAME, "hf_right")
    for token in (None, "hf_wrong"):
        with pytest.raises(RepositoryNotFoundError, match="401"):
            fetch(token=token)
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).model_info(NAME)
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME)
    assert fetch(token="hf_right") == WEIGHTS
    assert HfApi(token="hf_right").model_info(NAME).private


# Faults of downloads


def test_a_status_is_answered_as_often_as_told(hub: LoopbackHub) -> None:
    rule = hub.fault(Status(500, "out of order"), method="GET", path=f"*/{MODEL}", times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="out of order"):
            fetch()
    assert fetch("config.json") == CONFIG
    assert fetch() == WEIGHTS
    assert rule.hits == 2


def test_the_first_matching_fault_applies_and_headers_beside_it(
    hub: LoopbackHub, wire: HTTPConnection
) -> None:
    hub.fault(Header("X-One", "1"))
    hub.fault(Status(500), times=1)
    hub.fault(Status(429), path="/me/net/*")
    hub.fault(Header("Retry-After", "7"), method="GET")
    answers = [ask(wire)[0] for _ in range(2)]
    assert [answer.status for answer in answers] == [500, 429]
    assert {answer.headers["X-One"] for answer in answers} == {"1"}
    assert {answer.headers["Retry-After"] for answer in answers} == {"7"}
    assert ask(wire, path="/api/models/me/net")[0].status == 200
    hub.heal()
    answer, body = ask(wire)
    assert (answer.status, answer.headers["X-One"], body) == (200, None, WEIGHTS)


def test_faults_spare_what_the_client_asks_of_itself(
    hub: LoopbackHub, wire: HTTPConnection
) -> None:
    rule = hub.fault(Status(500), times=1)
    assert ask(wire, path="/api/agent-harnesses")[0].status == 200
    assert rule.hits == 0
    assert ask(wire)[0].status == 500


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client keep what came before a cut: it writes whole chunks only."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)


def test_a_cut_download_is_resumed(hub: LoopbackHub, small_chunks: None) -> None:
    rule = hub.fault(Cut(after=1000), path=f"*/{MODEL}", times=1)
    assert fetch() == WEIGHTS
    assert rule.hits == 1
    ranges = [request.headers["Range"] for request in hub.log if request.method == "GET"]
    assert ranges == [None, "bytes=1000-"]


def test_a_cut_ends_the_content_amid(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Cut(after=1000))
    with pytest.raises(IncompleteRead) as error:
        ask(wire)
    assert error.value.partial == WEIGHTS[:1000]


def test_without_ranges_a_cut_download_starts_again(hub: LoopbackHub, small_chunks: None) -> None:
    hub.fault(Cut(after=1000), times=1)
    rule = hub.fault(NoRange())
    assert fetch() == WEIGHTS
    assert rule.hits == 1


def test_no_range_answers_with_the_whole(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(NoRange())
    answer, body = ask(wire, Range="bytes=10-")
    assert (answer.status, answer.headers["Content-Range"], body) == (200, None, WEIGHTS)


def test_tampered_content_has_an_honest_etag(hub: LoopbackHub) -> None:
    hub.fault(Tampered(), path=f"*/{MODEL}")
    url = hf_hub_url(NAME, MODEL)
    assert get_hf_file_metadata(url).etag == hashlib.sha256(WEIGHTS).hexdigest()
    got = fetch()
    assert (got[:-1], got[-1]) == (WEIGHTS[:-1], WEIGHTS[-1] ^ 0xFF)
    assert fetch("config.json") == CONFIG


def test_a_tampered_byte_is_the_same_one_in_a_range(
    hub: LoopbackHub, wire: HTTPConnection, tmp_path: Path
) -> None:
    hub.fault(Tampered(at=5))
    assert ask(wire, Range="bytes=3-6")[1] == bytes([3, 4, 5 ^ 0xFF, 6])
    assert ask(wire, Range="bytes=6-8")[1] == bytes([6, 7, 8])
    hub.heal()
    (tmp_path / MODEL).write_bytes(bytes(200_000))
    hub.add(NAME, {MODEL: tmp_path / MODEL})
    hub.fault(Tampered(at=-50_000))
    assert ask(wire)[1].index(0xFF) == 150_000
    assert ask(wire, Range="bytes=20000-")[1].index(0xFF) == 130_000


@pytest.mark.parametrize("by", [10, -10])
def test_a_wrong_announcement_is_told_from_the_download(hub: LoopbackHub, by: int) -> None:
    hub.fault(WrongSize(by), method="HEAD")
    with pytest.raises(OSError, match=f"should be of size {len(WEIGHTS) + by} but has size 4096"):
        fetch()


def test_a_size_too_large_never_comes(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(WrongSize(10))
    with pytest.raises(IncompleteRead) as error:
        ask(wire)
    assert (error.value.partial, error.value.expected) == (WEIGHTS, 10)


def test_a_size_too_small_holds_the_rest_back(hub: LoopbackHub) -> None:
    hub.fault(WrongSize(-10))
    assert fetch() == WEIGHTS[:-10]
    # HTTPConnection would not show what comes too much.
    with create_connection((urlsplit(hub.endpoint).hostname, urlsplit(hub.endpoint).port)) as bare:
        bare.sendall(f"GET {PLACE} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        with bare.makefile("rb") as stream:
            assert stream.read().partition(b"\r\n\r\n")[2] == WEIGHTS[:-10]


@pytest.mark.parametrize("method", [None, "GET"])
def test_a_redirect_leads_to_another_origin_without_the_token(
    hub: LoopbackHub, method: str | None
) -> None:
    with LoopbackHub() as storage:
        storage.add(NAME, {MODEL: WEIGHTS})
        hub.fault(Redirect(storage.endpoint), method=method, path=f"*/{MODEL}")
        assert fetch(token="hf_secret") == WEIGHTS
        assert storage.requests == [("GET", PLACE)]
        assert "authorization" not in storage.log[0].headers
    sent = [request.headers["authorization"] for request in hub.log]
    assert sent == ["Bearer hf_secret"] * (2 if method else 1)


@pytest.mark.parametrize("name", [MODEL, "config.json"])
def test_a_redirect_tells_of_the_file(hub: LoopbackHub, wire: HTTPConnection, name: str) -> None:
    hub.fault(Redirect("http://127.0.0.1:9/elsewhere", code=307))
    answer, body = ask(wire, "GET", f"/{NAME}/resolve/main/{name}", Range="bytes=2-4")
    told = {name: answer.headers[name] for name in ("Location", "X-Repo-Commit", "X-Linked-Size")}
    assert (answer.status, body) == (307, b"")
    assert told == {
        "Location": "http://127.0.0.1:9/elsewhere",
        "X-Repo-Commit": hub.commits(NAME)[0].id,
        "X-Linked-Size": str(len(WEIGHTS if name == MODEL else CONFIG)),
    }
    assert answer.headers["X-Linked-Etag"] == answer.headers["ETag"]


@pytest.mark.parametrize("name", [MODEL, "config.json"])
def test_a_hostile_etag_reaches_the_client(hub: LoopbackHub, name: str) -> None:
    hub.fault(Header("ETag", '"../../../evil"'))
    assert get_hf_file_metadata(hf_hub_url(NAME, name)).etag == "../../../evil"


def test_a_header_can_be_left_out(hub: LoopbackHub) -> None:
    hub.fault(Header("X-Repo-Commit", None))
    with pytest.raises(LocalEntryNotFoundError, match="missing the 'X-Repo-Commit' header"):
        fetch()


def test_a_hang_gives_no_answer_at_all(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Hang(), method="GET")
    assert ask(wire, "HEAD")[0].status == 200
    wire.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(wire)


def test_a_hang_may_come_amid_the_content(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Hang(after=1000))
    assert ask(wire, "HEAD")[0].status == 200
    wire.request("GET", PLACE)
    answer = wire.getresponse()
    assert answer.read(1000) == WEIGHTS[:1000]
    wire.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        answer.read(1)


def test_slow_content_takes_its_time(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Slow(bytes_per_second=10_000))
    start = time.perf_counter()
    assert ask(wire)[1] == WEIGHTS
    assert time.perf_counter() - start > 0.3


def test_a_dripping_head_takes_its_time(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Drip(seconds=0.002))
    start = time.perf_counter()
    answer, body = ask(wire)
    assert (answer.status, body) == (200, WEIGHTS)
    assert time.perf_counter() - start > 0.2


@pytest.mark.parametrize("fault", [Hang(), Hang(after=0), Slow(1), Drip(60)])
def test_a_hub_closes_whatever_it_is_at(fault: Fault) -> None:
    with LoopbackHub() as hub:
        hub.add(NAME, {MODEL: WEIGHTS})
        rule = hub.fault(fault)
        idle, busy = connect(hub), connect(hub)
        idle.connect()
        busy.request("GET", PLACE)
        while not rule.hits:
            time.sleep(0.01)
        start = time.perf_counter()
    assert time.perf_counter() - start < 5
    with closing(idle), closing(busy), pytest.raises((HTTPException, ConnectionError)):
        busy.getresponse().read()


# Pushes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pushed"
    (folder / "deep").mkdir(parents=True)
    (folder / MODEL).write_bytes(os.urandom(300_000))
    (folder / "deep/other.bin").write_bytes(b"other")
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Net\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fetched(name: str) -> dict[str, bytes]:
    return contents(Path(snapshot_download(name)))


def test_a_pushed_folder_comes_back(loopback_hub: LoopbackHub, folder: Path) -> None:
    api = HfApi(token="hf_mine")
    url = api.create_repo("me/mine")
    assert (url, url.repo_id) == (f"{loopback_hub.endpoint}/me/mine", "me/mine")
    told = api.upload_folder(repo_id="me/mine", folder_path=folder, commit_message="First")
    assert fetched("me/mine") == contents(folder)
    last = loopback_hub.commits("me/mine")[-1]
    assert (last.title, last.id) == ("First", told.oid)
    puts = [request for request in loopback_hub.log if request.method == "PUT"]
    digests = {hashlib.sha256((folder / name).read_bytes()).hexdigest()
               for name in (MODEL, "deep/other.bin")}  # fmt: skip
    assert {request.path for request in puts} == {f"/lfs-storage/{oid}" for oid in digests}
    assert not any("authorization" in request.headers for request in puts)
    posts = [request for request in loopback_hub.log if request.method == "POST"]
    assert {request.headers["authorization"] for request in posts} == {"Bearer hf_mine"}


def test_a_repository_is_created_once(loopback_hub: LoopbackHub) -> None:
    api = HfApi()
    api.create_repo("me/mine")
    assert api.create_repo("me/mine", exist_ok=True).repo_id == "me/mine"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("me/mine")
    assert len(loopback_hub.commits("me/mine")) == 1
    assert api.create_repo("mine", token="hf_x").repo_id == "loopback/mine"
    assert api.whoami(token="hf_x")["name"] == "loopback"
    loopback_hub.fault(Status(401), path="/api/whoami-v2")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_x")


def test_an_unchanged_folder_is_not_pushed_again(hub: LoopbackHub, folder: Path) -> None:
    api = HfApi()
    first = api.upload_folder(repo_id=NAME, folder_path=folder)
    asked = len(hub.log)
    assert api.upload_folder(repo_id=NAME, folder_path=folder).oid == first.oid
    assert not any(method == "PUT" or "/commit/" in path for method, path in hub.requests[asked:])
    assert len(hub.commits(NAME)) == 2


def test_a_push_may_delete(hub: LoopbackHub) -> None:
    api = HfApi()
    hub.add(NAME, {"a/x.txt": b"x", "a/b/y.txt": b"y", "b.txt": b"b", "c.txt": b"c"})
    api.delete_file("b.txt", NAME)
    api.delete_folder("a", NAME)
    assert list_repo_files(NAME) == ["c.txt"]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("b.txt", NAME)
    api.upload_file(path_or_fileobj=b"d", path_in_repo="d.txt", repo_id=NAME)
    assert fetched(NAME) == {"c.txt": b"c", "d.txt": b"d"}


def test_pushes_go_to_branches_and_pull_requests(hub: LoopbackHub) -> None:
    api = HfApi()

    def push(body: bytes, **options: object) -> object:
        change = CommitOperationAdd("new.bin", body)
        return api.create_commit(NAME, [change], commit_message="New", **options)  # type: ignore

    with pytest.raises(RevisionNotFoundError):
        push(b"dev", revision="dev")
    api.create_branch(NAME, branch="dev")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(NAME, branch="dev")
    push(b"dev", revision="dev")
    request = push(b"pr", create_pr=True)
    assert request.pr_revision == "refs/pr/1"  # type: ignore[attr-defined]
    assert fetch("new.bin", "dev") == b"dev"
    assert fetch("new.bin", "refs/pr/1") == b"pr"
    assert not api.file_exists(NAME, "new.bin")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        push(b"late", parent_commit="0" * 40)
    assert not api.file_exists(NAME, "new.bin")


class Net(ModelHubMixin):
    def __init__(self, weights: bytes = WEIGHTS) -> None:
        self.weights = weights

    def _save_pretrained(self, save_directory: Path) -> None:
        (save_directory / MODEL).write_bytes(self.weights)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: object) -> Net:
        return cls(Path(hf_hub_download(model_id, MODEL)).read_bytes())


def test_a_model_of_the_mixin_is_pushed(loopback_hub: LoopbackHub) -> None:
    for _ in range(2):
        url = Net().push_to_hub("me/mixed", config={"width": 8})
        assert url.startswith(f"{loopback_hub.endpoint}/me/mixed/commit/")
    assert fetched("me/mixed").keys() == {MODEL, "config.json", "README.md"}
    assert Net.from_pretrained("me/mixed").weights == WEIGHTS


def test_a_private_push_is_private(loopback_hub: LoopbackHub, folder: Path) -> None:
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi().create_repo("me/own", private=True)
    api = HfApi(token="hf_mine")
    api.create_repo("me/own", private=True)
    api.upload_folder(repo_id="me/own", folder_path=folder)
    with pytest.raises(RepositoryNotFoundError):
        fetched("me/own")
    assert api.file_exists("me/own", MODEL)


@pytest.mark.parametrize("fault", [Cut(after=100_000), Status(500)])
def test_a_failed_upload_is_tried_again(hub: LoopbackHub, folder: Path, fault: Fault) -> None:
    oid = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    rule = hub.fault(fault, method="PUT", path=f"/lfs-storage/{oid}", times=1)
    HfApi().upload_folder(repo_id=NAME, folder_path=folder)
    assert rule.hits == 1
    assert fetched(NAME)[MODEL] == (folder / MODEL).read_bytes()


@pytest.mark.parametrize(
    "step", ["*/preupload/main", "*/objects/batch", "*/info/lfs/verify", "*/commit/main"]
)
def test_a_refused_step_of_a_push_changes_nothing(
    hub: LoopbackHub, folder: Path, step: str
) -> None:
    rule = hub.fault(Status(403, "broken"), method="POST", path=step)
    with pytest.raises((HfHubHTTPError, RuntimeError)) as error:
        HfApi().upload_folder(repo_id=NAME, folder_path=folder)
    assert "broken" in f"{error.value} {error.value.__cause__}"
    assert rule.hits > 0
    assert len(hub.commits(NAME)) == 1


def test_a_slow_upload_takes_its_time(hub: LoopbackHub, wire: HTTPConnection) -> None:
    hub.fault(Slow(bytes_per_second=10_000), method="PUT")
    start = time.perf_counter()
    wire.request("PUT", f"/lfs-storage/{hashlib.sha256(WEIGHTS).hexdigest()}", body=WEIGHTS)
    assert wire.getresponse().status == 200
    assert time.perf_counter() - start > 0.3


def test_a_commit_of_content_that_never_came_is_refused(
    hub: LoopbackHub, wire: HTTPConnection
) -> None:
    lines = [
        {"key": "header", "value": {"summary": "Bad"}},
        {"key": "lfsFile", "value": {"path": "x.bin", "oid": "0" * 64, "size": 3}},
    ]
    wire.request("POST", f"/api/models/{NAME}/commit/main", "\n".join(map(json.dumps, lines)))
    answer = wire.getresponse()
    assert (answer.status, answer.headers["X-Error-Message"]) == (
        400,
        "the content of x.bin has not been uploaded",
    )
    assert len(hub.commits(NAME)) == 1


# The fixture


def settings() -> dict[str, object]:
    told = {"endpoint": HfApi().endpoint, "api": list_repo_files.__self__.endpoint}
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    return told | vars(constants) | environment


@pytest.fixture
def restored() -> Iterator[None]:
    before = settings()
    yield
    assert settings() == before


def test_the_fixture_leaves_no_trace(
    restored: None, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    assert HfApi().endpoint == list_repo_files.__self__.endpoint == loopback_hub.endpoint
    assert constants.HF_HUB_CACHE == os.environ["HF_HUB_CACHE"] == str(tmp_path / "huggingface/hub")
    assert loopback_hub.requests == []


def test_the_fixture_logs_out(
    restored: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_developer")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub = request.getfixturevalue("loopback_hub")
    hub.add(NAME, {MODEL: WEIGHTS})
    assert fetch() == WEIGHTS
    assert not any("authorization" in request.headers for request in hub.log)


def test_child_processes_talk_to_the_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    code = f"from huggingface_hub import hf_hub_download as f; print(f({NAME!r}, {MODEL!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    path = Path(done.stdout.strip())
    assert path.is_relative_to(tmp_path)
    assert path.read_bytes() == WEIGHTS
    assert (downloads(hub, "HEAD"), downloads(hub, "GET"), len(hub.log)) == (1, 1, 2)
