"""Whatever the grammar, the catalogue and registry files are given: a result or a ``ZooError``.

The cases are the same in every run; ``--long`` draws ten times as many, and others each time.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import Distribution, EntryPoints
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo_core import Source, Spec, WeightsEntry, hookimpl, loader
from zoo_core.building import _expand
from zoo_core.catalogue import Registry
from zoo_core.cli import catalogue as commands
from zoo_core.cli import tables
from zoo_core.errors import PluginError, PluginWarning, ZooError
from zoo_core.grammar import parse, with_options
from zoo_core.loader import HOOKS, PluginLoader
from zoo_core.manifest import Manifest, Preprocessing, read_manifest
from zoo_core.spec import KINDS
from zoo_core.store import fetching

CASES = {
    "recipes": 6000,
    "options": 2000,
    "specs": 2000,
    "hooks": 2000,
    "metadata": 2000,
    "stores": 1000,
    "mutilated": 3500,
    "structures": 2000,
}
"""Cases of each test, 20,500 in all."""

Check = Callable[[Any], object]

# Hypothesis' own alphabet, all of Unicode, takes seconds to be laid out.
ODD = "aZ09_-/.:@+=>~,;#!&*%|?'\"{}[]() \n\t\r\0\x1b\x85é×ſK²٣\u2028\u202e\ufeff\ud800\U0001f600"


def text(most: int) -> st.SearchStrategy[str]:
    """Give texts of odd characters."""
    return st.text(ODD, max_size=most)


class Hostile:
    """Fails at whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        raise SystemExit(3)

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class MuteError(Exception):
    """Cannot be told of."""

    def __str__(self) -> str:
        raise RuntimeError("str")


