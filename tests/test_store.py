"""The verified store against a hub on this machine that fails in every way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from safetensors.torch import save

from zoo_core.errors import WeightsError, ZooWarning
from zoo_core.manifest import WeightsEntry
from zoo_core.store import WeightsFile, cached, fetch, fetch_again, fetch_whole, hub, known
from zoo_core.store.cache import Repository
from zoo_core.testing import (
    Cut,
    Drip,
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

REPOSITORY = "them/net"
NAME = "model.safetensors"
CONTENT = save({"weight": torch.arange(60_000, dtype=torch.float32)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = save({"weight": torch.zeros(60_000)})
ENTRY = WeightsEntry(component="net", tag="them", repository=REPOSITORY, source="a test")
PINNED = replace(ENTRY, sha256=SHA256, size=len(CONTENT))


@pytest.fixture
def served(loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """A hub with the file, and a client that soon loses patience."""
    loopback_hub.add(REPOSITORY, {NAME: CONTENT})
    monkeypatch.setattr(hub, "_PAUSES", (0.01, 0.01, 0.01, 0.01))
    return loopback_hub


def gets(served: LoopbackHub) -> int:
    return sum(method == "GET" for method, _ in served.requests)


def nothing_is_left(name: str = REPOSITORY) -> bool:
    files = [path for path in Repository(name).folder.rglob("*") if not path.is_dir()]
    return not files


def refused(entry: WeightsEntry = ENTRY) -> str:
    with pytest.raises(WeightsError) as caught:
        fetch(entry)
    return str(caught.value)


@pytest.mark.parametrize("entry", [ENTRY, PINNED], ids=["unpinned", "pinned"])
def test_a_file_is_fetched_once_and_lies_where_the_hub_client_finds_it(
    served: LoopbackHub, entry: WeightsEntry
) -> None:
    file = fetch(entry)
    assert file.path.read_bytes() == CONTENT
    assert file.sha256 == SHA256
    asked = len(served.requests)
    assert fetch(entry) == file
    assert len(served.requests) == asked
    theirs = hf_hub_download(REPOSITORY, NAME, local_files_only=True)
    assert Path(theirs).resolve() == file.path.resolve()


def test_a_file_that_the_hub_client_cached_is_used_without_a_request(served: LoopbackHub) -> None:
    hf_hub_download(REPOSITORY, NAME)
    asked = len(served.requests)
    assert fetch(ENTRY).sha256 == SHA256
    assert len(served.requests) == asked
    assert known.recall(ENTRY) is not None


def test_a_pinned_commit_is_asked_for_after_the_branch_moved(served: LoopbackHub) -> None:
    [commit] = served.commits(REPOSITORY)
    served.add(REPOSITORY, {NAME: OTHER})
    entry = replace(PINNED, revision=commit.id)
    assert fetch(entry).path.read_bytes() == CONTENT
    assert {path for _, path in served.requests if "resolve" in path} == {
        f"/{REPOSITORY}/resolve/{commit.id}/{NAME}"
    }


def test_an_unpinned_file_that_changes_later_is_refused(served: LoopbackHub) -> None:
    path = fetch(ENTRY).path
    served.add(REPOSITORY, {NAME: OTHER})
    assert fetch(ENTRY).path == path
    Repository(REPOSITORY).discard(path)
    now = hashlib.sha256(OTHER).hexdigest()
    message = refused()
    assert f"net.them has changed: {REPOSITORY} announces sha256 {now}, and {SHA256}" in message
    assert "'zoo weights pin net.them' writes the new hash into your registry" in message
    assert cached(ENTRY) is None


def test_a_changed_file_is_accepted_once_it_is_pinned(served: LoopbackHub) -> None:
    Repository(REPOSITORY).discard(fetch(ENTRY).path)
    served.add(REPOSITORY, {NAME: OTHER})
    now = hashlib.sha256(OTHER).hexdigest()
    assert fetch(replace(ENTRY, sha256=now)).path.read_bytes() == OTHER


def test_a_record_that_is_damaged_is_told(served: LoopbackHub) -> None:
    fetch(ENTRY)
    known.known_file().write_text("{")
    assert refused().startswith(f"{known.known_file()}: the record of hashes is damaged")


@pytest.mark.parametrize("entry", [ENTRY, PINNED], ids=["unpinned", "pinned"])
def test_a_tampered_body_is_refused_and_not_kept(served: LoopbackHub, entry: WeightsEntry) -> None:
    served.fault(Tampered())
    message = refused(entry)
    assert "what http://127.0.0.1:" in message
    assert f"and it announced {SHA256}; nothing of it was kept" in message
    assert nothing_is_left()
    assert known.recall(ENTRY) is None
    served.heal()
    assert fetch(entry).path.read_bytes() == CONTENT


def test_a_swapped_file_is_refused_before_it_is_downloaded(served: LoopbackHub) -> None:
    served.add(REPOSITORY, {NAME: OTHER})
    theirs = hashlib.sha256(OTHER).hexdigest()
    assert f"announces sha256 {theirs}, and net.them is pinned to {SHA256}" in refused(PINNED)
    assert gets(served) == 0


def test_what_is_no_safetensors_file_is_refused_and_not_kept(served: LoopbackHub) -> None:
    served.add(REPOSITORY, {NAME: b"\x80\x02}q\x00." + bytes(100)})
    assert "it begins as a pickle does, and pickles are never read" in refused()
    assert nothing_is_left()


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_answers_that_fail_by_chance_are_asked_for_again(served: LoopbackHub, code: int) -> None:
    served.fault(Status(code), method="HEAD", times=2)
    served.fault(Status(code), method="GET", times=2)
    assert fetch(ENTRY).sha256 == SHA256


def test_answers_that_go_on_failing_are_given_up(served: LoopbackHub) -> None:
    rule = served.fault(Status(503), method="GET")
    message = refused()
    assert f"{NAME} of {REPOSITORY} is not in the cache, and {served.endpoint} cannot be" in message
    assert "answers 503" in message
    assert rule.hits == 5
    served.heal()
    assert fetch(ENTRY).sha256 == SHA256


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_taken_up_where_it_broke(served: LoopbackHub, ranges: bool) -> None:
    served.fault(Cut(after=100_000), times=1)
    if not ranges:
        served.fault(NoRange())
    assert fetch(ENTRY).path.read_bytes() == CONTENT
    asked = [request.headers.get("Range") for request in served.log if request.method == "GET"]
    assert asked == [None, "bytes=100000-"]


def test_a_connection_that_is_always_cut_still_gets_there(served: LoopbackHub) -> None:
    served.fault(Cut(after=80_000))
    assert fetch(ENTRY).path.read_bytes() == CONTENT


CHILD = """
from zoo_core.manifest import WeightsEntry
from zoo_core.store import fetch
entry = WeightsEntry(component="net", tag="them", repository="them/net", source="a test")
print(fetch(entry).path)
"""


def test_a_download_that_was_killed_goes_on_later(served: LoopbackHub) -> None:
    served.fault(Slow(bytes_per_second=200_000))
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    partial = Repository(REPOSITORY).partial(SHA256)
    deadline = time.monotonic() + 20
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    have = partial.stat().st_size
    assert 0 < have < len(CONTENT)
    served.heal()
    assert fetch(ENTRY).path.read_bytes() == CONTENT
    assert served.log[-1].headers["Range"] == f"bytes={have}-"
    assert not partial.exists()


def test_a_damaged_beginning_is_thrown_away(served: LoopbackHub) -> None:
    cache = Repository(REPOSITORY)
    cache.blobs.mkdir(parents=True)
    cache.partial(SHA256).write_bytes(b"x" * 1000)
    assert fetch(ENTRY).path.read_bytes() == CONTENT


def test_a_beginning_that_is_a_link_is_not_followed(served: LoopbackHub, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    cache = Repository(REPOSITORY)
    cache.blobs.mkdir(parents=True)
    cache.partial(SHA256).symlink_to(precious)
    assert fetch(ENTRY).path.read_bytes() == CONTENT
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("by", [10, -10])
def test_another_size_than_announced_is_refused(served: LoopbackHub, by: int) -> None:
    served.fault(WrongSize(by), method="HEAD")
    refused()
    assert cached(ENTRY) is None
    served.heal()
    assert fetch(ENTRY).path.read_bytes() == CONTENT


def test_a_size_that_no_disk_holds_is_refused(served: LoopbackHub) -> None:
    served.fault(Header("X-Linked-Size", "9" * 14), method="HEAD")
    assert "has 99,999,999,999,999 bytes, and" in refused()
    assert gets(served) == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ETag", '"../../../../evil"', "the server announces '../../../../evil' as its hash"),
        ("ETag", f'"{"g" * 64}"', "as its hash, which is none"),
        ("ETag", '"' + "a" * 5000 + '"', "…' as its hash, which is none"),
        ("X-Repo-Commit", "../../../evil", "the server names a commit '../../../evil', which is"),
        ("X-Repo-Commit", "main", "the server names a commit 'main', which is none"),
        ("X-Linked-Size", "-5", "the server announces '-5' as its size"),
        ("X-Linked-Size", "9" * 400, "as its size"),
    ],
)
def test_what_a_server_says_never_becomes_a_path(
    served: LoopbackHub, tmp_path: Path, name: str, value: str, message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    served.fault(Header(name, value))
    assert message in refused()
    assert gets(served) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_token_goes_to_the_endpoint_and_to_nobody_else(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with LoopbackHub() as elsewhere:
        elsewhere.add(REPOSITORY, {NAME: CONTENT})
        served.fault(Redirect(elsewhere.endpoint), method="GET")
        assert fetch(ENTRY).sha256 == SHA256
        own = [request.headers.get("Authorization") for request in served.log]
        assert own == ["Bearer hf_secret"] * 2
        assert [request.headers.get("Authorization") for request in elsewhere.log] == [None]


def test_a_redirect_to_another_protocol_is_not_followed(served: LoopbackHub) -> None:
    served.fault(Redirect("file:///etc/passwd"), method="GET")
    assert "redirects to 'file:///etc/passwd', which is not followed" in refused()


def test_redirects_in_circles_end(served: LoopbackHub) -> None:
    served.fault(Redirect(served.endpoint), method="GET")
    assert refused().endswith("redirects in circles")


def test_private_and_gated_repositories_are_told(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.make_private(REPOSITORY, "hf_right")
    assert f"{served.endpoint} has no repository {REPOSITORY}, or it is private" in refused()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert fetch(ENTRY).sha256 == SHA256
    served.add("them/gated", {NAME: CONTENT})
    served.gate("them/gated")
    assert f"is gated at {served.endpoint}: access" in refused(
        replace(ENTRY, repository="them/gated")
    )


def test_what_is_not_there_is_told(served: LoopbackHub) -> None:
    assert "has no repository them/none" in refused(replace(ENTRY, repository="them/none"))
    assert refused(replace(ENTRY, filename="no.safetensors")).endswith("has no file no.safetensors")
    commit = "0" * 40
    assert refused(replace(ENTRY, revision=commit)).endswith(f"has no revision {commit}")


def test_offline_asks_nothing(served: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in refused()
    assert not served.requests


@pytest.mark.parametrize("fault", [Hang(), Drip(seconds=0.2), Slow(bytes_per_second=100)])
def test_silence_has_a_limit(
    served: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    fault: Hang | Drip | Slow,
) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 1.5)
    monkeypatch.setattr(hub, "_ANSWER", 0.5)
    served.fault(fault)
    start = time.monotonic()
    assert f"{served.endpoint} cannot be reached (" in refused()
    assert time.monotonic() - start < 15


def test_what_is_gained_between_silences_does_not_make_them_longer(
    loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 3.0)
    monkeypatch.setattr(hub, "_ANSWER", 0.5)
    loopback_hub.add(REPOSITORY, {NAME: save({"weight": torch.ones(1_000_000)})})
    hangs = loopback_hub.fault(Hang(after=200_000))
    assert f"{loopback_hub.endpoint} cannot be reached (" in refused()
    assert 1 < hangs.hits < 5  # if each gain restored the patience, there would be five


def test_the_limits_on_silence_add_up_to_less_than_a_minute() -> None:
    # The last attempt may begin just before patience ends, and the head before the body.
    assert hub.PATIENCE + hub._ANSWER < 60


def test_a_dead_endpoint_costs_one_line(tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    child = subprocess.run(
        [Path(sys.executable).parent / "zoo", "build", "resnet18", "--pretrained"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 1
    assert child.stdout == ""
    [line] = child.stderr.splitlines()
    assert line.startswith(
        "Error: model.safetensors of timm/resnet18.a1_in1k is not in the cache, and "
        "http://127.0.0.1:9 cannot be reached ("
    )


def test_a_damaged_file_of_the_cache_is_fetched_again(served: LoopbackHub) -> None:
    file = fetch(ENTRY)
    file.path.write_bytes(OTHER)
    with pytest.warns(ZooWarning, match="deleted, and fetched again"):
        again = fetch_again(ENTRY, file, WeightsError("its sha256 is another"))
    assert again.path.read_bytes() == CONTENT


def test_a_damaged_file_is_mended_by_fetching_it_whole(served: LoopbackHub) -> None:
    file = fetch_whole(ENTRY)
    file.path.write_bytes(OTHER)
    with pytest.warns(ZooWarning, match=f"its sha256 is .* instead of {SHA256}; it is deleted"):
        assert fetch_whole(ENTRY).path.read_bytes() == CONTENT


def test_a_wrong_pin_costs_no_file_of_the_cache(served: LoopbackHub) -> None:
    theirs = hf_hub_download(REPOSITORY, NAME)
    [commit] = served.commits(REPOSITORY)
    wrong = replace(ENTRY, revision=commit.id, sha256="a" * 64)
    assert f"announces sha256 {SHA256}, and net.them is pinned to {'a' * 64}" in refused(wrong)
    assert Path(theirs).read_bytes() == CONTENT


def test_a_beginning_that_is_too_long_for_the_file_is_thrown_away(served: LoopbackHub) -> None:
    """As after an announcement of a wrong size: nothing is left in the way."""
    served.fault(WrongSize(100), method="HEAD")
    message = refused()
    assert f"the server announces {len(CONTENT) + 100:,} bytes, and has none from byte" in message
    assert nothing_is_left()
    served.heal()
    assert fetch(ENTRY).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "endpoint", ["http://[::1", "http://127.0.0.1:99999", "notaurl", "ftp://hub", "http://"]
)
def test_an_endpoint_that_is_no_address_is_told(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    assert refused().startswith("HF_ENDPOINT is ")


@pytest.mark.parametrize(
    "noted",
    [
        {"sha256": 5, "size": 1, "revision": "", "since": ""},
        {"sha256": "../../x", "size": 1, "revision": "", "since": ""},
        {"sha256": SHA256, "size": "1", "revision": "", "since": ""},
        {"sha256": SHA256, "size": 1, "revision": "../..", "since": ""},
        {"sha256": SHA256},
        [],
    ],
)
def test_a_record_of_something_else_is_refused(served: LoopbackHub, noted: object) -> None:
    fetch(ENTRY)
    known.known_file().write_text(json.dumps({f"{REPOSITORY}@main/{NAME}": noted}))
    assert refused().startswith(f"{known.known_file()}: the record of hashes is damaged")


def test_a_hash_that_cannot_be_recorded_costs_a_warning(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.warns(ZooWarning, match=r"the hash of net\.them cannot be recorded in .*: Not a"):
        assert fetch(ENTRY).path.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_made_is_told(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert "cannot be made: Not a directory; HF_HOME names another place" in refused()


def test_files_outside_the_cache_are_never_deleted(tmp_path: Path) -> None:
    mine = tmp_path / NAME
    mine.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="another"):
        fetch_again(ENTRY, WeightsFile(mine, SHA256), WeightsError("its sha256 is another"))
    assert mine.exists()


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", "CC-BY-NC-SA-4.0"])
def test_non_commercial_weights_are_said_so_before_the_download(
    served: LoopbackHub, licence: str
) -> None:
    entry = replace(ENTRY, licence=licence)
    with pytest.warns(ZooWarning, match=f"may not be used commercially: its licence is {licence}"):
        fetch(entry)


@pytest.mark.parametrize(
    ("licence", "message"),
    [
        ("cc-by-nc-4.0", "net.them has licence cc-by-nc-4.0; accepted are apache-2.0, mit"),
        (None, "net.them has no known licence; accepted are apache-2.0, mit"),
    ],
)
def test_other_licences_than_the_accepted_ones_are_refused(
    served: LoopbackHub, licence: str | None, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        fetch(replace(ENTRY, licence=licence), licences=["mit", "apache-2.0"])
    assert not served.requests
    assert fetch(replace(ENTRY, licence="MIT"), licences=["mit"]).sha256 == SHA256


def test_two_processes_download_one_file_once(served: LoopbackHub) -> None:
    served.fault(Slow(bytes_per_second=400_000))
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = {child.communicate()[0] for child in children}
    assert len(outputs) == 1
    assert [child.returncode for child in children] == [0, 0]
    assert gets(served) == 1
    assert json.loads(known.known_file().read_text())[f"{REPOSITORY}@main/{NAME}"]["sha256"] == (
        SHA256
    )
