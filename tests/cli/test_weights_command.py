"""``zoo weights`` in child processes, against a hub on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import save

from zoo_core.manifest import WeightsEntry, config_directory, read_manifest
from zoo_core.store import fetch
from zoo_core.store.cache import Repository
from zoo_core.testing import Header, LoopbackHub, Status

Zoo = Callable[..., CompletedProcess[str]]
OneError = Callable[..., str]
Table = Callable[[str], list[list[str]]]

MODEL = "model.safetensors"
FIRST = save({"weight": torch.arange(3000, dtype=torch.float32)})
SECOND = save({"weight": torch.ones(2000)})
NAN = save({"weight": torch.tensor([1.0, float("nan")])})
SHA256 = hashlib.sha256(FIRST).hexdigest()


def entry(tag: str, more: str = "", component: str = "zoo-resnet:resnet18") -> str:
    return f"- {{component: {component}, tag: {tag}, repository: me/{tag}, source: a test{more}}}\n"


@pytest.fixture
def served(loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """A hub with weights that the user's registry file names."""
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)
    for name, content in (("one", FIRST), ("two", SECOND), ("nc", FIRST), ("bad", NAN)):
        loopback_hub.add(f"me/{name}", {MODEL: content, "config.json": b"{}"})
    own().parent.mkdir(parents=True)
    own().write_text(
        "weights:\n"
        + entry("one", ", licence: MIT, classes: 1234")
        + entry("two", f", licence: apache-2.0, size: {len(SECOND)}")
        + entry("nc", ", licence: cc-by-nc-4.0", "absent-dist:net")
        + entry("bad", component="absent-dist:net")
    )
    return loopback_hub


def own() -> Path:
    return config_directory() / "registry.yaml"


def printed(finished: CompletedProcess[str]) -> str:
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def lines(finished: CompletedProcess[str], code: int = 0) -> list[str]:
    assert finished.returncode == code, finished
    return finished.stderr.splitlines()


def shown(finished: CompletedProcess[str]) -> Any:
    return json.loads(finished.stdout)


def gets(hub: LoopbackHub) -> int:
    return sum(method == "GET" for method, _ in hub.requests)


def test_the_group_alone_shows_its_help(zoo: Zoo) -> None:
    bare, asked = zoo("weights"), zoo("weights", "-h")
    assert (bare.returncode, bare.stderr) == (2, asked.stdout)
    for verb in ("list", "pull", "verify", "pin", "path", "prune"):
        assert f"\n  {verb} " in asked.stdout


@pytest.mark.parametrize("verb", ["list", "pull", "verify", "pin", "path", "prune"])
def test_each_verb_has_examples(verb: str, zoo: Zoo) -> None:
    told = zoo("weights", verb, "-h").stdout
    assert f"\n  Examples:\n    zoo weights {verb}" in told
    assert max(map(len, told.splitlines())) <= 80


