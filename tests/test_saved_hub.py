"""Saved models from a hub on this machine: verified, of one commit, and never silently old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download

from zoo_core import MultitaskModel
from zoo_core.errors import SavedModelError, ZooWarning
from zoo_core.store import hub
from zoo_core.store.cache import Repository
from zoo_core.testing import Header, LoopbackHub, Redirect, Status, Tampered

FORMAT_1 = Path(__file__).parent / "fixtures" / "saved-format-1"
NAME = "me/net"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("saved")
    MultitaskModel.from_pretrained(FORMAT_1).save_pretrained(folder)
    return folder


@pytest.fixture
def served(loopback_hub: LoopbackHub, saved: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """A hub with the model, and a client that soon loses patience."""
    put(loopback_hub, saved)
    monkeypatch.setattr(hub, "_PAUSES", (0.01, 0.01))
    return loopback_hub


def put(served: LoopbackHub, folder: Path, revision: str = "main") -> str:
    files = {path.name: path for path in folder.iterdir()}
    return served.add(NAME, files, revision=revision)


def same(one: MultitaskModel, other: MultitaskModel) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[name], theirs[name]) for name in mine
    )


def asked(served: LoopbackHub) -> list[str]:
    """What was asked for since the last call: method, revision and file."""
    told = [
        f"{method} {path.rpartition('/resolve/')[2]}"
        for method, path in served.requests
        if "/resolve/" in path
    ]
    served.log.clear()
    return told


def refusal(name: str = NAME, **options: object) -> str:
    with pytest.raises(SavedModelError) as caught:
        MultitaskModel.from_pretrained(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_is_fetched_once_and_the_branch_asked_for(served: LoopbackHub, saved: Path) -> None:
    here = MultitaskModel.from_pretrained(saved)
    [commit] = served.commits(NAME)
    model = MultitaskModel.from_pretrained(NAME)
    assert same(model, here)
    assert model.load_report is not None
    assert model.load_report.source == f"{NAME} ({commit.id})"
    assert asked(served) == [
        "HEAD main/config.json",
        f"GET {commit.id}/config.json",
        f"HEAD {commit.id}/{WEIGHTS}",
        f"GET {commit.id}/{WEIGHTS}",
    ]
    assert same(MultitaskModel.from_pretrained(NAME), here)
    assert asked(served) == ["HEAD main/config.json"]
    theirs = Path(hf_hub_download(NAME, WEIGHTS, local_files_only=True))
    assert theirs.parent.name == commit.id


def test_what_the_hub_client_cached_is_used(served: LoopbackHub) -> None:
    for name in ("config.json", WEIGHTS):
        hf_hub_download(NAME, name)
    asked(served)
    MultitaskModel.from_pretrained(NAME)
    assert asked(served) == ["HEAD main/config.json"]
    MultitaskModel.from_pretrained(NAME, local_files_only=True)
    assert asked(served) == []


def test_a_cached_commit_is_not_asked_for(served: LoopbackHub, saved: Path) -> None:
    [commit] = served.commits(NAME)
    MultitaskModel.from_pretrained(NAME, revision=commit.id)
    asked(served)
    put(served, FORMAT_1)
    assert same(
        MultitaskModel.from_pretrained(NAME, revision=commit.id),
        MultitaskModel.from_pretrained(saved),
    )
    assert asked(served) == []


def test_a_branch_that_moved_is_followed_and_never_mixed(
    served: LoopbackHub, saved: Path, tmp_path: Path
) -> None:
    MultitaskModel.from_pretrained(NAME)
    model = MultitaskModel.from_pretrained(saved, num_classes_classification=9)
    model.save_pretrained(tmp_path / "next")
    commit = put(served, tmp_path / "next")
    served.fault(Status(500), path=f"*/{WEIGHTS}")
    with pytest.warns(ZooWarning, match=r"there may be a newer one") as caught:
        old = MultitaskModel.from_pretrained(NAME)
    assert old.num_classes_classification == 4
    assert f"{served.endpoint} cannot be reached" in str(caught[0].message)
    served.heal()
    new = MultitaskModel.from_pretrained(NAME)
    assert new.num_classes_classification == 9
    assert new.load_report is not None
    assert commit in new.load_report.source


def test_branches_are_told_apart(served: LoopbackHub, saved: Path, tmp_path: Path) -> None:
    model = MultitaskModel.from_pretrained(saved, num_classes_classification=9)
    model.save_pretrained(tmp_path / "trial")
    put(served, tmp_path / "trial", revision="feature/trial")
    trial = MultitaskModel.from_pretrained(NAME, revision="feature/trial")
    assert trial.num_classes_classification == 9
    assert MultitaskModel.from_pretrained(NAME).num_classes_classification == 4
    offline = MultitaskModel.from_pretrained(NAME, revision="feature/trial", local_files_only=True)
    assert offline.num_classes_classification == 9


@pytest.mark.parametrize("fault", [Status(503), Status(429), Header("X-Repo-Commit", None)])
def test_a_hub_that_fails_never_serves_what_is_old_in_silence(
    served: LoopbackHub, fault: Status
) -> None:
    MultitaskModel.from_pretrained(NAME)
    served.fault(fault)
    if isinstance(fault, Header):
        assert "the server names a commit '', which is none" in refusal()
        return
    with pytest.warns(
        ZooWarning, match="so me/net is taken from the cache, at commit [0-9a-f]{40}"
    ):
        MultitaskModel.from_pretrained(NAME)
    message = refusal(force_download=True)
    assert f"me/net cannot be fetched, and {served.endpoint} cannot be reached" in message
    message = refusal("me/other")
    assert "me/other is not in the cache, and " in message
    assert f"answers {fault.code}" in message


def test_offline_uses_the_cache_alone(
    served: LoopbackHub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(local_files_only=True) == (
        "me/net cannot be loaded from the Hub: me/net is not in the cache, and local_files_only is "
        "set"
    )
    MultitaskModel.from_pretrained(NAME)
    asked(served)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(MultitaskModel.from_pretrained(NAME), MultitaskModel.from_pretrained(saved))
    assert "revision v2 of me/net is not in the cache, and HF_HUB_OFFLINE is set" in (
        refusal(revision="v2")
    )
    assert "me/net is not in the cache, and HF_HUB_OFFLINE is set" in refusal(force_download=True)
    assert asked(served) == []


def test_a_download_can_be_forced(served: LoopbackHub) -> None:
    [commit] = served.commits(NAME)
    MultitaskModel.from_pretrained(NAME)
    asked(served)
    MultitaskModel.from_pretrained(NAME, force_download=True)
    MultitaskModel.from_pretrained(NAME, force_download=True, revision=commit.id)
    assert [line for line in asked(served) if line.startswith("GET")] == [
        f"GET {commit.id}/config.json", f"GET {commit.id}/{WEIGHTS}",
    ] * 2  # fmt: skip
    message = refusal(force_download=True, local_files_only=True)
    assert "force_download and local_files_only contradict each other" in message


def test_a_folder_for_the_cache_can_be_given(served: LoopbackHub, tmp_path: Path) -> None:
    MultitaskModel.from_pretrained(NAME, cache_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "models--me--net" / "snapshots").is_dir()
    assert not Repository(NAME).folder.exists()
    MultitaskModel.from_pretrained(NAME, cache_dir=tmp_path / "mine", local_files_only=True)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_tampered_body_is_refused_and_not_kept(served: LoopbackHub, name: str) -> None:
    served.fault(Tampered(), path=f"*/{name}")
    message = refusal()
    assert f"{name} of {NAME}: what {served.endpoint} sent has the hash " in message
    served.heal()
    MultitaskModel.from_pretrained(NAME)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_damaged_file_of_the_cache_is_fetched_again(
    served: LoopbackHub, saved: Path, name: str
) -> None:
    MultitaskModel.from_pretrained(NAME)
    [file] = Repository(NAME).folder.glob(f"snapshots/*/{name}")
    whole = file.read_bytes()
    file.resolve().write_bytes(whole[:-2] + b"\n" + whole[-1:])
    with pytest.warns(ZooWarning, match="; it is deleted, and fetched again"):
        model = MultitaskModel.from_pretrained(NAME)
    assert same(model, MultitaskModel.from_pretrained(saved))
    assert file.read_bytes() == whole


def test_a_damaged_file_is_not_used_offline_either(served: LoopbackHub) -> None:
    MultitaskModel.from_pretrained(NAME)
    [file] = Repository(NAME).folder.glob("snapshots/*/config.json")
    file.resolve().write_text("{}")
    with pytest.warns(ZooWarning, match="does not have its git hash"):
        assert "is not in the cache, and local_files_only is set" in refusal(local_files_only=True)


def test_a_repository_whose_files_do_not_belong_together_is_refused(
    served: LoopbackHub, saved: Path, tmp_path: Path
) -> None:
    file = tmp_path / WEIGHTS
    changed = bytearray((saved / WEIGHTS).read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    served.add(NAME, {"config.json": saved / "config.json", WEIGHTS: file})
    assert "these tensors do not have the values that were saved: " in refusal()


def test_a_model_of_the_first_format_comes_from_a_hub(served: LoopbackHub) -> None:
    put(served, FORMAT_1)
    assert same(MultitaskModel.from_pretrained(NAME), MultitaskModel.from_pretrained(FORMAT_1))


def test_heads_can_be_replaced_from_a_hub(served: LoopbackHub) -> None:
    model = MultitaskModel.from_pretrained(NAME, num_classes_classification=7, seed=1)
    assert model.num_classes_classification == 7


@pytest.mark.parametrize(
    "revision", ["../..", "..", "a/../b", "/etc", "a//b", "", "a b", "a\n", ".hidden", "ä", 3]
)
def test_a_revision_never_becomes_another_path(served: LoopbackHub, revision: str) -> None:
    message = refusal(revision=revision)
    assert f"revision {revision!r} is no branch, tag or commit" in message
    assert asked(served) == []


@pytest.mark.parametrize("name", ["me/..", "me/a b", "me/a--b", "-me/net", "me/n?t", "me/nät"])
def test_a_name_never_becomes_another_path(served: LoopbackHub, name: str) -> None:
    assert refusal(name) == (
        f"there is no such folder, and {name!r} is not a repository 'owner/name'"
    )
    assert asked(served) == []


@pytest.mark.parametrize("tag", ["../../evil", "0" * 41, ""])
def test_what_a_server_says_never_becomes_a_path(
    served: LoopbackHub, tag: str, tmp_path: Path
) -> None:
    served.fault(Header("ETag", tag))
    assert "as its hash, which is none" in refusal()
    served.heal()
    served.fault(Header("X-Repo-Commit", "../../../evil"))
    assert "names a commit '../../../evil', which is none" in refusal()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_commit_that_the_server_swaps_is_refused(served: LoopbackHub) -> None:
    [commit] = served.commits(NAME)
    served.fault(Header("X-Repo-Commit", "1" * 40), path=f"*/{WEIGHTS}")
    message = refusal()
    assert f"asked for commit {commit.id}, the server answers with {'1' * 40}" in message
    served.heal()
    served.fault(Header("X-Repo-Commit", "1" * 40))
    assert "the server answers with" in refusal(revision=commit.id)


def test_a_huge_configuration_is_not_downloaded(served: LoopbackHub, saved: Path) -> None:
    served.add(NAME, {"config.json": b" " * 1_000_001, WEIGHTS: saved / WEIGHTS})
    assert "config.json of me/net has 1,000,001 bytes; at most 1,000,000 are read" in refusal()
    assert not [line for line in asked(served) if line.startswith("GET")]


def test_what_is_not_there_is_told(served: LoopbackHub, saved: Path) -> None:
    end = f"{served.endpoint} has no repository me/other, or it is private: then 'hf auth login' is"
    assert refusal("me/other").startswith(f"me/other cannot be loaded from the Hub: {end}")
    assert "me/net has no revision v9" in refusal(revision="v9")
    served.add("me/empty", {WEIGHTS: saved / WEIGHTS})
    assert "me/empty has no file config.json" in refusal("me/empty")
    served.add("me/half", {"config.json": saved / "config.json"})
    assert "me/half has no file model.safetensors" in refusal("me/half")


def test_private_and_gated_models_need_a_token(served: LoopbackHub) -> None:
    served.make_private(NAME, "hf_mine")
    assert "or it is private: then 'hf auth login' is needed" in refusal()
    MultitaskModel.from_pretrained(NAME, token="hf_mine")
    assert "or it is private" in refusal(token=False)
    served.add("me/gated", {"config.json": b"{}"})
    served.gate("me/gated")
    assert "is gated at" in refusal("me/gated")


def test_a_token_goes_to_nobody_else(served: LoopbackHub, saved: Path) -> None:
    with LoopbackHub() as other:
        put(other, saved)
        served.fault(Redirect(other.endpoint), method="GET", path=f"*/{WEIGHTS}")
        MultitaskModel.from_pretrained(NAME, token="hf_secret")
        assert {"authorization" in request.headers for request in served.log} == {True}
        assert other.log
        assert not any("authorization" in request.headers for request in other.log)


def test_a_dead_hub_costs_one_line(tmp_path: Path) -> None:
    code = """
import zoo_core as zoo
try:
    zoo.MultitaskModel.from_pretrained("me/net")
except zoo.ZooError as error:
    print(error)
"""
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(
        "me/net cannot be loaded from the Hub: me/net is not in the cache, and http://127.0.0.1:9 "
        "cannot be reached ("
    )
    assert done.stderr == ""
