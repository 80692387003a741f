"""What holds for the tests of all plugins."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _random_numbers_of_its_own() -> None:
    """Give each test the same random numbers, whichever tests ran before it.

    Else initial values now and then rest a layer of four units, and with it all that is behind.
    """
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
