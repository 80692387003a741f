"""Completion in the shells themselves, where they are installed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Zoo = Callable[..., CompletedProcess[str]]

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
LINES = [
    ("zoo build resn", {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}),
    ("zoo build resnet50+cb", {"resnet50+cbam"}),
    ("zoo build resnet50+cbam@all+un", {"resnet50+cbam@all+unet"}),
    ("zoo build resnet50+cbam@1,3+un", {"resnet50+cbam@1,3+unet"}),
    ("zoo build timm/convnext_att", {"timm/convnext_atto", "timm/convnext_atto_ols"}),
    ("zoo info timm/resnet1", {"timm/resnet101", "timm/resnet152", "timm/resnet18"}),
    ("zoo info cb", {"cbam"}),
    ("zoo list dec", {"decoder"}),
    ("zoo build mul", {"multitask-small", "multitask-base"}),
    ("zoo list backbone resnet1", {"resnet18", "resnet101", "resnet152"}),
    ("zoo predict resnet1", {"resnet18", "resnet101", "resnet152"}),
    ("zoo pl", {"plugins"}),
    ("zoo build resnet50 --im", {"--image-size"}),
    ("zoo completion ", {"bash", "zsh", "fish"}),
]


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(command: list[str | Path], **environment: str) -> list[str]:
    finished = subprocess.run(
        command,
        env=os.environ | {"PATH": PATH} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.splitlines()


def in_bash(line: str) -> list[str]:
    """Source the script, and call the function that it registers as bash would."""
    words = " ".join(f"'{word}'" for word in line.split(" "))
    script = f"""
        eval "$(zoo completion bash)"
        [[ $(complete -p zoo) == *' -F _zoo_completion zoo' ]] || exit 1
        COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _zoo_completion zoo
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return run([shell("bash"), "--norc", "-c", script])


def in_fish(line: str) -> list[str]:
    """Ask fish itself; a tab parts a candidate from its description."""
    script = f"zoo completion fish | source; complete --do-complete '{line}'"
    return run([shell("fish"), "--no-config", "-c", script])


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash(line: str, expected: set[str]) -> None:
    found = in_bash(line)
    assert expected <= set(found)
    assert all(candidate.startswith(line.split(" ")[-1]) for candidate in found)


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_fish(line: str, expected: set[str]) -> None:
    found = {candidate.partition("\t")[0] for candidate in in_fish(line)}
    assert expected <= found
    assert all(candidate.startswith(line.split(" ")[-1]) for candidate in found)


def test_fish_shows_whole_descriptions() -> None:
    assert in_fish("zoo build resnet50+cb") == ["resnet50+cbam\tchannel, then spatial attention"]


READY = "\x1b[?2004h"  # zsh turns bracketed paste on when it begins to read a line


class Typist:
    """Types into an interactive zsh, and reads what it shows."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PATH": PATH, "ZDOTDIR": str(folder), "TERM": "dumb"}
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.terminal = ours
        self.process = subprocess.Popen(
            [shell("zsh"), "--no-globalrcs", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def press(self, keys: str, until: str) -> str:
        """Press keys and give what is shown, up to ``until`` or for half a minute."""
        os.write(self.terminal, keys.encode())
        shown = ""
        deadline = time.monotonic() + 30
        while until not in shown and time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.1)[0]:
                shown += os.read(self.terminal, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.fixture(scope="module")
def zsh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typist]:
    """An interactive zsh whose start-up file is what the help says."""
    folder = tmp_path_factory.mktemp("zsh")
    lines = ["autoload -Uz compinit", "compinit -u -D", 'eval "$(zoo completion zsh)"']
    (folder / ".zshrc").write_text("\n".join(lines))
    typist = Typist(folder)
    assert READY in typist.press("", READY)
    yield typist
    typist.close()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("zoo build resnet50+cb", "am"),
        ("zoo list dec", "oder"),
        ("zoo info timm/convnext_atto_o", "ls"),
        ("zoo build resnet", "resnet152  -- ResNet of 152 layers"),
        ("zoo info timm/resnet1", "timm/resnet101_clip"),
    ],
)
def test_zsh(line: str, shown: str, zsh: Typist) -> None:
    assert line in zsh.press(line, line)
    assert shown in zsh.press("\t", shown)
    assert READY in zsh.press("\x15\n", READY)  # clears the line for the next test


def test_the_only_source_is_entered_without_a_space_behind_its_prefix() -> None:
    found = in_bash("zoo build ti")
    assert len(found) > 1000
    firsts = {candidate.removeprefix("timm/")[0] for candidate in found}
    assert len(firsts) > 1  # so that all they share is the prefix
    assert in_bash("zoo build ").count("timm/") == 1


def test_a_model_may_be_a_folder() -> None:
    script = """
        compopt() { printf '%s ' compopt "$@"; }
        eval "$(zoo completion bash)"
        COMP_WORDS=(zoo predict my-mo); COMP_CWORD=2
        _zoo_completion zoo
    """
    assert run([shell("bash"), "--norc", "-c", script]) == ["compopt -o dirnames "]


def test_failing_plugins_are_not_told_of_during_completion(zoo: Zoo) -> None:
    request = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": "zoo build resn", "COMP_CWORD": "2"}
    assert "not installed" in zoo("list", ZOO_PLUGINS="zoo-resnet,absent").stderr
    finished = zoo(ZOO_PLUGINS="zoo-resnet,absent", **request)
    assert finished.stderr == ""
    assert "plain,resnet18" in finished.stdout.splitlines()


def test_another_shell_is_refused(zoo: Zoo) -> None:
    finished = zoo("completion", "tcsh")
    assert finished.returncode == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in finished.stderr
