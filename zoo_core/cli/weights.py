"""``zoo weights``: what weights there are, and the files of them on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from zoo_core.catalogue import registry
from zoo_core.cli.options import licence_option
from zoo_core.cli.tables import echo_json, echo_table
from zoo_core.errors import UsageError, WeightsError
from zoo_core.manifest import WeightsEntry

if TYPE_CHECKING:
    from zoo_core.store import WeightsFile
    from zoo_core.store.pinning import Pin
    from zoo_core.store.pruning import Removal


class WeightsType(click.ParamType[Any]):
    """The name of weights, completed from the registry files."""

    name = "weights"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give the names that begin with what is there."""
        from zoo_core.store.inventory import named_entries

        entries = named_entries().items()
        return [
            CompletionItem(name, help=entry.licence or "")
            for name, entry in entries
            if name.startswith(incomplete)
        ]


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
some_names = click.argument("names", nargs=-1, type=WeightsType(), metavar="[NAME]...")
needed_names = click.argument(
    "names", nargs=-1, required=True, type=WeightsType(), metavar="NAME..."
)


@click.group()
def weights() -> None:
    """List, fetch, check, pin and delete pretrained weights.

    NAME is component.tag, such as resnet50.a1_in1k, or a component for its default weights.

    \b
    Examples:
      zoo weights list --cached
      zoo weights pull resnet50.a1_in1k
      zoo weights verify
    """


@weights.command("list")
@click.argument("pattern", required=False, type=WeightsType())
@licence_option
@click.option("--cached", "only_cached", is_flag=True, help="Only those on this machine.")
@json_option
def list_command(
    pattern: str | None, licences: tuple[str, ...] | None, only_cached: bool, as_json: bool
) -> None:
    """List weights that registry files and plugins name.

    PATTERN is a shell pattern of names, with or without their tags.

    \b
    Examples:
      zoo weights list
      zoo weights list 'resnet*' --license apache-2.0,mit
      zoo weights list --cached --json
    """
    from zoo_core.store import cached
    from zoo_core.store.inventory import named_entries
    from zoo_core.store.licences import is_accepted

    matching = {
        name: entry
        for name, entry in named_entries().items()
        if pattern is None or _matches(name, pattern)
    }
    _tell_of_sources(pattern, matching)
    found = [
        (name, entry, file)
        for name, entry in matching.items()
        if is_accepted(entry, licences) and ((file := cached(entry)) or not only_cached)
    ]
    if as_json:
        echo_json([_listed_json(*row) for row in found])
        return
    if not found:
        click.echo("zoo: there are no such weights", err=True)
        return
    header = ["weights", "size", "classes", "licence", "pinned", "cached", "provider"]
    echo_table(header, [_listed_row(*row) for row in found], right="size classes")


def _matches(name: str, pattern: str) -> bool:
    plain = name.rpartition(":")[2]
    whole = (name, plain, name.rpartition(".")[0], plain.rpartition(".")[0])
    return any(fnmatchcase(text, pattern) for text in whole)


def _tell_of_sources(pattern: str | None, matching: dict[str, WeightsEntry]) -> None:
    """Say where the weights of sources are to be seen, if the pattern is of one."""
    if pattern is None:
        return
    for source in registry.sources():
        if pattern.startswith(source.prefix):
            told = f"'zoo info {source.prefix}NAME' shows the tags of each {source.prefix}… name"
            if not matching:
                raise UsageError(f"no registry file has weights {pattern!r}; {told}")
            click.echo(f"zoo: these are the ones in registry files; {told}", err=True)
            return
    if not matching:
        raise UsageError(f"no weights match {pattern!r}; 'zoo weights list' shows what there is")


def _listed_row(name: str, entry: WeightsEntry, file: WeightsFile | None) -> list[str]:
    from zoo_core.store.licences import is_non_commercial

    size = file.path.stat().st_size if file else entry.size
    licence = entry.licence or "unknown"
    return [
        name,
        _human(size) if size is not None else "–",
        f"{entry.classes:,}" if entry.classes else "–",
        f"{licence} (non-commercial)" if is_non_commercial(licence) else licence,
        "yes" if entry.pinned else "unpinned",
        "yes" if file else "–",
        _provider(entry),
    ]


