"""Python itself, and the zoo's own version."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from packaging.specifiers import SpecifierSet

from zoo_core._version import PLUGIN_API, __version__
from zoo_core.doctor.distributions import CORE, first
from zoo_core.doctor.finding import Finding, ok, problem


def examine() -> Iterator[Finding]:
    """Compare Python and the core with what the core's metadata say."""
    core = first(CORE)
    if core is None:
        yield problem(CORE, "its metadata are missing", f"pip install --force-reinstall {CORE}")
        return
    wanted = core.distribution.metadata["Requires-Python"] or ""
    running = platform.python_version()
    if SpecifierSet(wanted).contains(running, prereleases=True):
        yield ok("python", f"{running} ({CORE} needs {wanted})")
    else:
        yield problem(
            "python",
            f"{running}, and {CORE} needs {wanted}",
            f"make an environment of Python {wanted} and install {CORE} there",
        )
    api = ".".join(map(str, PLUGIN_API))
    if core.version == __version__:
        yield ok(CORE, f"{__version__}, plugin API {api}")
    else:
        yield problem(
            CORE,
            f"its code is of version {__version__}, its metadata of {core.version or 'none'}",
            f"pip install --force-reinstall {CORE}",
        )
