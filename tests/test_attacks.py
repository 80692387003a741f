"""The zoo refuses every attack, in the words that the documentation shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import table
from attacks.attack import Attack, mounted
from attacks.catalogue import CONTROL, GROUPS
from attacks.stage import ZOO

PATIENCE = 3.0
ATTACKS = list(table.everything())


@pytest.fixture(scope="module")
def shown() -> str:
    return table.DOCUMENT.read_text(encoding="utf-8")


def test_without_an_attack_the_weights_are_loaded(tmp_path: Path) -> None:
    outcome, ended = mounted(CONTROL, ZOO, tmp_path / "stage")
    assert outcome.kind == "harmless", ended


@pytest.mark.parametrize(
    "attack",
    ATTACKS,
    ids=lambda attack: attack.name,
)
def test_the_zoo_refuses_as_documented(attack: Attack, tmp_path: Path, shown: str) -> None:
    outcome, ended = mounted(attack, ZOO, tmp_path / "stage", patience=PATIENCE)
    assert outcome.kind == "refused", (outcome, ended)
    assert outcome.own, (outcome, ended)
    assert table.message(attack, outcome) in shown.splitlines()


def test_the_table_has_every_attack_and_the_zoo_refused_it(shown: str) -> None:
    rows = [line.split(" | ")[:2] for line in shown.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row[1] == "refused"] == [
        [f"| {attack.title}", "refused"] for attack in ATTACKS
    ]


def test_there_are_attacks_enough_and_no_two_of_one_name() -> None:
    assert len(ATTACKS) == len({attack.name for attack in ATTACKS}) >= 28
    for attacks in GROUPS.values():
        assert len(attacks) == len({attack.title for attack in attacks})
    assert all(ZOO in attack.mounts for attack in ATTACKS)


@pytest.mark.long
def test_every_library_can_be_attacked(shown: str) -> None:
    results = table.run_all()
    assert len(results) == sum(len(attack.mounts) for attack in ATTACKS)
    assert "crashed" not in {outcome.kind for outcome in results.values()}