def _provider(entry: WeightsEntry) -> str:
    from zoo_core.store.inventory import component_of

    owner, component = component_of(entry)
    if not owner:
        specs = registry.candidates(component)
        return ", ".join(spec.provider for spec in specs) or "none installed"
    status = {plugin.distribution: plugin.status for plugin in registry.plugins}.get(owner)
    if status is None:
        return f"needs {owner}"
    return owner if status == "ok" else f"{owner} ({status})"


def _listed_json(name: str, entry: WeightsEntry, file: WeightsFile | None) -> dict[str, Any]:
    from dataclasses import asdict

    from zoo_core.store.inventory import component_of, named_path
    from zoo_core.store.licences import is_non_commercial

    owner, component = component_of(entry)
    installed = any(spec.provider == owner or not owner for spec in registry.candidates(component))
    return {
        **asdict(entry),
        "name": name,
        "provider": owner or None,
        "installed": installed,
        "non_commercial": is_non_commercial(entry.licence),
        "pinned": entry.pinned,
        "cached": file is not None,
        "path": str(named_path(entry, file)) if file else None,
        "path_size": file.path.stat().st_size if file else None,
    }


def _human(count: int) -> str:
    """Give a number of bytes for reading: 102.5 MB."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "bytes" else f"{count} bytes"
        size /= 1000
    return f"{size:.1f} GB"


@weights.command()
@needed_names
@licence_option
@json_option
def pull(names: tuple[str, ...], licences: tuple[str, ...] | None, as_json: bool) -> None:
    """Download weights into the Hugging Face cache, and check them.

    What is cached already costs no request; if it is damaged, it is fetched again.

    \b
    Examples:
      zoo weights pull resnet50
      zoo weights pull resnet18.tv_in1k timm/resnet10t --license apache-2.0,mit
    """
    from zoo_core.store import cached, fetch_whole
    from zoo_core.store.licences import check_licence

    entries = {name: registry.find_weights(name) for name in names}
    for entry in entries.values():
        check_licence(entry, licences)
    pulled = []
    for name, entry in entries.items():
        before = cached(entry)
        file = fetch_whole(entry)
        shown = _pulled(name, entry, file, before)
        pulled.append(shown)
        if not as_json:
            click.echo(f"{name}: {shown['result']}, {_human(shown['size'])}")
            click.echo(f"  path    {shown['path']}")
            click.echo(f"  sha256  {shown['sha256']}")
    if as_json:
        echo_json(pulled)


def _pulled(
    name: str, entry: WeightsEntry, file: WeightsFile, before: WeightsFile | None
) -> dict[str, Any]:
    from zoo_core.store.inventory import named_path

    result = "downloaded" if before is None else "cached already"
    return {
        "name": name,
        "result": result if file.repository else "from a plugin's store",
        "size": file.path.stat().st_size,
        "sha256": file.sha256,
        "path": str(named_path(entry, file)),
    }


@weights.command()
@some_names
@json_option
@click.pass_context
def verify(ctx: click.Context, /, names: tuple[str, ...], as_json: bool) -> None:
    """Read cached weights, and compare them with the registry.

    Hash, size and header must be right, and all values finite. Without NAME, all that are
    cached are read, completely. Nothing is deleted; the exit code is 1 if anything is wrong.

    \b
    Examples:
      zoo weights verify
      zoo weights verify resnet50.a1_in1k --json
    """
    from zoo_core.store import cached
    from zoo_core.store.inventory import named_entries

    entries = {name: registry.find_weights(name) for name in names} or named_entries()
    files = {name: cached(entry) for name, entry in entries.items()}
    checked = [
        _verified(name, entries[name], file) for name, file in files.items() if file or names
    ]
    if as_json:
        echo_json(checked)
    elif checked:
        rows = [[row["name"], row["result"], _human(row["size"] or 0)] for row in checked]
        echo_table(["weights", "result", "size"], rows, right="size")
    else:
        click.echo("zoo: no weights of registry files are cached", err=True)
    wrong = [row for row in checked if row["problem"]]
    for row in wrong:
        click.echo(f"Error: {row['name']}: {row['problem']}", err=True)
    if wrong:
        ctx.exit(1)


def _verified(name: str, entry: WeightsEntry, file: WeightsFile | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "result": "not cached", "path": None, "size": None}
    if file is None:
        return row | {"sha256": entry.sha256, "problem": f"'zoo weights pull {name}' fetches it"}
    from zoo_core.weights.checking import check

    finding = check(entry, file)
    row |= {"path": str(file.path), "size": file.path.stat().st_size, "sha256": file.sha256}
    if finding.damaged:
        mend = f"'zoo weights pull {name}' fetches it again"
        return row | {"result": "damaged", "problem": f"{finding.problem}; {mend}"}
    if finding.problem:
        return row | {"result": "wrong", "problem": f"{finding.problem}; it was published so"}
    return row | {"result": "good", "problem": ""}


@weights.command()
@click.argument("name", type=WeightsType())
def path(name: str) -> None:
    """Print where the file of weights lies.

    \b
    Examples:
      zoo weights path resnet50.a1_in1k
    """
    from zoo_core.store import cached
    from zoo_core.store.inventory import named_path

    entry = registry.find_weights(name)
    file = cached(entry)
    if file is None:
        raise WeightsError(f"{name} is not cached; 'zoo weights pull {name}' fetches it")
    click.echo(named_path(entry, file))


@weights.command()
@some_names
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="YAML",
    help="The registry file to write.  [default: your own]",
)
@click.option("--all", "everything", is_flag=True, help="All weights, or all of the file.")
@click.option("--dry-run", is_flag=True, help="Show what would be written.")
def pin(names: tuple[str, ...], file: Path | None, everything: bool, dry_run: bool) -> None:
    """Write into a registry file what weights are on the Hub now.

    That is the revision, the hash and the size; from then on nothing else is accepted. Without
    --file it goes to your registry file: the one that has the weights, else ZOO_REGISTRY, else
    registry.yaml in the configuration directory.

    \b
    Examples:
      zoo weights pin resnet50.a1_in1k
      zoo weights pin --all --file registry.yaml --dry-run
    """
    from zoo_core.store import pinning

    _check_some(names, everything)
    targets = pinning.choose_all(file) if everything else pinning.choose(names, file)
    pins = [pinning.ask(target) for target in targets]
    for one in pins:
        _echo_pin(one)
    if dry_run:
        click.echo("zoo: nothing is written (--dry-run)", err=True)
    else:
        pinning.write(pins)


def _check_some(names: tuple[str, ...], everything: bool) -> None:
    if bool(names) == everything:
        raise UsageError("name weights, or give --all")


def _echo_pin(one: Pin) -> None:
    from zoo_core.store import known

    place = f"new in {one.target.file}" if one.target.appended else str(one.target.file)
    click.echo(f"{one.target.name} ({place})")
    for key, (old, new) in one.changes.items():
        click.echo(f"  {key:8}  {_pinned_to(old)} → {_pinned_to(new)}")
    if not one.changes:
        click.echo("  as before")
    noted = None if one.target.entry.sha256 else known.recall(one.target.entry)
    if noted is not None and noted.sha256 != one.entry.sha256:
        click.echo(
            f"zoo: {one.target.name} had sha256 {noted.sha256} when it was first used, on "
            f"{noted.since[:10]}; the file was changed since",
            err=True,
        )


def _pinned_to(value: object) -> str:
    return "unpinned" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


@weights.command()
@some_names
@click.option("--all", "everything", is_flag=True, help="All weights of registry files.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(names: tuple[str, ...], everything: bool, dry_run: bool, yes: bool) -> None:
    """Delete weights from the Hugging Face cache.

    Without NAME, what is left of downloads that were broken off, and files of other revisions than
    the registry's, in the repositories that registry files name. Nothing else is touched.

    \b
    Examples:
      zoo weights prune --dry-run
      zoo weights prune resnet50.a1_in1k --yes
    """
    from zoo_core.store import pruning
    from zoo_core.store.inventory import named_entries

    if names and everything:
        raise UsageError("name weights, or give --all")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise UsageError("nobody can be asked here: give --yes, or --dry-run to see what it means")
    entries = [registry.find_weights(name) for name in names] or list(named_entries().values())
    whole = bool(names) or everything
    removals = pruning.all_of(entries) if whole else pruning.leftovers(entries)
    if not removals:
        click.echo("zoo: there is nothing to delete", err=True)
        return
    total = _echo_removals(removals)
    if dry_run:
        click.echo("zoo: nothing is deleted (--dry-run)", err=True)
        return
    if not yes:
        click.confirm(f"Delete {total}?", abort=True)
    for removal in removals:
        pruning.remove(removal)
    click.echo(f"deleted {total}")


def _echo_removals(removals: Iterable[Removal]) -> str:
    rows = [[removal.what, _human(removal.size)] for removal in removals]
    echo_table(["what", "size"], rows, right="size")
    return _human(sum(removal.size for removal in removals))