class TestList:
    def test_shows_what_there_is_without_a_request(
        self, served: LoopbackHub, zoo: Zoo, table: Table
    ) -> None:
        header, *rows = table(printed(zoo("weights", "list")))
        assert header == ["weights", "size", "classes", "licence", "pinned", "cached", "provider"]
        told = {row[0]: row[1:] for row in rows}
        assert told["resnet18.one"] == ["–", "1,234", "MIT", "unpinned", "–", "zoo-resnet"]
        assert told["resnet18.two"][0] == "8.1 kB"
        assert told["net.nc"][2:] == [
            "cc-by-nc-4.0 (non-commercial)",
            "unpinned",
            "–",
            "needs absent-dist",
        ]
        assert told["resnet50.a1_in1k"][2] == "apache-2.0"
        assert len(told) == len(rows)
        assert served.requests == []

    def test_shows_the_real_size_of_what_is_cached(
        self, served: LoopbackHub, zoo: Zoo, table: Table
    ) -> None:
        zoo("weights", "pull", "resnet18.one")
        _, *rows = table(printed(zoo("weights", "list", "--cached")))
        assert rows == [
            ["resnet18.one", "12.1 kB", "1,234", "MIT", "unpinned", "yes", "zoo-resnet"]
        ]
        [told] = shown(zoo("weights", "list", "resnet18.one", "--json"))
        assert told["name"] == "resnet18.one"
        assert (told["path_size"], told["size"]) == (len(FIRST), None)
        assert (told["cached"], told["pinned"], told["installed"]) == (True, False, True)
        assert Path(told["path"]).name == MODEL

    def test_chooses_by_pattern_and_licence(self, served: LoopbackHub, zoo: Zoo) -> None:
        def names(*arguments: str) -> list[str]:
            return [row["name"] for row in shown(zoo("weights", "list", *arguments, "--json"))]

        assert names("resnet18")[:2] == ["resnet18.one", "resnet18.two"]
        assert names("*.one") == ["resnet18.one"]
        assert names("*net18.*", "--license", "mit, BSD-3-clause") == [
            "resnet18.one",
            "resnet18.tv_in1k",
        ]
        assert names("net", "--license", "MIT", "--license", "cc-by-nc-4.0") == ["net.nc"]
        nothing = zoo("weights", "list", "--license", "gpl-3.0")
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert nothing.stderr == "zoo: there are no such weights\n"

    def test_shows_winners_only_by_the_shortest_name(self, served: LoopbackHub, zoo: Zoo) -> None:
        own().write_text(
            "weights:\n"
            + entry("a1_in1k", ", licence: mine")
            + entry("both", component="dist-a:pair")
            + entry("both", component="dist-b:pair")
            + entry("v1", component="any")
        )
        told = {row["name"]: row for row in shown(zoo("weights", "list", "--json"))}
        assert told["resnet18.a1_in1k"]["licence"] == "mine"
        assert "zoo-resnet:resnet18.a1_in1k" not in told
        assert {"dist-a:pair.both", "dist-b:pair.both", "any.v1"} <= told.keys()
        assert "pair.both" not in told

    def test_says_where_the_weights_of_sources_are_shown(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        some = zoo("weights", "list", "timm/*")
        told = "'zoo info timm/NAME' shows the tags of each timm/… name"
        assert some.stderr == f"zoo: these are the ones in registry files; {told}\n"
        assert "timm/efficientnet_lite0.ra_in1k" in some.stdout
        error = one_error(zoo("weights", "list", "timm/resnet*"))
        assert error == f"no registry file has weights 'timm/resnet*'; {told}"
        assert one_error(zoo("weights", "list", "nosuch*")) == (
            "no weights match 'nosuch*'; 'zoo weights list' shows what there is"
        )


class TestPull:
    def test_downloads_once(self, served: LoopbackHub, zoo: Zoo) -> None:
        fetched = printed(zoo("weights", "pull", "resnet18.one")).splitlines()
        assert fetched[0] == "resnet18.one: downloaded, 12.1 kB"
        path = Path(fetched[1].removeprefix("  path    "))
        assert (path.name, path.read_bytes()) == (MODEL, FIRST)
        assert fetched[2] == f"  sha256  {SHA256}"
        asked = len(served.requests)
        again = printed(zoo("weights", "pull", "resnet18.one")).splitlines()
        assert again == ["resnet18.one: cached already, 12.1 kB", *fetched[1:]]
        assert len(served.requests) == asked

    def test_takes_several_and_names_of_sources(self, served: LoopbackHub, zoo: Zoo) -> None:
        served.add("timm/resnet10t.c3_in1k", {MODEL: SECOND})
        pulled = zoo("weights", "pull", "timm/resnet10t.c3_in1k", "resnet18.two", "--json")
        assert [(row["name"], row["result"], row["size"]) for row in shown(pulled)] == [
            ("timm/resnet10t.c3_in1k", "downloaded", len(SECOND)),
            ("resnet18.two", "downloaded", len(SECOND)),
        ]

    def test_refuses_other_licences_before_any_request(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        names = ["resnet18.one", "resnet18.two"]
        error = one_error(zoo("weights", "pull", *names, "--license", "mit"), code=1)
        assert error == (
            "zoo-resnet:resnet18.two has licence apache-2.0; accepted are mit (--license)"
        )
        assert served.requests == []
        both = zoo("weights", "pull", *names, "--license", "mit,Apache-2.0")
        assert both.returncode == 0

    @pytest.mark.parametrize("value", ["", "mit,,", " "])
    def test_an_empty_licence_is_a_usage_error(
        self, value: str, zoo: Zoo, usage_error: Callable[..., str]
    ) -> None:
        for command in (["weights", "pull", "resnet18"], ["build", "resnet18"]):
            error = usage_error(zoo(*command, "--license", value))
            assert error == ("Invalid value for '--license': write licences such as apache-2.0,mit")

    def test_says_that_weights_are_non_commercial_before_it_downloads(
        self, served: LoopbackHub, zoo: Zoo
    ) -> None:
        served.fault(Status(403), method="GET")
        warning, error = lines(zoo("weights", "pull", "net.nc"), code=1)
        assert warning == (
            "zoo: absent-dist:net.nc may not be used commercially: its licence is cc-by-nc-4.0"
        )
        assert error.startswith("Error: model.safetensors of me/nc: ")

    def test_the_warning_comes_before_any_get(
        self, served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        monkeypatch.setattr("warnings.showwarning", lambda *_, **__: seen.append(gets(served)))
        net = {"component": "net", "tag": "nc", "repository": "me/nc", "source": "a test"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.filters", [])
            fetch(WeightsEntry(**net, licence="cc-by-nc-4.0"))
        assert (seen, gets(served)) == ([0], 1)

    def test_names_near_misses(self, zoo: Zoo, one_error: OneError) -> None:
        error = one_error(zoo("weights", "pull", "resnt50.a1_in1k"))
        assert error.startswith(
            "unknown weights 'resnt50.a1_in1k'; did you mean resnet50.a1_in1k or "
        )

    def test_a_hub_that_is_down_costs_one_line(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        served.fault(Status(404))
        error = one_error(zoo("weights", "pull", "resnet18.one"), code=1)
        assert served.endpoint in error


class TestVerify:
    def test_tells_of_each_cached_file(self, served: LoopbackHub, zoo: Zoo, table: Table) -> None:
        nothing = zoo("weights", "verify")
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert nothing.stderr == "zoo: no weights of registry files are cached\n"
        zoo("weights", "pull", "resnet18.one", "resnet18.two")
        assert table(printed(zoo("weights", "verify"))) == [
            ["weights", "result", "size"],
            ["resnet18.one", "good", "12.1 kB"],
            ["resnet18.two", "good", "8.1 kB"],
        ]

    def test_names_damage_and_what_mends_it(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pull", "resnet18.one", "resnet18.two", "net.bad")
        blob = Repository("me/one").blob(SHA256)
        damage(blob)
        finished = zoo("weights", "verify", "--json")
        results = {row["name"]: row["result"] for row in shown(finished)}
        assert results == {"resnet18.one": "damaged", "resnet18.two": "good", "net.bad": "wrong"}
        one, bad = lines(finished, code=1)
        assert one.startswith(f"Error: resnet18.one: {blob}: its sha256 is ")
        assert one.endswith("'zoo weights pull resnet18.one' fetches it again")
        assert bad.startswith("Error: net.bad: ")
        assert bad.endswith("weight holds NaN; it was published so")
        assert blob.is_file()
        mended = zoo("weights", "pull", "resnet18.one", "--json")
        assert shown(mended)[0]["sha256"] == SHA256
        assert "; it is deleted, and fetched again" in mended.stderr
        assert printed(zoo("weights", "verify", "resnet18.one"))

    def test_does_not_trust_earlier_proofs_and_drops_wrong_ones(
        self, served: LoopbackHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from zoo_core.store import proofs
        from zoo_core.weights.checking import check

        net = WeightsEntry(component="net", tag="one", repository="me/one", source="a test")
        file = fetch(net)
        damage(file.path)
        monkeypatch.setattr(proofs, "_SETTLED_NS", 0)
        proofs.remember(SHA256, file.path.stat())
        assert proofs.is_proven(SHA256, file.path.stat())
        assert check(net, file).damaged
        assert not proofs.is_proven(SHA256, file.path.stat())
        assert file.path.is_file()

    def test_a_header_or_size_that_is_wrong_is_told(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pull", "resnet18.one", "resnet18.two")
        Repository("me/one").blob(SHA256).write_bytes(b"PK\3\4" + bytes(100))
        own().write_text(own().read_text().replace(str(len(SECOND)), "7"))
        one, two = lines(zoo("weights", "verify"), code=1)
        assert "this is no readable safetensors file: it begins as a pickle does" in one
        assert f"it has {len(SECOND):,} bytes, and {own()} says 7" in two

    def test_what_is_not_cached_is_an_error(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pull", "resnet18.one")
        finished = zoo("weights", "verify", "resnet18.two", "resnet18.one", "--json")
        assert [row["result"] for row in shown(finished)] == ["not cached", "good"]
        assert lines(finished, code=1) == [
            "Error: resnet18.two: 'zoo weights pull resnet18.two' fetches it"
        ]


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


class TestPath:
    def test_prints_the_path_of_a_cached_file(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pull", "resnet18.one")
        path = printed(zoo("weights", "path", "resnet18.one")).rstrip("\n")
        assert path == hf_hub_download("me/one", MODEL, local_files_only=True)

    def test_refuses_what_is_not_cached(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        error = one_error(zoo("weights", "path", "resnet18.one"), code=1)
        assert error == "resnet18.one is not cached; 'zoo weights pull resnet18.one' fetches it"
        assert served.requests == []


class TestPin:
    def test_writes_what_the_hub_says(self, served: LoopbackHub, zoo: Zoo, table: Table) -> None:
        commit = served.commits("me/one")[0].id
        before = own().read_text()
        told = printed(zoo("weights", "pin", "resnet18.one")).splitlines()
        assert told == [
            f"resnet18.one ({own()})",
            f"  revision  unpinned → {commit}",
            f"  sha256    unpinned → {SHA256}",
            f"  size      unpinned → {len(FIRST):,}",
        ]
        pins = f"repository: me/one, revision: {commit}, sha256: {SHA256}, size: {len(FIRST)},"
        assert own().read_text() == before.replace("repository: me/one,", pins)
        assert gets(served) == 0
        assert printed(zoo("weights", "pin", "resnet18.one")).splitlines()[1:] == ["  as before"]
        _, row = table(printed(zoo("weights", "list", "resnet18.one")))
        assert row[1:5] == ["12.1 kB", "1,234", "MIT", "yes"]

    def test_accepts_a_change_and_shows_it(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pin", "resnet18.one", "resnet18.two")
        commit = served.add("me/one", {MODEL: SECOND})
        sha256 = hashlib.sha256(SECOND).hexdigest()
        refused = zoo("weights", "pin", "resnet18.one", "--dry-run")
        assert refused.stderr == "zoo: nothing is written (--dry-run)\n"
        told = printed(zoo("weights", "pin", "resnet18.one"))
        assert told == refused.stdout
        assert f"  sha256    {SHA256} → {sha256}\n" in told
        one, two, *_ = read_manifest(own()).weights
        assert (one.revision, one.sha256, one.size) == (commit, sha256, len(SECOND))
        assert (two.repository, two.pinned) == ("me/two", True)
        assert printed(zoo("weights", "pull", "resnet18.one"))

    def test_accepts_a_change_of_what_was_used_unpinned(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        zoo("weights", "pull", "resnet18.one")
        zoo("weights", "prune", "resnet18.one", "--yes")
        served.add("me/one", {MODEL: SECOND})
        assert "has changed" in one_error(zoo("weights", "pull", "resnet18.one"), code=1)
        finished = zoo("weights", "pin", "resnet18.one")
        [line] = lines(finished)
        assert line.startswith(f"zoo: resnet18.one had sha256 {SHA256} when it was first used, on")
        assert printed(zoo("weights", "pull", "resnet18.one"))

    def test_copies_a_shipped_entry_into_ones_own_file(self, served: LoopbackHub, zoo: Zoo) -> None:
        served.add("timm/resnet50.a1_in1k", {MODEL: FIRST})
        served.add("timm/resnet50.tv_in1k", {MODEL: SECOND})
        before = own().read_text()
        told = printed(zoo("weights", "pin", "resnet50.tv_in1k"))
        assert f"zoo-resnet:resnet50.a1_in1k (new in {own()})" in told
        assert own().read_text().startswith(before)
        info = shown(zoo("info", "resnet50", "--json"))
        assert list(info["weights"])[:2] == ["a1_in1k", "tv_in1k"]
        assert info["weights"]["tv_in1k"]["sha256"] == hashlib.sha256(SECOND).hexdigest()
        assert info["weights"]["tv_in1k"]["origin"] == str(own())

    def test_begins_ones_own_file(self, served: LoopbackHub, zoo: Zoo) -> None:
        own().unlink()
        own().parent.rmdir()
        served.add("timm/resnet10t.c3_in1k", {MODEL: FIRST})
        assert printed(zoo("weights", "pin", "timm/resnet10t.c3_in1k"))
        [pinned] = read_manifest(own()).weights
        assert pinned.component == "zoo-timm:timm/resnet10t"
        assert (pinned.sha256, pinned.preprocessing.size) == (SHA256, (176, 176))
        assert printed(zoo("weights", "pull", "timm/resnet10t.c3_in1k"))

    def test_all_of_a_file_or_nothing(
        self, served: LoopbackHub, zoo: Zoo, tmp_path: Path, one_error: OneError
    ) -> None:
        file = tmp_path / "theirs.yaml"
        file.write_bytes(own().read_bytes().replace(b"\n", b"\r\n"))
        before = file.read_bytes()
        served.fault(Header("ETag", "nonsense"), path="/me/two/*")
        error = zoo("weights", "pin", "--all", "--file", file)
        assert error.returncode == 1
        assert "announces 'nonsense' as its hash" in error.stderr
        assert file.read_bytes() == before
        served.heal()
        assert printed(zoo("weights", "pin", "--all", "--file", file))
        assert all(one.pinned for one in read_manifest(file).weights)
        assert file.read_bytes().count(b"\r\n") == before.count(b"\r\n")

    @pytest.mark.parametrize(
        ("arguments", "code", "problem"),
        [
            ([], 2, "name weights, or give --all"),
            (["resnet18.one", "--all"], 2, "name weights, or give --all"),
            (["nosuch"], 2, "unknown weights 'nosuch'"),
            (["resnet18.one", "nosuch"], 2, "unknown weights 'nosuch'"),
        ],
    )
    def test_refuses(
        self,
        arguments: list[str],
        code: int,
        problem: str,
        served: LoopbackHub,
        zoo: Zoo,
        one_error: OneError,
    ) -> None:
        before = own().read_bytes()
        assert problem in one_error(zoo("weights", "pin", *arguments), code=code)
        assert own().read_bytes() == before
        assert served.requests == []

    def test_refuses_offline_and_a_read_only_file(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        error = one_error(zoo("weights", "pin", "resnet18.one", HF_HUB_OFFLINE="1"), code=1)
        assert error == (
            f"model.safetensors of me/one: HF_HUB_OFFLINE is set, so {served.endpoint} cannot be "
            f"asked"
        )
        own().chmod(0o444)
        finished = zoo("weights", "pin", "resnet18.one")
        assert lines(finished, code=1) == [
            f"Error: {own()}: cannot be written: it is read-only",
        ]


class TestPrune:
    def test_needs_somebody_to_ask(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        zoo("weights", "pull", "resnet18.one")
        error = one_error(zoo("weights", "prune", "resnet18.one"))
        assert error == ("nobody can be asked here: give --yes, or --dry-run to see what it means")
        assert one_error(zoo("weights", "prune", "x", "--all")) == "name weights, or give --all"
        shown = zoo("weights", "prune", "resnet18.one", "--dry-run")
        assert shown.stdout.splitlines()[1:] == ["model.safetensors of me/one  12.1 kB"]
        assert shown.stderr == "zoo: nothing is deleted (--dry-run)\n"
        assert Repository("me/one").blob(SHA256).is_file()

    def test_deletes_named_weights_and_leaves_the_rest(self, served: LoopbackHub, zoo: Zoo) -> None:
        zoo("weights", "pull", "resnet18.one", "resnet18.two")
        config = hf_hub_download("me/one", "config.json")
        assert printed(zoo("weights", "prune", "resnet18.one", "--yes")).endswith(
            "deleted 12.1 kB\n"
        )
        assert files("me/one") == {"config.json"}
        assert Path(config).read_bytes() == b"{}"
        assert files("me/two") == {MODEL}
        nothing = zoo("weights", "prune", "resnet18.one", "--yes")
        assert (nothing.returncode, nothing.stderr) == (0, "zoo: there is nothing to delete\n")

    def test_all_leaves_other_repositories_alone(self, served: LoopbackHub, zoo: Zoo) -> None:
        served.add("they/other", {MODEL: FIRST})
        zoo("weights", "pull", "resnet18.one", "resnet18.two")
        hf_hub_download("they/other", MODEL)
        unfinished = Repository("they/other").partial("0" * 64)
        unfinished.write_bytes(b"x")
        assert printed(zoo("weights", "prune", "--all", "--yes"))
        assert not Repository("me/one").folder.exists()
        assert not Repository("me/two").folder.exists()
        assert files("they/other") == {MODEL}
        assert unfinished.exists()

    def test_without_names_leftovers_go(self, served: LoopbackHub, zoo: Zoo, table: Table) -> None:
        older = hf_hub_download("me/one", MODEL)
        shared = hf_hub_download("me/one", "config.json")
        newer = served.add("me/one", {MODEL: SECOND, "config.json": b"{}"})
        hf_hub_download("me/one", "config.json")
        zoo("weights", "pin", "resnet18.one")
        zoo("weights", "pull", "resnet18.one", "resnet18.two")
        cache = Repository("me/one")
        cache.partial("0" * 64).write_bytes(b"123")
        busy = cache.partial("1" * 64)
        busy.write_bytes(b"123")
        with cache.locked("1" * 64):
            told = table(printed(zoo("weights", "prune", "--yes")))
        old = Path(older).parent.name
        assert told[1:] == [
            ["unfinished download of me/one", "3 bytes"],
            [f"other revisions of me/one ({old[:12]})", "12.1 kB"],
            ["deleted 12.1 kB"],
        ]
        assert not Path(older).exists()
        assert not Path(shared).exists()
        assert not cache.blob(SHA256).exists()
        assert busy.exists()
        assert {path.name for path in cache.folder.glob("snapshots/*")} == {newer}
        assert files("me/one") == {MODEL, "config.json"}
        assert files("me/two") == {MODEL}
        assert Path(hf_hub_download("me/one", "config.json", local_files_only=True)).exists()

    def test_a_revision_that_has_the_very_file_is_kept(self, served: LoopbackHub, zoo: Zoo) -> None:
        theirs = hf_hub_download("me/one", MODEL)
        served.add("me/one", {MODEL: FIRST, "README.md": b"new"})
        zoo("weights", "pin", "resnet18.one")
        assert printed(zoo("weights", "path", "resnet18.one"))
        nothing = zoo("weights", "prune", "--yes")
        assert nothing.stderr == "zoo: there is nothing to delete\n"
        assert Path(theirs).exists()

    def test_the_newest_that_another_program_fetched_is_kept(
        self, served: LoopbackHub, zoo: Zoo
    ) -> None:
        zoo("weights", "pull", "resnet18.one")
        served.add("me/one", {MODEL: SECOND})
        theirs = hf_hub_download("me/one", MODEL)
        assert zoo("weights", "prune", "--yes").stderr == "zoo: there is nothing to delete\n"
        assert Path(theirs).read_bytes() == SECOND

    def test_what_was_never_used_may_be_any_revision(self, served: LoopbackHub, zoo: Zoo) -> None:
        commit = served.commits("me/one")[0].id
        file = hf_hub_download("me/one", MODEL, revision=commit)
        assert zoo("weights", "prune", "--yes").stderr == "zoo: there is nothing to delete\n"
        assert Path(file).exists()

    @pytest.mark.parametrize(("answer", "left"), [("n\n", True), ("\n", True), ("y\n", False)])
    def test_asks_on_a_terminal(
        self, served: LoopbackHub, zoo: Zoo, answer: str, left: bool
    ) -> None:
        zoo("weights", "pull", "resnet18.one")
        told = on_terminal(["weights", "prune", "resnet18.one"], answer)
        assert "Delete 12.1 kB? [y/N]: " in told
        assert Repository("me/one").blob(SHA256).exists() == left


def files(name: str) -> set[str]:
    return {path.name for path in Repository(name).folder.glob("snapshots/*/*") if path.exists()}


def on_terminal(arguments: list[str], answer: str) -> str:
    """Run the command on a pseudo-terminal, and type an answer."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
    command = [str(Path(sys.executable).parent / "zoo"), *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        os.write(ours, answer.encode())
        told = b""
        with suppress(OSError):  # Linux says so when the other side is closed
            while block := os.read(ours, 65536):
                told += block
    os.close(ours)
    return told.decode()


class TestLicenceOfBuilds:
    def test_a_build_refuses_other_licences(
        self, served: LoopbackHub, zoo: Zoo, one_error: OneError
    ) -> None:
        for command in (["build", "resnet18.two"], ["predict", "resnet18.two", "cat.png"]):
            error = one_error(zoo(*command, "--license", "mit,bsd-3-clause"), code=1)
            assert error == (
                "zoo-resnet:resnet18.two has licence apache-2.0; accepted are bsd-3-clause, mit "
                "(--license)"
            )
        assert served.requests == []

    def test_a_saved_model_takes_no_licence(self, zoo: Zoo, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        finished = zoo("predict", tmp_path, "cat.png", "--license", "mit")
        assert finished.returncode == 2
        assert finished.stderr.startswith("Error: --license: a saved model is used as it is")

    @pytest.mark.parametrize("licences", ["mit", [1], ["mit", None]])
    def test_python_wants_a_collection_of_names(self, licences: Any) -> None:
        import zoo_core as zoo

        with pytest.raises(zoo.ZooError, match="licences are a collection of names"):
            zoo.build("resnet18", licences=licences)


def test_names_are_completed(served: LoopbackHub, zoo: Zoo) -> None:
    def completed(line: str) -> list[str]:
        count = str(len(line.split(" ")) - 1)
        request = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": count}
        return [row.partition(",")[2] for row in printed(zoo(**request)).splitlines()]

    assert completed("zoo weights p") == ["path", "pin", "prune", "pull"]
    assert completed("zoo weights pull resnet18.t") == ["resnet18.two", "resnet18.tv_in1k"]
    assert completed("zoo weights verify net") == ["net.nc", "net.bad"]
    assert completed("zoo weights pull resnet18.one resnet18.o") == ["resnet18.one"]
    assert served.requests == []
