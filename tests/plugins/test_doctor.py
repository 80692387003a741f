"""``zoo doctor``, on installations that are really broken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from zoo_core.catalogue import registry
from zoo_core.doctor import cache, endpoint
from zoo_core.doctor.finding import Finding, note, ok, problem, summary
from zoo_core.testing import Hang, LoopbackHub, Status

from .conftest import Dist, Install, Installed, one_spec

NAMES = """
@hookimpl
def zoo_sources():
    broken = lambda: 1 / 0
    return [Source(kind="backbone", prefix="far/", names=broken, spec=broken, target="a:B")]
"""
BROKEN = (
    Dist(name="bad-import", code="import surely_absent"),
    Dist(name="bad-module", entry_points={"net": "nowhere_at_all"}),
    Dist(name="bad-newer", requires=("zoo-core>=99",)),
    Dist(name="bad-division", code="1 / 0"),
    Dist(name="bad-needs", requires=("surely-absent>=2", "packaging<1")),
    Dist(name="bad-weights", code="@hookimpl\ndef zoo_weights(): raise OSError('no disk')\n"),
    Dist(name="bad-names", code=NAMES),
    Dist(name="bad-command", code="@hookimpl\ndef zoo_register_commands(cli): cli.name.x\n"),
    Dist(name="bad-slow", code="import numpy\n"),
    Dist(name="blocked", code=one_spec("hidden")),
    Dist(name="twin-a", code=one_spec("twin")),
    Dist(name="twin-b", code=one_spec("twin")),
)
RECORD = "known-weights.json"

# Runs the doctor, and prints the heavy modules of its own process as the last line.
CODE = """
import atexit, sys
heavy = {"torch", "torchvision", "timm", "matplotlib"}
atexit.register(lambda: print(sorted(heavy & sys.modules.keys()), file=sys.stderr))
sys.argv = ["zoo", "doctor", "--json"]
from zoo_core.cli import main
main()
"""


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    """Everything that can be broken at once: torch too, and a second, ancient click."""
    installed = install(*BROKEN)
    torch = installed.folder / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise ImportError('libcudart.so.99: cannot open')\n")
    for name in ("click-0.1", "torch-2.0"):
        metadata = installed.folder / f"{name}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        distribution, _, version = name.partition("-")
        metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    config = installed.folder.parent / "config" / "zoo"
    config.mkdir(parents=True)
    (config / "registry.yaml").write_text("weights:\n  - component: [\n")
    (config / RECORD).write_text("{")
    return installed


@pytest.fixture(scope="module")
def run(installed: Installed) -> CompletedProcess[str]:
    # No folder can be made below a file, not even by root.
    broken_home = installed.folder / "torch" / "__init__.py"
    return installed.python(
        "-c",
        CODE,
        HF_HUB_CACHE=str(broken_home / "hub"),
        HF_ENDPOINT="http://127.0.0.1:1",
        ZOO_BLOCK_PLUGINS="blocked,absent-one",
        ZOO_STRICT="1",
    )


@pytest.fixture(scope="module")
def findings(run: CompletedProcess[str]) -> list[Finding]:
    return [Finding(**one) for one in json.loads(run.stdout)]


def about(findings: Iterable[Finding], name: str) -> list[Finding]:
    return [one for one in findings if one.about.split()[0] == name and one.level != "ok"]


def test_a_broken_installation_exits_with_1_and_torch_is_never_imported(
    run: CompletedProcess[str],
) -> None:
    assert run.returncode == 1, run.stderr
    assert run.stderr == "[]\n"


@pytest.mark.parametrize(
    "expected",
    [
        problem(
            "bad-import 1.0",
            "fails to load: ModuleNotFoundError: No module named 'surely_absent'",
            "pip install --upgrade bad-import, or install what gives the module surely_absent",
        ),
        problem(
            "bad-module 1.0",
            "fails to load: its entry point names the module nowhere_at_all, which is not there",
            "pip install --force-reinstall bad-module",
        ),
        problem(
            "bad-newer 1.0",
            "fails to load: needs zoo-core>=99, and zoo-core 0.1.0 is installed",
            "pip install --upgrade zoo-core bad-newer",
        ),
        problem(
            "zoo-core",
            "version 0.1.0 is installed, and bad-newer 1.0 needs zoo-core>=99",
            "pip install --upgrade zoo-core bad-newer",
        ),
        problem(
            "bad-division 1.0",
            "fails to load: ZeroDivisionError: division by zero",
            "zoo uninstall bad-division",
        ),
        problem(
            "surely-absent",
            "is not installed, and bad-needs 1.0 needs surely-absent>=2",
            "pip install 'surely-absent>=2'",
        ),
        problem("bad-weights 1.0", "zoo_weights: OSError: no disk", "zoo uninstall bad-weights"),
        problem(
            "bad-names 1.0",
            "far/… of bad-names cannot be listed: ZeroDivisionError: division by zero",
            "zoo uninstall bad-names",
        ),
        problem(
            "bad-command 1.0",
            "zoo_register_commands: AttributeError: 'NoneType' object has no attribute 'x'",
            "zoo uninstall bad-command",
        ),
        note(
            "bad-slow 1.0",
            "its catalogue imports numpy, which slows every command down",
            "pip install --upgrade bad-slow",
        ),
        note(
            "blocked 1.0",
            "is not loaded: named in ZOO_BLOCK_PLUGINS",
            "unset ZOO_BLOCK_PLUGINS",
        ),
        note(
            "plugins",
            "ZOO_BLOCK_PLUGINS names absent-one, which is not installed",
            "unset ZOO_BLOCK_PLUGINS",
        ),
        problem(
            "torch",
            "cannot be used: ImportError: libcudart.so.99: cannot open",
            "pip install --force-reinstall torch torchvision",
        ),
        problem(
            "torch",
            "version 2.0 is installed, and zoo-core 0.1.0 needs torch>=2.13",
            "pip install 'torch>=2.13'",
        ),
        problem(
            "click",
            "version 0.1 is installed, and zoo-core 0.1.0 needs click>=8.4.2",
            "pip install 'click>=8.4.2'",
        ),
    ],
    ids=lambda expected: f"{expected.about.partition(' ')[0]}-{expected.level}",
)
def test_each_breakage_is_told_with_what_mends_it(
    findings: list[Finding], expected: Finding
) -> None:
    assert expected in about(findings, expected.about.split()[0])


def test_a_requirement_on_an_installed_version_is_compared(findings: list[Finding]) -> None:
    [found] = about(findings, "packaging")
    assert found.level == "problem"
    assert found.found.endswith(" is installed, and bad-needs 1.0 needs packaging<1")


def test_one_name_of_two_distributions_is_a_note_with_the_pin(
    findings: list[Finding], installed: Installed
) -> None:
    file = installed.folder.parent / "config" / "zoo" / "registry.yaml"
    [found] = about(findings, "backbone")
    assert found == note(
        "backbone twin",
        "is given by twin-a:twin and twin-b:twin, so 'twin' means neither",
        f"write 'pins: {{twin: twin-a}}' into {file}",
    )


def test_a_second_copy_of_a_distribution_is_told_with_both_places(
    findings: list[Finding], installed: Installed
) -> None:
    [found] = [one for one in about(findings, "click") if "times" in one.found]
    assert found.level == "note"
    assert found.found.startswith(f"is installed 2 times: 0.1 in {installed.folder}, 8.")
    assert found.remedy == "pip uninstall click, until it is gone, then pip install click"


def test_files_of_the_user_that_cannot_be_read_are_told_with_their_places(
    findings: list[Finding], installed: Installed
) -> None:
    config = installed.folder.parent / "config" / "zoo"
    registry_file = config / "registry.yaml"
    [found] = [one for one in about(findings, "registry") if one.level == "problem"]
    assert found.found.startswith(f"{registry_file}:3:1: ")
    assert found.remedy == f"mv {registry_file} {registry_file}.aside"
    [found] = about(findings, "known")
    assert found.found.startswith(f"{config / RECORD}: the record of hashes is damaged ")
    assert found.remedy == f"rm {config / RECORD}"


def test_a_cache_that_cannot_be_written_and_a_hub_that_does_not_answer_are_told(
    findings: list[Finding], installed: Installed
) -> None:
    [found] = [one for one in about(findings, "cache") if one.level == "problem"]
    home = installed.folder / "torch" / "__init__.py"
    assert found.found == f"{home / 'hub'} cannot be written: Not a directory"
    [found] = about(findings, "endpoint")
    assert found.found.startswith("http://127.0.0.1:1 cannot be reached (ConnectError: ")
    assert found.level == "problem"


def test_a_good_installation_has_no_problem_and_exits_with_0(
    install: Install, tmp_path: Path
) -> None:
    done = install(Dist(name="good-net", code=one_spec("goodnet"))).zoo(
        "doctor", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    header, *rows, empty, last = done.stdout.splitlines()
    assert header.split() == ["state", "about", "found", "what", "mends", "it"]
    assert {row.split()[0] for row in rows} == {"ok", "note"}
    told = {row.split()[1]: row for row in rows if row.startswith("ok")}
    assert {"python", "zoo-core", "torch", "requirements", "plugins", "cache", "cpu"} <= set(told)
    assert "HF_HUB_OFFLINE is set, so nothing is fetched" in done.stdout
    assert empty == ""
    assert last.startswith("no problems, ")


def test_the_hub_answers(loopback_hub: LoopbackHub) -> None:
    assert list(endpoint.examine()) == [ok("endpoint", f"{loopback_hub.endpoint} answers")]


def test_the_token_is_taken_or_not(
    loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_some_token")
    assert ok("token", "it is taken") in endpoint.examine()
    loopback_hub.fault(Status(401), path="/api/whoami-v2")
    refused = f"{loopback_hub.endpoint} does not take it (401)"
    assert problem("token", refused, "hf auth login") in endpoint.examine()


@pytest.mark.parametrize(
    ("fault", "reason"), [(Status(503), "it answers 503"), (Hang(), "no answer within 1 s")]
)
def test_a_hub_that_fails_is_a_problem(
    fault: Status | Hang, reason: str, loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "LIMIT", 1.0)
    loopback_hub.fault(fault)
    [found] = endpoint.examine()
    where = loopback_hub.endpoint
    assert found.level == "problem"
    assert found.found.startswith(f"{where} cannot be reached (")
    assert reason in found.found or "ReadTimeout" in found.found
    assert "HF_HUB_OFFLINE=1" in found.remedy


def test_a_variable_that_is_no_address_is_named(
    loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "nonsense")
    [found] = endpoint.examine()
    told = "HF_ENDPOINT is 'nonsense', which is no address such as https://huggingface.co"
    assert found == problem("endpoint", told, "unset HF_ENDPOINT")
    assert loopback_hub.requests == []


def test_what_a_broken_download_left_is_a_note(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    left = tmp_path / "huggingface" / "hub" / "models--me--my--net" / "blobs" / "ab.incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(2_500_000))
    found = "me/my--net: a download was broken off and left 2.5 MB"
    assert note("cache", found, f"rm {left}") in cache.examine()
    assert loopback_hub.requests == []


def test_a_cached_file_of_the_wrong_size_or_head_is_a_problem(
    loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    entry = registry.find_weights("resnet18.a1_in1k")
    loopback_hub.add(entry.repository, {"model.safetensors": b"\x08" + bytes(7) + b"{}      "})
    from zoo_core.store import fetch

    path = fetch(entry).path
    assert [one.level for one in cache.examine()] == ["ok", "ok"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    [found] = [one for one in cache.examine() if one.level != "ok"]
    assert found.about == "resnet18.a1_in1k"
    assert found.found.endswith("has 15 bytes, and should have 16")
    assert found.remedy == "zoo weights pull resnet18.a1_in1k"
    path.write_bytes(b"x" * len(whole))
    [found] = [one for one in cache.examine() if one.level != "ok"]
    assert "safetensors" in found.found


@pytest.mark.parametrize(("free", "level"), [(6e9, "ok"), (4.9e9, "note"), (1.9e8, "problem")])
def test_room_is_judged(free: float, level: str) -> None:
    found = cache.judge_room(Path("/some/hub"), int(free))
    assert found.level == level
    assert found.found == f"/some/hub: {free / 1e9:.1f} GB free"
    assert bool(found.remedy) == (level != "ok")


def test_counts_are_told_in_words() -> None:
    assert summary([ok("a", "b")]) == "no problems, no notes"
    found = [problem("a", "b", "c"), note("a", "b"), note("a", "b")]
    assert summary(found) == "1 problem, 2 notes"
