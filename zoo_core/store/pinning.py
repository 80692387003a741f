"""Reading from the Hub what weights are, and writing it into registry files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo_core.catalogue import registry
from zoo_core.errors import RegistryError, UsageError, WeightsError
from zoo_core.manifest import (
    SHIPPED,
    Manifest,
    WeightsEntry,
    config_directory,
    read_manifest,
    shipped_manifest,
    user_manifests,
)
from zoo_core.store.hub import Hub, UnreachableError
from zoo_core.store.inventory import component_of, named_entries
from zoo_core.store.registry_text import edited


@dataclass(frozen=True)
class Target:
    """An entry to pin.

    Attributes:
        name: What it is called.
        entry: As the file has it, or as it is to be appended.
        file: The registry file.
        appended: Whether the file has no such entry yet.
        kept: Whether it is there only to stay its component's default; pins that it has stay.
    """

    name: str
    entry: WeightsEntry
    file: Path
    appended: bool
    kept: bool = False

    @property
    def key(self) -> tuple[Path, str]:
        """What no other target has."""
        return self.file, self.entry.name


@dataclass(frozen=True)
class Pin:
    """What a registry file is to say of an entry.

    Attributes:
        target: The entry and its file.
        entry: The entry with what the Hub says.
    """

    target: Target
    entry: WeightsEntry

    @property
    def changes(self) -> dict[str, tuple[object, object]]:
        """The values that change, each as it was and as it will be."""
        keys = ("revision", "sha256", "size")
        pairs = {key: (getattr(self.target.entry, key), getattr(self.entry, key)) for key in keys}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def choose(names: Iterable[str], file: Path | None = None) -> list[Target]:
    """Find the entries that names mean, and the registry file to pin each in.

    Args:
        names: ``component.tag``, or ``component`` for its default weights.
        file: The file; by default the user's one that has the entry, else the user's own:
            the one that ``ZOO_REGISTRY`` names, or ``registry.yaml`` in the configuration
            directory. Where an entry is appended that would become its component's default,
            the default stands before it, so that it stays so.

    Raises:
        ZooError: If a name means no weights, or the file breaks a rule.
    """
    chosen: dict[tuple[Path, str], Target] = {}
    for name in names:
        target = _in_users_files(name) if file is None else _in_file(name, file)
        default = _default_to_keep(target) if target.appended else None
        if default is not None:
            chosen.setdefault(default.key, default)
        chosen[target.key] = target
    return list(chosen.values())


def choose_all(file: Path | None = None) -> list[Target]:
    """Choose every entry of a file; without one, all weights there are, for the user's files."""
    if file is None:
        return choose(named_entries())
    entries = read_manifest(file).weights
    return [Target(entry.name, entry, file, appended=False) for entry in entries]


def ask(target: Target) -> Pin:
    """Ask the Hub what an entry's file is on its main branch.

    Raises:
        WeightsError: If it cannot tell.
    """
    entry = target.entry
    if target.kept and entry.pinned:
        return Pin(target, entry)
    what = f"{entry.filename} of {entry.repository}"
    hub = Hub()
    if hub.offline:
        raise WeightsError(f"{what}: HF_HUB_OFFLINE is set, so {hub.endpoint} cannot be asked")
    try:
        remote = hub.ask(entry.repository, entry.filename, "main")
    except UnreachableError as error:
        raise WeightsError(
            f"{what}: {hub.endpoint} cannot be reached ({error.__cause__})"
        ) from error
    if remote.sha256 is None:
        raise WeightsError(
            f"{what}: {hub.endpoint} announces no sha256 of it, as of a small file that is kept in "
            f"git, so {target.name} cannot be pinned"
        )
    found = replace(entry, revision=remote.commit, sha256=remote.sha256, size=remote.size)
    return Pin(target, found)


def write(pins: Sequence[Pin]) -> None:
    """Write pins into their files, all or none; what else stands in a file stays as it is.

    Each file is written beside the old one and read back strictly before it takes its place.

    Raises:
        RegistryError: If a file cannot be written, or cannot be changed in this way.
    """
    by_file: dict[Path, list[Pin]] = {}
    for pin in (pin for pin in pins if pin.changes or pin.target.appended):
        by_file.setdefault(pin.target.file.resolve(), []).append(pin)
    staged: dict[Path, Path] = {}
    try:
        for file, group in by_file.items():
            staged[file] = _beside(file)
            _stage(file, staged[file], group)
        for file, fresh in staged.items():
            fresh.replace(file)
    except OSError as error:
        raise RegistryError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        for fresh in staged.values():
            fresh.unlink(missing_ok=True)