def fuzz(cases: str, values: st.SearchStrategy[Any], check: Check, *, long: bool) -> None:
    """Call a check with many values; what it raises beside ``ZooError`` is a failure."""
    count = CASES[cases] * (10 if long else 1)
    tried = 0

    @settings(
        max_examples=count,
        derandomize=not long,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def run(value: Any) -> None:
        nonlocal tried
        tried += 1
        with suppress(ZooError):
            check(value)

    run()
    assert tried >= count


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", default=False))


def test_there_are_enough_cases() -> None:
    assert sum(CASES.values()) >= 20_000


# A plugin in memory, which is found as an installed one is.


class Made(Distribution):
    def __init__(self, metadata: str, module: str = "fuzzed_plugin") -> None:
        points = f"[zoo.plugins]\nfuzzed = {module}\n"
        self._files = {"METADATA": metadata, "entry_points.txt": points}

    def read_text(self, filename: str) -> str | None:
        return self._files.get(filename)

    def locate_file(self, path: Any) -> Path:
        return Path(path)


METADATA = "Metadata-Version: 2.4\nName: fuzzed\nVersion: 1.0\nRequires-Dist: zoo-core>=0.1\n"


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Give the registry of one plugin with these hooks, and nothing else."""

    def plug(hooks: Mapping[str, Any], api: Any = (1, 0), metadata: str = METADATA) -> Registry:
        module = ModuleType("fuzzed_plugin")
        module.ZOO_API = api  # type: ignore[attr-defined]
        for name, function in hooks.items():
            setattr(module, name, hookimpl(specname=name)(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points = EntryPoints(Made(metadata).entry_points)
        monkeypatch.setattr(loader, "entry_points", lambda group: points.select(group=group))
        registry = Registry()
        registry.__dict__["loader"] = PluginLoader()
        registry.__dict__["_manifests"] = []
        return registry

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        yield plug


NETS = (
    Spec(
        kind="backbone",
        name="net18",
        target="a.b:Net",
        kwargs={"depth": 18},
        channels=(8, 16, 32, 64),
        strides=(4, 8, 16, 32),
        options={"width": "channels"},
        aliases=("net",),
    ),
    Spec(kind="backbone", name="bare", target="a.b:Bare"),
    Spec(kind="attention", name="gate", target="a.b:Gate", options={"reduction": "by what"}),
    Spec(kind="attention", name="gate2", target="a.b:Gate2"),
    Spec(kind="decoder", name="up", target="a.b:Up", options={}),
    Spec(kind="explainer", name="cam", target="a.b:Cam"),
)
FAMILY = Source(
    kind="backbone",
    prefix="far/",
    names=lambda: ["one", "two18"],
    spec=lambda name: Spec(kind="backbone", name=f"far/{name}", target="a.b:Far"),
    tags=lambda name: ["t1"],
    target="a.b:Far",
)
ENTRY = WeightsEntry(component="net18", tag="a1", repository="me/net", source="a test")


@pytest.fixture
def registry(plugged: Callable[..., Registry]) -> Registry:
    return plugged(
        {
            "zoo_specs": lambda: NETS,
            "zoo_sources": lambda: [FAMILY],
            "zoo_weights": lambda: [ENTRY],
        }
    )


# Recipes.

WORDS = ["net18", "net", "bare", "gate", "gate2", "up", "cam", "far/one", "far/", "nosuch"]
word = st.sampled_from(WORDS)
MARKS = "+gate +gate@all +gate2@1 +up + @ @last @all @1,3 @0 @9 @1,,2 @-1 . .a1 .t1 : / - _ é"
FRAGMENTS = [
    *WORDS,
    *(f"+{word}" for word in WORDS),
    *MARKS.split(),
    *("fuzzed:", "Fuzzed:", "other:", "far/two18", " ", "\x00"),
    *("@999999999", "@" + "9" * 4301),
]
beginning = st.sampled_from(["", "net18", "bare", "far/one", "net.a1", "fuzzed:net18"])
recipe = st.builds(
    lambda first, rest: first + "".join(rest),
    beginning,
    st.lists(st.sampled_from(FRAGMENTS) | text(2), max_size=6),
)


def test_recipes(registry: Registry, long: bool) -> None:
    asked = (
        registry.named_model,
        registry.find_weights,
        registry.of_kind(*KINDS).__getitem__,
        registry.backbones.near,
    )

    def check(text: str) -> None:
        with suppress(ZooError):
            asked[len(text) % len(asked)](text)
        found = parse(text, registry)
        assert parse(found.canonical, registry) == found
        for count in (1, 4, 5):
            for one in found.attention:
                with suppress(ZooError):
                    assert one.placed(count) == sorted(set(one.placed(count)))

    fuzz("recipes", recipe, check, long=long)


scalar = st.none() | st.booleans() | st.integers() | st.floats() | text(8)
anything = (
    scalar
    | st.lists(scalar, max_size=2)
    | st.tuples(scalar)
    | st.dictionaries(text(3) | st.integers(), scalar, max_size=2)
)
name = st.sampled_from(["width", "depth", "reduction", "in_channels", "pooled", "wdith", "x"])
options = st.none() | st.dictionaries(name | scalar, scalar, max_size=2) | anything


def test_options(registry: Registry, long: bool) -> None:
    recipes = [
        parse(text, registry)
        for text in ("net18", "bare+gate", "net18+gate+gate+up", "net+gate@all+gate2+up", "net+up")
    ]
    named = st.dictionaries(word, options, max_size=1)
    cases = st.tuples(
        st.sampled_from(recipes), options, options | st.lists(options, max_size=2), options, named
    )

    def check(case: Any) -> None:
        recipe, backbone, attention, decoder, by_name = case
        full = with_options(
            recipe, backbone=backbone, attention=attention, decoder=decoder, named=by_name
        )
        assert full.canonical == recipe.canonical

    fuzz("options", cases, check, long=long)


# The catalogue.


def use(registry: Registry) -> None:
    """Do with a catalogue what the commands do with it."""
    for kind in (None, *KINDS):
        for pattern in (None, "*", "far/*"):
            with suppress(ZooError):
                specs = commands.list_components(kind, pattern)
                show(registry, specs)
    for source in registry.sources():
        registry.source_names(source)
    for one in list(registry)[:20]:
        with suppress(ZooError):
            registry.named_model(one)
            spec = registry[one]
            registry.tags_of(spec)
            commands._facts(spec)
            commands._spec_json(spec)
            parse(one, registry)
        with suppress(ZooError):
            registry.find_weights(one)
    repr(registry)
    for entry in registry.weights:
        commands._entry_row(entry)
        commands._entry_json(entry)
    for plugin in registry.plugins:
        tables.echo_table(["a"] * 6, [commands._plugin_row(plugin)])


def show(registry: Registry, specs: list[Spec]) -> None:
    rows = [commands._row(spec, registry.of_kind(spec.kind)) for spec in specs]
    rows += [commands._count_row(source, "x", 1) for source in registry.sources()]
    tables.echo_table(["a", "b", "c", "d", "e", "f"], rows)
    tables.echo_json([commands._spec_json(spec) for spec in specs])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Registry], None]:
    """Use a registry as if it were the one, and encode what is shown."""

    def using(registry: Registry) -> None:
        monkeypatch.setattr("zoo_core.catalogue.registry", registry)
        monkeypatch.setattr(commands, "registry", registry)
        out = StringIO()
        monkeypatch.setattr("sys.stdout", out)
        use(registry)
        out.getvalue().encode()

    return using


words = st.sampled_from(["net", "net18", "far/one", "a b", "", "9" * 5000, "ſ", "x\ny", "\ud800"])
kinds = st.sampled_from([*KINDS, "backbones", ""]) | anything
target = st.sampled_from(["a.b:C", "a:B", "nowhere", "a.b:", "x:y:z"]) | anything
fields = st.fixed_dictionaries(
    {"kind": kinds, "name": words | anything, "target": target},
    optional={
        "kwargs": anything,
        "summary": words | anything,
        "channels": st.lists(st.integers(), max_size=3) | anything,
        "strides": st.lists(st.integers(), max_size=3) | anything,
        "input_size": anything,
        "options": anything,
        "tags": st.lists(words) | anything,
        "aliases": st.lists(words) | anything,
        "weights_of": words | anything,
        "provider": words,
    },
)
good = st.sampled_from(NETS)
likely = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "name": st.sampled_from(["net", "n2"]),
        "target": st.just("a:B"),
    },
    optional={
        "kwargs": st.dictionaries(text(4), anything, max_size=2) | anything,
        "summary": text(9) | words,
        "channels": st.lists(st.integers(-1, 9), max_size=2),
        "strides": st.lists(st.integers(-1, 9), max_size=2),
        "options": st.dictionaries(words | text(4), words, max_size=2),
        "tags": st.lists(words, max_size=2),
        "aliases": st.lists(words, max_size=2),
        "weights_of": words,
    },
)


Plug = Callable[..., Registry]
Shown = Callable[[Registry], None]


def test_specs(plugged: Plug, shown: Shown, long: bool) -> None:
    """What a Spec takes can be shown, asked for and built into a recipe."""

    def check(given: dict[str, Any]) -> None:
        spec = Spec(**given)
        registry = plugged({"zoo_specs": lambda: [spec]})
        [plugin] = registry.plugins
        if plugin.status == "failed":
            assert plugin.reason.endswith(" twice")  # an alias that is the name
            return
        assert registry.of_kind(spec.kind)[spec.name] == spec.given_by("fuzzed")
        shown(registry)

    fuzz("specs", fields | likely | likely, check, long=long)


hostile = st.builds(Hostile)
weird = anything | hostile | words | good | st.just(ENTRY) | st.just(FAMILY)
entries = st.fixed_dictionaries(
    {
        "component": st.just("net") | words,
        "tag": st.just("a1") | words,
        "repository": st.just("me/net") | anything,
        "source": anything,
    },
    optional={
        "preprocessing": st.builds(
            Preprocessing, size=anything, mean=anything, crop=anything, interpolation=anything
        )
        | anything,
        "layout": anything,
        "labels": anything,
        "licence": anything,
        "classes": anything,
        "eps": anything,
    },
)
raising = st.sampled_from([ValueError("x"), SystemExit(0), MuteError(), KeyError()])
callable_ = st.builds(lambda value: lambda *_: value, weird | st.lists(words | weird, max_size=3))
failing = raising.map(lambda error: lambda *_: (_ for _ in ()).throw(error))
sources = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS) | kinds,
        "prefix": st.sampled_from(["far/", "a/b/", "far", "/"]) | anything,
        "names": callable_ | failing | weird,
        "spec": callable_ | failing | weird,
        "target": st.just("a:B") | target,
    },
    optional={"tags": callable_ | failing | weird, "weights": weird, "summary": words | anything},
)
givens = st.lists(
    weird
    | fields.map(lambda given: (Spec, given))
    | likely.map(lambda given: (Spec, given))
    | sources.map(lambda given: (Source, given))
    | entries.map(lambda given: (WeightsEntry, given)),
    max_size=3,
)
results = givens | weird | raising


def give(results: Any) -> Callable[[], Any]:
    """Give a hook that makes and gives these things when it is called."""

    def hook() -> Any:
        if isinstance(results, BaseException):
            raise results
        if not isinstance(results, list):
            return results
        return [
            one[0](**one[1]) if isinstance(one, tuple) and one and isinstance(one[0], type) else one
            for one in results
        ]

    return hook


def test_hooks(plugged: Plug, shown: Shown, long: bool) -> None:
    """Whatever hooks give or raise, the plugin is usable or has failed with a reason."""
    cases = st.dictionaries(st.sampled_from(HOOKS[:3]), results, min_size=1)

    def check(hooks: dict[str, Any]) -> None:
        registry = plugged({name: give(result) for name, result in hooks.items()})
        [plugin] = registry.plugins
        assert plugin.status == ("failed" if plugin.reason else "ok")
        shown(registry)

    fuzz("hooks", cases, check, long=long)


def test_metadata_and_api(plugged: Callable[..., Registry], long: bool) -> None:
    line = st.sampled_from(
        ["Name: fuzzed", "Name:", "Version: 1.0", "Version: x", "Requires-Dist: zoo-core>=0.1", ""]
    )
    needs = text(12).map(lambda text: f"Requires-Dist: zoo-core{text}")
    operators = st.sampled_from([">=0.1", "<0.2,>=0", "==0.*", ">=99", "; extra == 'x'", "[a]>=x"])
    lines = line | needs | operators.map(lambda text: f"Requires-Dist: zoo-core {text}")
    metadata = st.lists(lines | text(12), max_size=5).map("\n".join)
    apis = st.just((1, 0)) | weird

    def check(case: tuple[str, Any]) -> None:
        metadata, api = case
        [plugin] = plugged({}, api, metadata).plugins
        assert plugin.status == ("failed" if plugin.reason else "ok")
        commands._plugin_row(plugin)

    fuzz("metadata", st.tuples(metadata, apis), check, long=long)


def test_stores(
    plugged: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """Whatever a plugin's store gives for an entry, it is a file, nothing or an error."""

    def check(result: Any) -> None:
        def fetch() -> Any:
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(fetching, "registry", plugged({"zoo_fetch_weights": fetch}))
        assert fetching._from_plugins(ENTRY) is None

    fuzz("stores", weird | raising, check, long=long)


# Registry files.

SHIPPED = Path(__file__).parent.parent / "registry.yaml"
SAMPLE = """\
weights:
  - component: fuzzed:net18
    tag: a1_in1k
    repository: timm/net18.a1_in1k
    revision: unpinned
    sha256: unpinned
    size: unpinned
    layout: timm
    preprocessing: {size: 224, crop: 0.95, mean: [0.485, 0.456, 0.406], interpolation: bicubic}
    classes: 1000
    licence: apache-2.0
    source: "https://huggingface.co/timm"
models:
  - name: small
    recipe: net18+gate+up
    classes: {classification: 10}
    options: {gate: {reduction: 8}, backbone: {width: 2.5}}
    image_size: [64, 96]
pins: {net18: fuzzed}
"""


def use_manifest(manifest: Manifest, registry: Registry) -> None:
    """Do with a registry file what commands do with it."""
    with_file = Registry()
    with_file.__dict__["loader"] = registry.loader
    with_file.__dict__["_manifests"] = [manifest]
    assert len(with_file.weights) >= len(manifest.weights)
    for entry in manifest.weights:
        with suppress(ZooError):
            assert with_file.find_weights(entry.name)
        commands._entry_row(entry)
    for model in manifest.models:
        commands._model_row(model)
        with suppress(ZooError):
            with_file.named_model(model.name)
            _expand(model)
    for component in with_file.pins:
        with suppress(ZooError):
            with_file[component]


def read(data: bytes, path: Path, registry: Registry) -> None:
    path.write_bytes(data)
    manifest = read_manifest(path)
    use_manifest(manifest, registry)


@pytest.fixture
def expanding(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr("zoo_core.building.registry", registry)
    return registry


def test_mutilated_registry_files(expanding: Registry, tmp_path: Path, long: bool) -> None:
    """Pieces of a right file are replaced, left out, doubled or swapped."""
    whole = SAMPLE.encode()
    place = st.integers(0, len(whole))
    bits = st.sampled_from(
        [b"", b"\n", b"  ", b"\xff", b"\x00", b"\xef\xbb\xbf"]
    ) | st.sampled_from(b"- : { ] &a *a !!int null 1e999 0o7 --- ? | ' \" % -5".split())
    wound = st.tuples(place, st.integers(0, 40), bits | st.binary(max_size=5))

    def check(wounds: list[tuple[int, int, bytes]]) -> None:
        data = whole
        for start, length, instead in wounds:
            data = data[:start] + instead + data[start + length :]
        read(data, tmp_path / "registry.yaml", expanding)

    read(whole, tmp_path / "registry.yaml", expanding)
    fuzz("mutilated", st.lists(wound, max_size=3), check, long=long)


def test_registry_files_of_any_structure(expanding: Registry, tmp_path: Path, long: bool) -> None:
    """Right keys with arbitrary values, wrong keys, and any YAML at all."""
    right = yaml.safe_load(SAMPLE)
    keys = st.sampled_from(sorted({*right, *right["weights"][0], *right["models"][0], "eps", "x"}))

    def spoilt(whole: dict[str, Any]) -> st.SearchStrategy[Any]:
        change = st.dictionaries(keys, anything | words, max_size=2)
        return change.map(lambda changed: {**whole, **changed})

    weights = st.lists(spoilt(right["weights"][0]) | anything, max_size=2)
    models = st.lists(spoilt(right["models"][0]) | anything, max_size=2)
    pins = st.dictionaries(words, words, max_size=2)
    files = st.fixed_dictionaries(
        {}, optional={"weights": weights, "models": models, "pins": pins | anything}
    )

    def check(data: Any) -> None:
        text = data if isinstance(data, str) else yaml.safe_dump(data)
        read(text.encode(errors="replace"), tmp_path / "registry.yaml", expanding)

    fuzz("structures", files | anything | text(40), check, long=long)


def test_the_fuzz_sees_what_it_should(registry: Registry) -> None:
    """Each check fails where something else than a ``ZooError`` is raised."""

    def check(text: str) -> None:
        if "net" in text:
            raise KeyError(text)

    with pytest.raises((KeyError, ExceptionGroup)):
        fuzz("recipes", st.sampled_from(["gate", "net"]), check, long=False)
    with pytest.raises(PluginError, match="is no component name"):
        Spec(kind="backbone", name="a b", target="a:B")
