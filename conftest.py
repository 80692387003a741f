"""What holds for all tests, those of the plugins too."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import pytest

# Neither tests nor their children read or write the configuration of whoever runs them.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="zoo-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; children inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes minutes; run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was() -> Iterator[None]:
    """Let a test that leaves torch switched otherwise fail itself, not those that come after it."""
    before = _switches()
    yield
    left = [name for name, now in _switches().items() if now != before.get(name, now)]
    assert not left, f"the test left changed: {', '.join(left)}"


def _switches() -> dict[str, object]:
    """Torch's global switches; empty before torch is imported."""
    if "torch" not in sys.modules:
        return {}
    from zoo_core.testing.conformance.state import SETTINGS

    return {name: setting.read() for name, setting in SETTINGS.items() if "torch" in name}