def _in_users_files(name: str) -> Target:
    meant = registry.find_weights(name)
    for file in user_manifests():
        for entry in read_manifest(file).weights:
            if _stands_for(entry, meant):
                return Target(name, entry, file, appended=False)
    return Target(name, _portable(meant), _own_file(), appended=True)


def _own_file() -> Path:
    named = os.environ.get("ZOO_REGISTRY")
    return Path(named) if named else config_directory() / "registry.yaml"


def _in_file(name: str, file: Path) -> Target:
    """Find an entry by name in a file that need not be in use, else in those that are."""
    held = read_manifest(file).weights
    entries = [entry for entry in held if name in _names(entry)]
    if len({entry.component for entry in entries}) != 1:
        meant = registry.find_weights(name)
        entries = [entry for entry in held if _stands_for(entry, meant)]
        if not entries:
            return Target(name, _portable(meant), file, appended=True)
    return Target(name, entries[0], file, appended=False)


def _names(entry: WeightsEntry) -> set[str]:
    components = {entry.component, component_of(entry)[1]}
    return components | {f"{component}.{entry.tag}" for component in components}


def _stands_for(entry: WeightsEntry, meant: WeightsEntry) -> bool:
    """Tell whether a file's entry is one of this component and tag."""
    owner, plain = component_of(entry)
    wanted, component = component_of(meant)
    return (plain, entry.tag) == (component, meant.tag) and owner in ("", wanted)


def _portable(entry: WeightsEntry) -> WeightsEntry:
    """Give an entry as it can stand in any registry file."""
    owner, plain = component_of(entry)
    return replace(entry, component=f"{owner}:{plain}" if owner else plain, provider="")


def _default_to_keep(target: Target) -> Target | None:
    """Give the default of a component that a new entry would take the place of, else ``None``."""
    component = target.entry.component
    if any(registry.source_of(spec) for spec in registry.candidates(component)):
        return None  # the source tells the default
    order = _reading_order()
    where = target.file.resolve()
    if where not in order:
        return None
    try:
        default = registry.find_weights(component)
    except UsageError:
        return None  # several distributions give it
    before = list(order.values())[: list(order).index(where) + 1]
    if default.tag == target.entry.tag or default.origin in before:
        return None
    name = f"{component}.{default.tag}"
    return Target(name, _portable(default), target.file, appended=True, kept=True)


def _reading_order() -> dict[Path, str]:
    """Give the registry files in use, the one that wins first, each with its entries' origin."""
    order: dict[Path, str] = {}
    for path in (*user_manifests(), _own_file()):
        order.setdefault(path.resolve(), str(path))
    return order | {shipped_manifest().resolve(): SHIPPED}


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def _stage(file: Path, fresh: Path, pins: Sequence[Pin]) -> None:
    """Write the new text of a registry file beside it, if that is what was meant."""
    _check_writable(file)
    old = read_manifest(file) if file.exists() else Manifest()
    text = file.read_bytes().decode() if file.exists() else ""
    places = {entry.name: place for place, entry in enumerate(old.weights)}
    kept = [pin for pin in pins if not pin.target.appended]
    for pin in kept:
        if pin.target.entry.name not in places:
            raise RegistryError(f"{file} was changed meanwhile; nothing is written")
    pinned = {places[pin.target.entry.name]: pin.entry for pin in kept}
    added = [pin.entry for pin in pins if pin.target.appended]
    file.parent.mkdir(parents=True, exist_ok=True)
    with fresh.open("xb") as opened:
        opened.write(edited(text, pinned, added).encode())
        opened.flush()
        os.fsync(opened.fileno())
    if file.exists():
        shutil.copymode(file, fresh)
    entries = [pinned.get(place, entry) for place, entry in enumerate(old.weights)]
    _check_read_back(file, fresh, replace(old, weights=(*entries, *added)))


def _check_writable(file: Path) -> None:
    """Respect a file that is read-only: taking its place needs no leave of its own."""
    if file.exists() and not (os.access(file, os.W_OK) and file.stat().st_mode & 0o222):
        raise RegistryError(f"{file}: cannot be written: it is read-only")


def _check_read_back(file: Path, fresh: Path, meant: Manifest) -> None:
    try:
        found = read_manifest(fresh)
    except RegistryError as error:
        problem = str(error).replace(str(fresh), str(file))
        raise RegistryError(f"nothing is written, as it would break {problem}") from error
    if found != meant:
        raise RegistryError(
            f"{file}: its form leaves no place for the pins; 'zoo weights pin --dry-run' shows "
            f"them, to be written by hand"
        )
