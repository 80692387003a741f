"""Pushing to a hub on this machine, and loading what was pushed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from huggingface_hub import constants, get_session

from zoo_core import MultitaskModel
from zoo_core.cli import cli
from zoo_core.errors import SavedModelError, UsageError
from zoo_core.testing import Cut, Hang, LoopbackHub, Status

FORMAT_1 = Path(__file__).parent / "fixtures" / "saved-format-1"
IMAGES = torch.randn(1, 3, 64, 97, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hub(loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """A hub at which one is logged in."""
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    return loopback_hub


@pytest.fixture
def model() -> MultitaskModel:
    return MultitaskModel.from_pretrained(FORMAT_1)


@pytest.fixture
def folder(model: MultitaskModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "my-model")
    return tmp_path / "my-model"


def push(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["push", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def error(*arguments: object, code: int = 1) -> str:
    result = push(*arguments, code=code)
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def files(hub: LoopbackHub, name: str = "me/net") -> dict[str, bytes]:
    commit = hub.commits(name)[-1]
    return {name: b"".join(blob.read()) for name, blob in commit.files.items()}


def run(code: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


OUTPUTS = """
import json, torch
from zoo_core import MultitaskModel
model = MultitaskModel.from_pretrained("me/net")
images = torch.randn(1, 3, 64, 97, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    print(json.dumps({head: x.flatten().tolist() for head, x in model(images).items()}))
"""


def test_a_model_that_is_pushed_comes_back(
    hub: LoopbackHub, model: MultitaskModel, tmp_path: Path
) -> None:
    url = model.push_to_hub("me/net")
    assert str(url).startswith(f"{hub.endpoint}/me/net/commit/")
    assert files(hub).keys() == {"README.md", "config.json", "model.safetensors"}
    online = run(OUTPUTS, tmp_path, OMP_NUM_THREADS=str(torch.get_num_threads()))
    hub.log.clear()
    offline = run(
        OUTPUTS, tmp_path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(torch.get_num_threads())
    )
    assert hub.requests == []
    with torch.no_grad():
        here = {head: x.flatten().tolist() for head, x in model(IMAGES).items()}
    assert json.loads(online) == json.loads(offline) == here


def test_the_card_of_a_pushed_model_loads_it(
    hub: LoopbackHub, model: MultitaskModel, tmp_path: Path
) -> None:
    model.push_to_hub("me/net")
    card = files(hub)["README.md"].decode()
    assert card.startswith("---\nlibrary_name: zoo-core\nlicense: apache-2.0\n")
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert run(code, tmp_path) == "classification (1, 4)\nsegmentation (1, 3, 48, 64)\n"


def test_options_of_the_mixin_hold(hub: LoopbackHub, model: MultitaskModel, tmp_path: Path) -> None:
    model.push_to_hub("me/net", private=True, branch="trial", commit_message="first")
    assert [commit.title for commit in hub.commits("me/net")] == ["initial commit", "first"]
    loaded = MultitaskModel.from_pretrained("me/net", revision="trial")
    assert loaded.labels == model.labels
    with pytest.raises(SavedModelError, match=r"me/net has no file config\.json"):
        MultitaskModel.from_pretrained("me/net")
    model.save_pretrained(tmp_path / "here", push_to_hub=True, repo_id="me/other")
    assert 'from_pretrained("me/other")' in files(hub, "me/other")["README.md"].decode()
    assert 'from_pretrained("here")' in (tmp_path / "here" / "README.md").read_text()


def test_a_name_without_an_owner_is_ones_own(hub: LoopbackHub, model: MultitaskModel) -> None:
    model.push_to_hub("net")
    assert 'from_pretrained("loopback/net")' in files(hub, "loopback/net")["README.md"].decode()


def test_nothing_is_made_for_a_model_that_cannot_be_saved(
    hub: LoopbackHub, model: MultitaskModel
) -> None:
    assert model.classifier is not None
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(SavedModelError, match=r"classifier\.weight holds NaN"):
        model.push_to_hub("me/net")
    with pytest.raises(UsageError, match="'me/a b' is not a repository 'owner/name'"):
        MultitaskModel.from_pretrained(FORMAT_1).push_to_hub("me/a b")
    assert hub.requests == []


def test_the_command_pushes_a_folder(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("secret")
    (folder / "logs").mkdir()
    result = push(folder, "me/net", "--message", "ten epochs")
    assert result.stdout == f"{hub.endpoint}/me/net\n"
    assert result.stderr == (
        f"zoo: left out of {folder}, being no files of a model: logs, notes.txt\n"
    )
    pushed = files(hub)
    assert hub.commits("me/net")[-1].title == "ten epochs"
    assert pushed.keys() == {"README.md", "config.json", "model.safetensors"}
    for name in ("config.json", "model.safetensors"):
        assert pushed[name] == (folder / name).read_bytes()
    [code] = re.findall(r"```python\n(.*?)```", pushed["README.md"].decode(), re.DOTALL)
    assert run(code, tmp_path).startswith("classification (1, 4)\n")
    loaded, here = (MultitaskModel.from_pretrained(x) for x in ("me/net", folder))
    with torch.no_grad():
        theirs, mine = loaded(IMAGES), here(IMAGES)
    assert all(torch.equal(theirs[head], mine[head]) for head in mine)


def test_a_card_of_ones_own_is_pushed_as_it_is(hub: LoopbackHub, folder: Path) -> None:
    text = b"mine\r\n MultitaskModel.from_pretrained('x') from_pretrained(\"a/b\")"
    (folder / "README.md").write_bytes(text)
    push(folder, "me/net")
    assert files(hub)["README.md"] == text
    (folder / "README.md").write_bytes(b"\xff")
    assert "README.md: is no text in UTF-8" in error(folder, "me/net")


def test_a_branch_is_begun_and_json_is_printed(hub: LoopbackHub, folder: Path) -> None:
    shown = json.loads(push(folder, "me/net", "--branch", "trial", "--private", "--json").stdout)
    commit = hub.commits("me/net")[-1].id
    assert shown == {
        "repository": "me/net",
        "url": f"{hub.endpoint}/me/net/tree/trial",
        "commit": commit,
        "files": ["README.md", "config.json", "model.safetensors"],
        "left_out": [],
        "branch": "trial",
        "licence": "apache-2.0",
    }
    again = json.loads(push(folder, "me/net", "--revision", "trial", "--json").stdout)
    assert again["commit"] == commit
    MultitaskModel.from_pretrained("me/net", revision="trial", token="hf_mine")


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        (None, "zoo: the model's licence is not known, so the model card names none\n"),
        ("cc-by-nc-4.0", "zoo: the model may not be used commercially: cc-by-nc-4.0\n"),
    ],
)
def test_a_licence_that_asks_for_care_is_told_first(
    hub: LoopbackHub, model: MultitaskModel, tmp_path: Path, licence: str | None, told: str
) -> None:
    model.licence = licence
    model.save_pretrained(tmp_path / "net")
    assert push(tmp_path / "net", "me/net").stderr == told


def test_nothing_is_pushed_that_would_not_load(hub: LoopbackHub, folder: Path) -> None:
    changed = bytearray((folder / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (folder / "model.safetensors").write_bytes(changed)
    assert "these tensors do not have the values that were saved: " in error(folder, "me/net")
    (folder / "config.json").unlink()
    assert error(folder, "me/net") == (
        f"{folder}: there is no saved model here: it has no config.json"
    )
    assert "does not exist" in push(folder / "none", "me/net", code=2).stderr
    assert error(folder, "net", code=2) == "'net' is not a repository 'owner/name'"
    assert hub.requests == []


def test_a_folder_is_not_taken_for_a_repository(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, "me/net")
    assert push("me/net", "me/net").stdout == f"{hub.endpoint}/me/net\n"


def test_one_has_to_be_logged_in(
    loopback_hub: LoopbackHub, folder: Path, model: MultitaskModel
) -> None:
    assert error(folder, "me/net") == "you are not logged in to the Hub; 'hf auth login' does that"
    with pytest.raises(SavedModelError, match="you are not logged in to the Hub"):
        model.push_to_hub("me/net", token=False)
    assert loopback_hub.requests == []
    model.push_to_hub("me/net", token="hf_mine")
    api = [request for request in loopback_hub.log if request.path.startswith("/api/")]
    assert {request.headers["authorization"] for request in api} == {"Bearer hf_mine"}


@pytest.mark.parametrize(
    ("code", "path", "told"),
    [
        (401, "*", "answers 401 (no): your token is not accepted; 'hf auth login' sets another"),
        (403, "*", "answers 403 (no): your token may not write there; 'hf auth login' sets "),
        (500, "/api/repos/create", "answers 500 (no): the Hub cannot take it now; try again later"),
        (403, "*/commit/*", "answers 403 (no): your token may not write there"),
        (503, "*/commit/*", "answers 503 (no): the Hub cannot take it now; try again later"),
        (400, "*/validate-yaml", "answers 400 (no)"),
    ],
)
def test_a_refusal_costs_one_line(
    hub: LoopbackHub, folder: Path, model: MultitaskModel, code: int, path: str, told: str
) -> None:
    hub.fault(Status(code, "no"), method="POST", path=path)
    assert f"{hub.endpoint} {told}" in error(folder, "me/net") or code == 400
    with pytest.raises(SavedModelError, match=r"^me/net"):
        model.push_to_hub("me/net")


def test_a_hub_that_breaks_off_costs_one_line(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fault(Cut(10), method="POST", path="*/commit/*")
    assert error(folder, "me/net").startswith(f"me/net cannot be pushed to {hub.endpoint}: ")


def test_silence_has_a_limit(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo_core.saved.pushing._SILENCE", 0.5)
    hub.fault(Hang(), path="/api/repos/create")
    before = get_session().timeout
    assert error(folder, "me/net").startswith(f"me/net cannot be pushed to {hub.endpoint}: ")
    assert get_session().timeout == before


def test_offline_and_open_connections_are_refused(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert error(folder, "me/net") == "HF_HUB_OFFLINE is set, so nothing can be pushed"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("zoo_core.saved.pushing.HfApi", lambda token: api)
    api = type("Api", (), {"endpoint": "http://hub.example"})
    assert error(folder, "me/net") == (
        "http://hub.example would get your token over an open connection; HF_ENDPOINT must be https"
    )


def test_a_dead_hub_costs_one_line(folder: Path, run_zoo: Callable[..., object]) -> None:
    done = run_zoo("push", folder, "me/net", HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN="hf_mine")  # type: ignore[func-returns-value]
    assert done.returncode == 1
    assert done.stderr.startswith("Error: me/net cannot be pushed to http://127.0.0.1:9: ")
    assert len(done.stderr.splitlines()) == 1


def test_help_has_examples() -> None:
    shown = push("--help").stdout
    assert "zoo push my-model me/my-model" in shown
    assert "--private" in shown
