"""``zoo install`` and ``zoo uninstall`` in an environment of their own, with the real pip."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import pluggy
import pytest
import yaml
from click.testing import CliRunner, Result
from hatchling.builders.wheel import WheelBuilder

import zoo_core
from zoo_core.cli import cli

Invoke = Callable[..., Result]
Finished = subprocess.CompletedProcess[str]

OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")

# Says which heavy modules, and which of plugins, a command imported.
TRACED = """
import sys
from zoo_core.cli import cli
try:
    cli(sys.argv[1:], standalone_mode=False)
finally:
    print([name for name in ("gate", "torch", "zoo_unet") if name in sys.modules])
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment that sees what this one has, and is written to instead of it.

    Attributes:
        folder: The environment.
    """

    folder: Path

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    def python(self, *arguments: object, **environment: str) -> Finished:
        return subprocess.run(
            [self.interpreter, *map(str, arguments)],
            env={name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
            | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def zoo(self, *arguments: object, **environment: str) -> Finished:
        return self.python("-m", "zoo_core", *arguments, **environment)

    def has(self, distribution: str) -> bool:
        code = f"from importlib.metadata import version; version({distribution!r})"
        return self.python("-c", code).returncode == 0


def make_environment(folder: Path, line: str) -> Environment:
    """Make an environment without a pip of its own, with one line in a .pth file."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "lib" / name / "site-packages" / "parent.pth").write_text(line + "\n")
    return Environment(folder=folder)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})"
    return make_environment(tmp_path_factory.mktemp("environment") / "venv", line)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the projects gate, head and broken, the last of which fails to load."""
    folder = tmp_path_factory.mktemp("sources")
    for kind, name in (("attention", "gate"), ("decoder", "head"), ("decoder", "broken")):
        result = CliRunner().invoke(cli, ["new", kind, name, "--dir", str(folder)])
        assert result.exit_code == 0, result.output
    with (folder / "broken" / "src" / "broken" / "__init__.py").open("a") as file:
        file.write("\n1 / 0\n")
    return folder


@pytest.fixture(scope="module")
def wheels(sources: Path) -> dict[str, str]:
    """Their wheels."""
    found = {}
    for name in ("gate", "head", "broken"):
        [found[name]] = WheelBuilder(str(sources / name)).build(directory=str(sources / "wheels"))
    return found


def test_it_installs_tells_and_removes_and_loads_no_plugin(
    environment: Environment, sources: Path, wheels: dict[str, str]
) -> None:
    words = ("install", wheels["gate"], "-e", sources / "head", "--", *OFFLINE)
    done = environment.python("-c", TRACED, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Successfully installed gate-0.1.0 head-0.1.0" in done.stdout
    assert done.stdout.endswith(
        "distribution  version  gives\n"
        "gate          0.1.0    attention gate\n"
        "head          0.1.0    decoder head\n"
        "[]\n"
    )
    listed = environment.zoo("list", "decoder", "--json").stdout
    assert "head:head" in {spec["qualified_name"] for spec in json.loads(listed)}
    # Editable: what is changed counts at once.
    catalogue = sources / "head" / "src" / "head" / "__init__.py"
    catalogue.write_text(catalogue.read_text().replace('summary="', 'summary="changed: '))
    assert "changed: all maps" in environment.zoo("list", "decoder").stdout

    done = environment.python("-c", TRACED, "uninstall", "Gate", "head", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nremoved gate 0.1.0, head 0.1.0\n[]\n")
    assert not environment.has("gate")
    assert not environment.has("head")


def test_what_is_there_already_is_told_in_json(
    environment: Environment, wheels: dict[str, str]
) -> None:
    plugin = {
        "distribution": "gate",
        "version": "0.1.0",
        "status": "ok",
        "reason": "",
        "components": ["attention:gate"],
        "sources": [],
    }
    done = environment.zoo("install", "--json", wheels["gate"], "--", *OFFLINE)
    assert json.loads(done.stdout) == {"installed": {"gate": "0.1.0"}, "plugins": [plugin]}
    assert "Successfully installed gate-0.1.0" in done.stderr
    done = environment.zoo("install", "--json", "gate>=0.1", "--", *OFFLINE)
    assert json.loads(done.stdout) == {"installed": {}, "plugins": [plugin]}
    done = environment.zoo("install", "gate", "--", *OFFLINE, ZOO_PLUGINS="")
    assert done.stderr == "zoo: gate is installed, but blocked: not named in ZOO_PLUGINS\n"


def test_a_broken_plugin_is_told_and_can_be_removed(
    environment: Environment, wheels: dict[str, str]
) -> None:
    done = environment.zoo("install", wheels["broken"], "--", *OFFLINE, "--quiet")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: broken 0.1.0 is installed, but fails to load: ZeroDivisionError: division by zero "
        "('zoo uninstall broken' removes it)\n"
    )
    # The others are told while it is there, even where its failure would be raised.
    done = environment.zoo("install", wheels["gate"], "--", *OFFLINE, "--quiet", ZOO_STRICT="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["gate          0.1.0    attention gate"]
    done = environment.zoo("uninstall", "broken", "gate", "-y", ZOO_STRICT="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert not environment.has("broken")


def test_what_is_no_plugin_is_installed_and_told(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "plain-module"\nversion = "2.0"\n'
    )
    (tmp_path / "plain_module.py").write_text("")
    done = environment.zoo("install", tmp_path, "--", *OFFLINE, "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "zoo: nothing of this is a plugin of the zoo, which has an entry point in zoo.plugins\n"
    )
    done = environment.zoo("uninstall", "Plain_Module", "--yes")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: plain-module 2.0 is no plugin of the zoo; 'pip uninstall plain-module' removes it\n"
    )
    assert environment.has("plain-module")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("surely-absent", "--", "--no-index"), 1, "No matching distribution found"),
        (("surely-absent", "--", "--surely-no-option"), 2, "no such option"),
        (("-e", "nowhere", "--", "--no-index"), 1, "nowhere"),
    ],
)
def test_the_exit_code_of_pip_is_handed_on(
    words: tuple[str, ...], code: int, said: str, environment: Environment
) -> None:
    done = environment.zoo("install", *words)
    assert done.returncode == code
    assert said in done.stderr
    last = f"Error: 'pip install' failed with exit code {code}; its own words stand above"
    assert done.stderr.splitlines()[-1] == last


def test_without_pip_there_is_one_line(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for package in (click, pluggy, yaml, zoo_core):
        folder = Path(str(package.__file__)).parent
        (site / folder.name).symlink_to(folder)
    environment = make_environment(tmp_path / "venv", str(site))
    for words in (["install", "gate"], ["install", "-e", "gate", "--json"]):
        done = environment.zoo(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"Error: there is no pip in {environment.folder}; '{environment.interpreter} -m "
            f"ensurepip' installs it, or use the installer that made this environment\n"
        )


def answer(environment: Environment, said: str) -> str:
    """Ask for gate to be removed, and answer on a terminal; give what it shows."""
    ours, theirs = pty.openpty()
    command = [environment.interpreter, "-m", "zoo_core", "uninstall", "gate"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        os.close(theirs)
        os.write(ours, f"{said}\n".encode())
        assert child.stdout is not None
        shown = child.stdout.read()
    os.close(ours)
    return shown


def test_it_asks_on_a_terminal_before_it_removes(
    environment: Environment, wheels: dict[str, str]
) -> None:
    environment.zoo("install", wheels["gate"], "--", *OFFLINE)
    done = environment.zoo("uninstall", "gate", "gate")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: nobody is there to ask whether to remove gate 0.1.0; add --yes\n"
    )
    shown = answer(environment, "n")
    assert shown.startswith("Remove gate 0.1.0? [y/N]: ")
    assert shown.rstrip().endswith("Aborted!")
    assert environment.has("gate")
    assert answer(environment, "y").endswith("removed gate 0.1.0\n")
    assert not environment.has("gate")


def test_what_pip_leaves_is_told(
    environment: Environment, wheels: dict[str, str], tmp_path: Path
) -> None:
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target")
    assert environment.python(*pip, tmp_path, wheels["gate"]).returncode == 0
    done = environment.zoo("uninstall", "gate", "--yes", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: pip did not remove gate, which is in none of the folders that it installs into: "
        f"{tmp_path}"
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["Zoo_Core"], "zoo-core is the zoo itself; 'pip uninstall zoo-core' removes it"),
        (["zoo-unt"], "no plugin 'zoo-unt' is installed; did you mean zoo-unet"),
        (["surely"], "no plugin 'surely' is installed; 'zoo plugins' shows what there is"),
        ([""], "no plugin '' is installed; 'zoo plugins' shows what there is"),
        (["zoo-unet", "click"], f"click {version('click')} is no plugin of the zoo; 'pip unin"),
        (["zoo-unet"], "nobody is there to ask whether to remove zoo-unet 0.1.0; add --yes"),
    ],
)
def test_what_is_not_removed_is_told_before_anything_is(
    names: list[str], told: str, invoke: Invoke
) -> None:
    result = invoke("uninstall", *names, code=2)
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {told}")
    assert len(result.stderr.splitlines()) == 1


def test_nothing_to_install_is_a_usage_error(invoke: Invoke) -> None:
    expected = "Error: give a distribution to install, or a folder with -e\n"
    assert invoke("install", code=2).stderr == expected
    assert invoke("install", "--", "--pre", code=2).stderr == expected


def test_completion_gives_the_plugins() -> None:
    command = cli.get_command(click.Context(cli), "uninstall")
    assert command is not None
    [argument] = [param for param in command.params if isinstance(param, click.Argument)]
    found = argument.shell_complete(click.Context(command), "Zoo_V")
    assert [item.value for item in found] == ["zoo-vit"]
