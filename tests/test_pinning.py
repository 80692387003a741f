"""Writing pins into registry files: everything else in them stays byte for byte."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from zoo_core.catalogue import Registry
from zoo_core.errors import RegistryError, UsageError, WeightsError, ZooError
from zoo_core.manifest import (
    Preprocessing,
    WeightsEntry,
    config_directory,
    read_manifest,
    shipped_manifest,
)
from zoo_core.store import hub, inventory, pinning
from zoo_core.store.pinning import Pin, Target, ask, choose, choose_all, write
from zoo_core.testing import Header, LoopbackHub, Status

REVISION, SHA256, SIZE = "a" * 40, "b" * 64, 123_456
NEW = {"revision": REVISION, "sha256": SHA256, "size": SIZE}
OLD = {"revision": "c" * 40, "sha256": "d" * 64, "size": 99}

PLAIN = """\
# Mine; keep this.
pins: {}   # none

weights:
- component: net   # the net
  tag: v1
  repository: me/net

  filename: model.safetensors  # of course
  # a comment within
  revision: unpinned   # soon
  sha256: unpinned
  size:    unpinned
  licence:   mit
  source: a test

- component: net
  tag: v2
  repository: me/other
  source: a test
# the end
"""
PINNED = (
    PLAIN.replace("revision: unpinned", f"revision: {REVISION}", 1)
    .replace("sha256: unpinned", f"sha256: {SHA256}", 1)
    .replace("size:    unpinned", f"size:    {SIZE}", 1)
)


def pins(file: Path, *names: str, **values: object) -> list[Pin]:
    """Give pins for entries that a file has."""
    entries = {entry.name: entry for entry in read_manifest(file).weights}
    targets = [Target(name, entries[name], file, appended=False) for name in names]
    return [Pin(target, replace(target.entry, **{**NEW, **values})) for target in targets]


def after(file: Path, text: str, *names: str, **values: object) -> str:
    """Give what becomes of a file when entries are pinned."""
    file.write_bytes(text.encode())
    write(pins(file, *names, **values))
    return file.read_bytes().decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry.yaml"


def test_values_are_replaced_where_they_stand(file: Path) -> None:
    assert after(file, PLAIN, "net.v1") == PINNED


@pytest.mark.parametrize("new_line", ["\r\n", "\r"])
def test_other_line_breaks_stay(file: Path, new_line: str) -> None:
    given, wanted = (text.replace("\n", new_line) for text in (PLAIN, PINNED))
    assert after(file, given, "net.v1") == wanted
    added = after(file, given, "net.v2")
    lines = [f"  {key}: {value}" for key, value in NEW.items()]
    assert new_line.join(["  repository: me/other", *lines, "  source: a test"]) in added
    assert added.replace(new_line, "").isprintable()


def test_missing_keys_are_added(file: Path) -> None:
    added = "".join(f"  {key}: {value}\n" for key, value in NEW.items())
    wanted = PLAIN.replace("repository: me/other\n", f"repository: me/other\n{added}")
    assert after(file, PLAIN, "net.v2") == wanted


def test_two_entries_of_one_file_are_written_at_once(file: Path) -> None:
    text = after(file, PLAIN, "net.v1", "net.v2")
    assert [entry.pinned for entry in read_manifest(file).weights] == [True, True]
    assert text.replace(f"  revision: {REVISION}\n  sha256: {SHA256}\n  size: {SIZE}\n", "") == (
        PINNED
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "weights: [{component: net, tag: v1, repository: me/net, source: t}] # x",
            "weights: [{component: net, tag: v1, repository: me/net, revision: R, sha256: S, "
            "size: N, source: t}] # x",
        ),
        (
            '{"weights":[{"component":"net","tag":"v1","size":"unpinned",'
            '"repository":"me/net","filename":"a.safetensors","source":"t"}]}',
            '{"weights":[{"component":"net","tag":"v1","size":N,'
            '"repository":"me/net","filename":"a.safetensors", revision: R, sha256: S,'
            '"source":"t"}]}',
        ),
        (
            "weights:\n- {component: net, tag: v1,\n   source: t,   # why\n"
            "   repository: me/net\n}",
            "weights:\n- {component: net, tag: v1,\n   source: t,   # why\n   repository: me/net, "
            "revision: R, sha256: S, size: N\n}",
        ),
        (
            "weights:\n  -   tag: v1\n      component: net\n      source: é\n"
            "      repository: me/net",
            "weights:\n  -   tag: v1\n      component: net\n      source: é\n"
            "      repository: me/net\n      revision: R\n      sha256: S\n      size: N",
        ),
        (
            "weights:\n-\n  component: net\n  tag: v1\n  sha256: >-\n    unpinned\n\n"
            "  repository: 'me/net' # r\n  source: t\n",
            "weights:\n-\n  component: net\n  tag: v1\n  sha256: S\n  size: N\n\n"
            "  repository: 'me/net' # r\n  revision: R\n  source: t\n",
        ),
        (
            "---\nweights:\n- component: net\n  tag: v1\n  source: t\n  repository: |-\n"
            "    me/net\n  size: 7\n...\n",
            "---\nweights:\n- component: net\n  tag: v1\n  source: t\n  repository: |-\n"
            "    me/net\n  revision: R\n  sha256: S\n  size: N\n...\n",
        ),
    ],
)  # fmt: skip
def test_odd_forms(file: Path, text: str, wanted: str) -> None:
    for letter, value in (("R", REVISION), ("S", SHA256), ("N", str(SIZE))):
        wanted = wanted.replace(f": {letter}", f": {value}").replace(f":{letter}", f":{value}")
    assert after(file, text, "net.v1") == wanted


def test_pins_that_are_there_already_stay_as_they_are_written(file: Path) -> None:
    quoted = PINNED.replace(SHA256, f'"{SHA256}"')
    assert after(file, quoted, "net.v1") == quoted
    moved = after(file, quoted, "net.v1", **OLD)
    assert moved == quoted.replace(REVISION, OLD["revision"]).replace(
        f'"{SHA256}"', OLD["sha256"]
    ).replace(str(SIZE), "99")


@pytest.mark.parametrize("digits", ["1", "12e"])
def test_a_hash_that_looks_like_a_number_is_quoted(file: Path, digits: str) -> None:
    values = {"revision": (digits * 40)[:39] + "1", "sha256": (digits * 64)[:63] + "1"}
    after(file, PLAIN, "net.v1", **values)
    assert f'"{values["sha256"]}"' in file.read_text()
    assert read_manifest(file).weights[0].revision == values["revision"]


APPENDED = WeightsEntry(
    component="zoo-net:net/deep",
    tag="007",
    repository="me/net",
    filename="a.safetensors",
    layout="hf-vit",
    activation="quick_gelu",
    eps=1e-6,
    preprocessing=Preprocessing(
        size=(224, 320), crop=1.0, crop_mode="squash", interpolation="nearest", mean=(0.0, 1e-7, 1)
    ),
    classes=7,
    labels="imagenet-1k",
    licence="CC-BY 4.0",
    source="a: b, {c} [d] 'e' \"f\" # g é\nh",
    **NEW,  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet",
        "pins: {}\n",
        "  pins: {net: zoo-net}  # indented\n",
        "{pins: {}}",
        "{}",
        "weights: []\n# end\n",
        "weights: [{component: net, tag: v1, repository: me/net, source: t}]",
        "models: []\nweights:\n    - component: net\n      tag: v1\n      repository: me/net\n"
        "      source: t\npins: {}",
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        "---\n# x\nweights:\n- {component: net, tag: v1, repository: me/net, source: t}\n...\n",
    ],
)
def test_new_entries_are_appended_whole(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    before = read_manifest(file)
    entries = [APPENDED, replace(APPENDED, tag="yes", activation=None, eps=None, licence=None)]
    write([Pin(Target("x", entry, file, appended=True), entry) for entry in entries])
    assert read_manifest(file) == replace(before, weights=(*before.weights, *entries))
    lines = file.read_bytes().decode().splitlines()
    if "{}" not in text.partition("\n")[0] and "[" not in text:
        assert [line for line in text.splitlines() if line not in lines] == []
    if "\r\n" in text:
        assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")


def test_a_new_file_is_made_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "registry.yaml"
    write([Pin(Target("x", APPENDED, file, appended=True), APPENDED)])
    assert read_manifest(file).weights == (APPENDED,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~_umask()
    assert list(file.parent.iterdir()) == [file]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_mode_and_links_of_the_file_stay(file: Path, tmp_path: Path) -> None:
    file.write_text(PLAIN)
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    write(pins(link, "net.v1"))
    assert link.is_symlink()
    assert file.read_text() == PINNED
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_read_only_file_is_not_replaced(file: Path) -> None:
    file.write_text(PLAIN)
    file.chmod(0o444)
    with pytest.raises(RegistryError, match="cannot be written: it is read-only"):
        write(pins(file, "net.v1"))
    assert file.read_text() == PLAIN
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_is_right_is_not_touched(file: Path) -> None:
    file.write_text(PINNED)
    file.chmod(0o444)
    before = file.stat()
    write(pins(file, "net.v1"))
    assert file.stat() == before


def test_of_two_files_none_is_written_if_one_cannot_be(file: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    for path in (file, second):
        path.write_text(PLAIN)
    both = pins(file, "net.v1") + pins(second, "net.v1")
    second.chmod(0o444)
    with pytest.raises(RegistryError, match=r"second\.yaml"):
        write(both)
    assert file.read_text() == PLAIN


def test_what_the_reader_would_refuse_is_not_written(file: Path) -> None:
    file.write_text(PLAIN)
    long = replace(APPENDED, source="x" * 1001)
    with pytest.raises(RegistryError, match=r"it would break .*registry\.yaml:\d+:\d+: 1001 char"):
        write([Pin(Target("x", long, file, appended=True), long)])
    twice = read_manifest(file).weights[0]
    with pytest.raises(RegistryError, match=r"'net\.v1' stands under weights twice"):
        write([Pin(Target("x", twice, file, appended=True), twice)])
    assert file.read_text() == PLAIN
    assert list(file.parent.iterdir()) == [file]


def test_a_file_changed_meanwhile_is_left_alone(file: Path) -> None:
    file.write_text(PLAIN)
    meant = pins(file, "net.v1")
    file.write_text("pins: {}\n")
    with pytest.raises(RegistryError, match="was changed meanwhile"):
        write(meant)
    assert file.read_text() == "pins: {}\n"


def test_the_shipped_file_changes_in_its_pins_only(file: Path) -> None:
    text = shipped_manifest().read_text(encoding="utf-8")
    names = [entry.name for entry in read_manifest(shipped_manifest()).weights]
    written = after(file, text, *names).splitlines()
    lines = text.splitlines()
    assert len(lines) == len(written)
    changed = {(old, new) for old, new in zip(lines, written, strict=True) if old != new}
    assert {new for _, new in changed} == {f"  {key}: {value}" for key, value in NEW.items()}


# Which file, and which entry of it.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own registry file, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)
    own = config_directory() / "registry.yaml"
    own.parent.mkdir(parents=True)
    return own


Chosen = Callable[..., list[tuple[str, Path, bool]]]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """Choose with a registry that is read anew; give entries, files, and whether they are new."""

    def targets(*names: str, file: Path | None = None) -> list[tuple[str, Path, bool]]:
        fresh = Registry()
        monkeypatch.setattr(pinning, "registry", fresh)
        monkeypatch.setattr(inventory, "registry", fresh)
        found = choose(names, file) if names else choose_all(file)
        return [(target.entry.name, target.file, target.appended) for target in found]

    return targets


def entry_of(component: str, tag: str, repository: str = "me/net") -> str:
    return f"- {{component: {component}, tag: {tag}, repository: {repository}, source: t}}\n"


A1, TV = "zoo-resnet:resnet50.a1_in1k", "zoo-resnet:resnet50.tv_in1k"


def test_without_a_file_of_ones_own_it_is_begun(home: Path, chosen: Chosen) -> None:
    assert chosen("resnet50") == [(A1, home, True)]
    assert chosen("resnet50.a1_in1k", "resnet50", "zoo-resnet:resnet50") == [(A1, home, True)]


def test_the_default_of_a_component_stays_its_default(home: Path, chosen: Chosen) -> None:
    both = [(A1, home, True), (TV, home, True)]
    assert chosen("resnet50.tv_in1k") == both
    assert chosen("resnet50.tv_in1k", "resnet50") == both
    home.write_text("weights:\n" + entry_of("resnet50", "mine"))
    assert chosen("resnet50.tv_in1k") == [(TV, home, True)]


def test_the_weights_of_sources_have_no_default_to_keep(home: Path, chosen: Chosen) -> None:
    name = "timm/resnet10t.c3_in1k"
    assert chosen(name) == [(f"zoo-timm:{name}", home, True)]


def test_the_users_file_that_has_the_entry_is_written(
    home: Path, file: Path, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("weights:\n" + entry_of("resnet50", "tv_in1k"))
    file.write_text("weights:\n" + entry_of("zoo-resnet:resnet18", "a1_in1k"))
    monkeypatch.setenv("ZOO_REGISTRY", str(file))
    assert chosen("zoo-resnet:resnet50.tv_in1k") == [("resnet50.tv_in1k", home, False)]
    assert chosen("resnet18") == [("zoo-resnet:resnet18.a1_in1k", file, False)]
    # That of ZOO_REGISTRY is read first, so that the present default has to go there too.
    default = ("resnet50.tv_in1k", file, True)
    assert chosen("resnet50.a1_in1k") == [default, (A1, file, True)]


def test_a_file_that_is_named_is_taken(home: Path, file: Path, chosen: Chosen) -> None:
    home.write_text("weights:\n" + entry_of("resnet50", "a1_in1k"))
    file.write_text("weights:\n" + entry_of("nets", "v1") + entry_of("zoo-resnet:resnet50", "x"))
    assert chosen("resnet50.a1_in1k", file=shipped_manifest()) == [(A1, shipped_manifest(), False)]
    assert chosen("nets", file=file) == [("nets.v1", file, False)]
    assert chosen("resnet50.x", file=file) == [("zoo-resnet:resnet50.x", file, False)]
    assert chosen("resnet50.tv_in1k", file=file) == [(TV, file, True)]
    assert chosen(file=file) == [
        ("nets.v1", file, False),
        ("zoo-resnet:resnet50.x", file, False),
    ]
    with pytest.raises(UsageError, match="unknown weights 'net2'"):
        chosen("net2", file=file)


def test_everything_goes_to_ones_own_file(home: Path, chosen: Chosen) -> None:
    shipped = [(entry.name, home, True) for entry in read_manifest(shipped_manifest()).weights]
    assert chosen() == shipped


def test_the_shipped_file_may_be_the_users_one(
    home: Path, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_REGISTRY", str(shipped_manifest()))
    assert chosen("resnet50.tv_in1k") == [(TV, shipped_manifest(), False)]


# What the Hub says.

TARGET = Target(
    "net.v1",
    WeightsEntry(component="net", tag="v1", repository="me/net", source="t"),
    Path("x.yaml"),
    appended=False,
)
PLACE = "/me/net/resolve/main/model.safetensors"


@pytest.fixture
def served(loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    loopback_hub.add("me/net", {"model.safetensors": b"weights", "small.txt": b"x"})
    monkeypatch.setattr(hub, "_PAUSES", (0.01,))
    return loopback_hub


def test_the_hub_is_asked_for_the_head_only(served: LoopbackHub) -> None:
    pin = ask(TARGET)
    commit = served.commits("me/net")[0]
    assert pin.entry.revision == commit.id
    assert pin.entry.sha256 == commit.files["model.safetensors"].etag
    assert pin.entry.size == 7
    assert pin.changes["size"] == (None, 7)
    assert served.requests == [("HEAD", PLACE)]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ETag", '"' + "0" * 40 + '"', "announces no sha256 of it"),
        ("ETag", '"nonsense"', "announces 'nonsense' as its hash, which is none"),
        ("X-Repo-Commit", "main", "names a commit 'main', which is none"),
        ("X-Linked-Size", "-1", "announces '-1' as its size"),
        ("X-Linked-Size", "0", "size: 0 is not a positive number of bytes"),
    ],
)
def test_nonsense_is_refused(served: LoopbackHub, name: str, value: str, problem: str) -> None:
    served.fault(Header(name, value))
    with pytest.raises(ZooError, match=problem):
        ask(TARGET)


def test_pins_of_a_default_that_is_kept_stay(served: LoopbackHub) -> None:
    entry = replace(TARGET.entry, **OLD)  # type: ignore[arg-type]
    kept = replace(TARGET, entry=entry, appended=True, kept=True)
    assert ask(kept) == Pin(kept, entry)
    assert served.requests == []
    assert ask(replace(kept, kept=False)).changes.keys() == OLD.keys()
    assert ask(replace(kept, entry=TARGET.entry)).entry.pinned


def test_a_hub_that_is_down_costs_one_line(served: LoopbackHub) -> None:
    served.fault(Status(503))
    with pytest.raises(WeightsError) as caught:
        ask(TARGET)
    assert str(caught.value) == (
        f"model.safetensors of me/net: {served.endpoint} cannot be reached (model.safetensors of "
        f"me/net: {served.endpoint} answers 503)"
    )
