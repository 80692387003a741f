"""A plugin of pytest: the fixture ``loopback_hub``, a Hub on this machine, and ``--zoo-check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from zoo_core.testing.hub import LoopbackHub

UNSET: Final = (
    "HF_ASSETS_CACHE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_OFFLINE",
    "HF_OIDC_RESOURCE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HF_XET_CACHE",
    "HUGGINGFACE_ASSETS_CACHE",
    "HUGGINGFACE_CO_STAGING",
    "HUGGINGFACE_HUB_CACHE",
    "HUGGING_FACE_HUB_TOKEN",
    "TRANSFORMERS_OFFLINE",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the conformance rules."""
    parser.addoption(
        "--zoo-check",
        action="append",
        default=[],
        metavar="DIST|NAME",
        help="also run the zoo's rules on a plugin or component, as zoo check does",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add an item for each rule that was asked for, before others choose among the items."""
    names = config.getoption("--zoo-check")
    if names:
        from zoo_core.errors import ZooError
        from zoo_core.testing.conformance import collecting

        try:
            items += collecting.items(session, names)
        except ZooError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture
def loopback_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub on this machine that the client in this process and in child processes talks to.

    The client is not logged in, and its cache is empty: its files, and those of the zoo's
    configuration, go to folders in ``tmp_path``. Without this fixture, all is as before.
    """
    # The client reads the environment when it is imported, so that has to be before it changes.
    import huggingface_hub.hf_api
    from huggingface_hub import close_session

    from zoo_core.testing.hub import LoopbackHub

    home = tmp_path / "huggingface"
    home.mkdir()
    # Without this file, the first request of every child would be to ask for it.
    harnesses: dict[str, object] = {"standardEnvVars": [], "harnesses": {}}
    (home / ".agent_harnesses.json").write_text(json.dumps(harnesses), encoding="utf-8")
    with LoopbackHub() as hub:
        _set_environment(monkeypatch, hub.endpoint, home, tmp_path / "config")
        _set_constants(monkeypatch, hub.endpoint, home)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
        close_session()
        yield hub
        close_session()


def _set_environment(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path, config: Path
) -> None:
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    values = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "*",
        "XDG_CONFIG_HOME": str(config),
        "no_proxy": "*",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def _set_constants(monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path) -> None:
    """Set what the client has read from the environment, in all modules that have a copy."""
    values = {
        "AGENT_HARNESSES_PATH": str(home / ".agent_harnesses.json"),
        "CHECK_FOR_UPDATE_DONE_PATH": str(home / ".check_for_update_done"),
        "ENDPOINT": endpoint,
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_XET_CACHE": str(home / "xet"),
        "HUGGINGFACE_ASSETS_CACHE": str(home / "assets"),
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
    }
    for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "huggingface_hub"]:
        for name in values.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, values[name])
