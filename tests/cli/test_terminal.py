"""What a terminal shows: colours, width, help, versions, traces, and pipes that close early."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from zoo_core import __version__

Zoo = Callable[..., CompletedProcess[str]]
Terminal = Callable[..., str]

BIN = Path(sys.executable).parent
COMMANDS = [
    "list",
    "info",
    "plugins",
    "weights",
    "build",
    "data",
    "train",
    "evaluate",
    "predict",
    "explain",
    "export",
    "push",
    "check",
    "new",
    "install",
    "uninstall",
    "doctor",
    "completion",
]
BOLD = "\x1b[1m"


@pytest.mark.parametrize("line", ["list decoder", "plugins", "info resnet50"])
def test_headers_are_bold_on_a_terminal_only(
    line: str, zoo: Zoo, zoo_on_terminal: Terminal
) -> None:
    piped = zoo(*line.split()).stdout
    assert "\x1b" not in piped
    shown = zoo_on_terminal(*line.split())
    bold = re.findall(r"^\x1b\[1m(.+)\x1b\[0m$", shown, re.MULTILINE)
    assert len(bold) == 1
    # Word by word: how wide the column of milliseconds is depends on how long plugins took.
    assert bold[0].split() in [row.split() for row in piped.splitlines()]
    assert shown.count("\x1b") == 2
    assert "\x1b" not in zoo_on_terminal(*line.split(), NO_COLOR="1")
    assert BOLD in zoo_on_terminal(*line.split(), NO_COLOR="")  # empty means unset: no-color.org


def test_json_is_never_styled(zoo_on_terminal: Terminal) -> None:
    assert "\x1b" not in zoo_on_terminal("list", "decoder", "--json")


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_tables_fit_a_narrow_terminal(columns: int, zoo_on_terminal: Terminal) -> None:
    lines = zoo_on_terminal("list", columns=columns, NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= columns
    starts = [match.start() for match in re.finditer(r"(?:(?<=  )|^)\S", lines[0])]
    firsts = [line for line in lines[1:] if not line.startswith(" ")]
    assert {"resnet18", "resnet50", "cbam", "unet"} <= {line.split()[0] for line in firsts}
    for line in lines[1:]:
        assert all(line[start - 2 : start].strip() == "" for start in starts[1:]), line
    together = re.sub(r"\s+", "", "".join(lines))
    assert "zoo-vit" in together


def test_a_wide_terminal_shows_what_a_pipe_gets(zoo: Zoo, zoo_on_terminal: Terminal) -> None:
    assert zoo_on_terminal("list", columns=250, NO_COLOR="1") == zoo("list").stdout


def test_a_reader_that_leaves_early_sees_no_trace() -> None:
    for line in ("list 'timm/*'", "list 'timm/*' --json", "list"):
        piped = f"set -o pipefail; {shlex.quote(str(BIN / 'zoo'))} {line} | head -1"
        finished = subprocess.run(
            ["bash", "-c", piped], capture_output=True, text=True, check=False
        )
        assert finished.stderr == ""
        assert len(finished.stdout.splitlines()) == 1


def test_the_version_is_told(zoo: Zoo) -> None:
    assert zoo("--version").stdout == f"zoo, version {__version__}\n"


def test_python_runs_the_package_too() -> None:
    command = [sys.executable, "-m", "zoo_core", "list", "nosuch"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("Error: unknown kind 'nosuch'; kinds are ")


def test_help_names_every_command(zoo: Zoo) -> None:
    long, short, bare = zoo("--help"), zoo("-h"), zoo()
    assert long.stdout == short.stdout == bare.stderr
    named = re.findall(r"^  (\w+) +[A-Z]", long.stdout, re.MULTILINE)
    assert named[: len(COMMANDS)] == COMMANDS
    assert "zoo build resnet50+cbam+unet" in long.stdout


def examples(zoo: Zoo, command: str) -> list[str]:
    finished = zoo(command, "-h")
    assert finished.returncode == 0
    _, _, below = finished.stdout.partition("  Examples:\n")
    return [line.strip() for line in below.partition("\n\n")[0].splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples(command: str, zoo: Zoo) -> None:
    shown = examples(zoo, command)
    assert shown
    assert all(f"zoo {command}" in line for line in shown)
    assert max(map(len, zoo(command, "-h").stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["list", "info", "plugins"])
def test_examples_of_the_catalogues_commands_work(command: str, zoo: Zoo) -> None:
    for line in examples(zoo, command):
        before, _, arguments = line.partition("zoo ")
        environment: dict[str, Any] = dict(word.split("=") for word in before.split())
        finished = zoo(*shlex.split(arguments), **environment)
        assert (finished.returncode, finished.stderr) == (0, ""), line
        assert finished.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--debug", "build", "resnet50+nosuch"), ("build", "resnet50+nosuch", "--debug")],
)
def test_debug_shows_where_an_error_came_from(zoo: Zoo, arguments: tuple[str, ...]) -> None:
    plain = zoo("build", "resnet50+nosuch")
    assert "Traceback" not in plain.stderr
    traced = zoo(*arguments)
    assert traced.returncode != 0
    assert traced.stderr.startswith("Traceback (most recent call last):")
    last = traced.stderr.splitlines()[-1]
    assert last.endswith(plain.stderr.strip().removeprefix("Error: "))
    assert "UnknownComponentError" in last


def test_an_error_nobody_foresaw_is_one_line_that_says_how_to_see_more(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a\nb")

    monkeypatch.setattr("zoo_core.cli.catalogue.list_components", fail)
    result = invoke("list", code=1)
    assert result.stderr == ("Error: unexpected RuntimeError: a b ('zoo --debug …' shows where)\n")


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_any_locale_will_do(locale: str, zoo: Zoo) -> None:
    finished = zoo("list", "attention", LC_ALL=locale, LANG=locale)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "zoo-cbam" in finished.stdout


def test_a_bar_shows_progress_only_where_it_is_seen(
    zoo: Zoo, zoo_on_terminal: Callable[..., str], photos: dict[str, Path]
) -> None:
    predicting = ["predict", "resnet18", *photos.values(), "--json"]
    assert "100%" in zoo_on_terminal(*predicting)
    assert "%" not in zoo(*predicting).stderr
