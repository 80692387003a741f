"""Find installed plugins and load each on its own, so that a bad one stops no other."""

from __future__ import annotations

import gc
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, distributions, entry_points
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, Literal, TypeVar, cast

import pluggy

from zoo_core import hookspecs
from zoo_core._version import PLUGIN_API, __version__
from zoo_core.errors import PluginError, PluginWarning
from zoo_core.manifest import WeightsEntry
from zoo_core.spec import Source, Spec

GROUP: Final = "zoo.plugins"
HOOKS: Final = tuple(name for name in vars(hookspecs) if name.startswith("zoo_"))
HEAVY: Final = ("torch", "torchvision", "timm", "numpy", "tensorflow", "jax", "transformers")

# A plugin may end the interpreter as it is imported; that must not end ours.
CATCH: Final = (Exception, SystemExit)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """An installed plugin, loaded or not.

    Attributes:
        distribution: Name of the distribution, normalised: its identity.
        version: Version of the distribution.
        module: What its entry point names.
        status: ``ok``, ``failed``, or ``blocked`` by ``ZOO_PLUGINS`` or ``ZOO_BLOCK_PLUGINS``.
        reason: Why it failed or is blocked.
        api: Major and minor number of the interface that it is written against; ``None`` where it
            was not loaded.
        heavy: Heavy modules that its catalogue imported, which slows every command down.
        specs: Its components.
        sources: Its families of components.
        hooks: The hooks that it implements, in the order of :mod:`zoo_core.hookspecs`.
        load_ms: Milliseconds that loading took.
    """

    distribution: str
    version: str
    module: str
    status: Literal["ok", "failed", "blocked"]
    reason: str = ""
    api: tuple[int, int] | None = None
    heavy: tuple[str, ...] = ()
    specs: tuple[Spec, ...] = ()
    sources: tuple[Source, ...] = ()
    hooks: tuple[str, ...] = ()
    load_ms: float = 0.0


def normalise(distribution: str) -> str:
    """Give a distribution's name as the package index compares it: ``Zoo_Net`` is ``zoo-net``."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def strict() -> bool:
    """Whether ``ZOO_STRICT`` asks for failures of plugins to be raised."""
    return os.environ.get("ZOO_STRICT", "") not in ("", "0")


def describe(error: BaseException) -> str:
    """Give an error in one line, with its type unless it is one of ours."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def remedy(distribution: str) -> str:
    """Give the end of a message of a failure: how to be rid of the plugin."""
    return f"('zoo uninstall {distribution}' removes it, ZOO_BLOCK_PLUGINS={distribution} skips it)"


def installed() -> dict[str, str]:
    """Give the distributions of the installed plugins, with their versions; none is loaded."""
    found = _find()
    return {one.distribution: one.version for one in found}


class PluginLoader:
    """Loads the plugins once, and calls their hooks one plugin at a time."""

    def __init__(self) -> None:
        self.manager = _Manager("zoo")
        self.manager.add_hookspecs(hookspecs)
        self._givers: dict[int, str] = {}
        self._hooks: dict[str, set[str]] = {}
        with uncollected():
            self.plugins = tuple(self._load_all())

    def call(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Give, for each plugin that implements a hook, its distribution and the call.

        They come in the order of the distributions' names, ``tryfirst`` before and ``trylast``
        behind the others.
        """
        implementations = self._implementations(hook)
        for implementation in sorted(implementations, key=lambda i: (i.trylast, not i.tryfirst)):
            chosen = {name: arguments[name] for name in implementation.argnames}

            def call(function: Any = implementation.function, chosen: Any = chosen) -> Any:
                return function(**chosen)

            yield implementation.plugin_name, call

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self.manager.hook, hook)
        return caller.get_hookimpls()

    def _load_all(self) -> Iterator[Plugin]:
        found: dict[str, list[_Found]] = {}
        for one in _find():
            found.setdefault(one.distribution, []).append(one)
        allowed = _names("ZOO_PLUGINS")
        blocked = _names("ZOO_BLOCK_PLUGINS") or set()
        for distribution, plugins in found.items():
            if distribution in blocked:
                yield plugins[0].described(status="blocked", reason="named in ZOO_BLOCK_PLUGINS")
            elif allowed is not None and distribution not in allowed:
                yield plugins[0].described(status="blocked", reason="not named in ZOO_PLUGINS")
            else:
                yield self._load_isolated(distribution, plugins)

    def _load_isolated(self, distribution: str, found: list[_Found]) -> Plugin:
        start = time.perf_counter()
        before = sys.modules.keys() & HEAVY
        told: dict[str, Any]
        try:
            if len(found) > 1:
                names = ", ".join(one.entry.value for one in found)
                raise PluginError(f"gives {len(found)} entry points ({names}); one is allowed")
            told = self._load(found[0])
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of an extension module is no Exception
            self._forget(distribution)
            if strict():
                raise PluginError(
                    f"plugin {distribution} {found[0].version} failed: {describe(error)}"
                ) from error
            told = {"status": "failed", "reason": describe(error)}
        heavy = [name for name in HEAVY if name in sys.modules and name not in before]
        elapsed = (time.perf_counter() - start) * 1000
        return found[0].described(**told, heavy=tuple(heavy), load_ms=elapsed)

    def _load(self, found: _Found) -> dict[str, Any]:
        """Load a plugin, and give what it tells of itself."""
        if not found.version:
            raise PluginError("its metadata is damaged; install it again")
        _check_requirements(found.requirements)
        module = found.entry.load()
        api = _check_api(module)
        _check_hook_names(module)
        name = found.distribution
        other = self._givers.setdefault(id(module), name)
        if other != name:
            raise PluginError(f"its module {found.entry.value} is the plugin of {other} already")
        marked = self._hooks[name] = self.manager.register_marked(module, name)
        specs = _collect(self.own(name, "zoo_specs"), Spec, "zoo_specs")
        sources = _collect(self.own(name, "zoo_sources"), Source, "zoo_sources")
        _check_repeats(specs)
        return {
            "status": "ok",
            "api": api,
            "hooks": tuple(hook for hook in HOOKS if hook in marked),
            "specs": tuple(spec.given_by(name) for spec in specs),
            "sources": tuple(replace(source, provider=name) for source in sources),
        }

    def _forget(self, distribution: str) -> None:
        """Undo the registration of a plugin that failed at it or afterwards."""
        if self.manager.has_plugin(distribution):
            self.manager.unregister(name=distribution)
        self._hooks.pop(distribution, None)
        self._givers = {key: name for key, name in self._givers.items() if name != distribution}

    def own(self, distribution: str, hook: str) -> Iterator[Any]:
        """Give what one plugin's implementations of a hook without arguments yield."""
        if hook not in self._hooks[distribution]:
            return
        for implementation in self._implementations(hook):
            if implementation.plugin_name == distribution:
                yield from iterable(implementation.function(), hook)

    def weights(self) -> Iterator[WeightsEntry]:
        """Give the weights that plugins add; a plugin whose hook fails is warned of.

        Raises:
            PluginError: If a plugin's hook fails, or gives something else, and ``ZOO_STRICT`` is
                set.
        """
        for plugin in self.plugins:
            if plugin.status != "ok":
                continue
            name = plugin.distribution
            try:
                entries = _collect(self.own(name, "zoo_weights"), WeightsEntry, "zoo_weights")
            except CATCH as error:
                problem = f"plugin {name}: zoo_weights: {describe(error)}"
                if strict():
                    raise PluginError(problem) from error
                warnings.warn(f"{problem} {remedy(name)}", PluginWarning, stacklevel=2)
                continue
            for entry in entries:
                yield replace(entry, provider=name)


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: what plugins bring stays, and is searched in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                gc.freeze()  # both together call all that was made old; else it is searched now
                gc.unfreeze()
            gc.enable()


_ROUTINES: Final = (FunctionType, BuiltinFunctionType, MethodType)


class _Manager(pluggy.PluginManager):
    """Looks for hooks among the functions of a module only, which takes a tenth of the time."""

    def register_marked(self, plugin: object, name: str) -> set[str]:
        """Register a plugin, and give the hooks that it implements."""
        self._marked: set[str] = set()
        self.register(plugin, name=name)
        return self._marked

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """Give the options of a hook's implementation, ``None`` of anything else."""
        if isinstance(plugin, ModuleType):
            value = vars(plugin).get(name)
            marked = getattr(value, "zoo_impl", None) if isinstance(value, _ROUTINES) else None
            options = cast(pluggy.HookimplOpts, marked) if isinstance(marked, dict) else None
        else:
            options = super().parse_hookimpl_opts(plugin, name)
        if options is not None:
            self._marked.add(options.get("specname") or name)
        return options


_HEADER = re.compile(r"^(Name|Version|Requires-Dist):(.*)$", re.IGNORECASE | re.MULTILINE)
_REQUIRES: Final = len("Requires-Dist")


class _Found:
    """An entry point, and what the metadata of its distribution say, read once."""

    def __init__(self, entry: EntryPoint) -> None:
        self.entry = entry
        # Both are missing where a broken uninstallation left a part behind.
        read = entry.dist.read_text if entry.dist else lambda name: None
        try:
            text = read("METADATA") or read("PKG-INFO") or ""
        except ValueError:  # no UTF-8
            text = ""
        headers = _HEADER.findall(text.partition("\n\n")[0])
        told = {key.lower(): value.strip() for key, value in reversed(headers)}
        self.distribution = normalise(told.get("name") or entry.name)
        self.version = told.get("version", "")
        self.requirements = [value.strip() for key, value in headers if len(key) == _REQUIRES]

    def order(self) -> tuple[str, str, str]:
        return self.distribution, self.entry.name, self.entry.value

    def described(self, **told: Any) -> Plugin:
        """Give the plugin with what loading it told."""
        return Plugin(
            distribution=self.distribution, version=self.version, module=self.entry.value, **told
        )


def _find() -> list[_Found]:
    """Give the entry points of all plugins, in the order of their distributions' names."""
    entries: Iterable[EntryPoint]
    try:
        entries = entry_points(group=GROUP)
    except CATCH:  # those of one distribution, whichever, cannot be read
        entries = list(_readable())
    return sorted(map(_Found, entries), key=_Found.order)


def _readable() -> Iterator[EntryPoint]:
    """Give the entry points that can be read, and warn of distributions whose cannot."""
    seen: set[str] = set()
    for distribution in distributions():
        try:
            points = distribution.entry_points.select(group=GROUP)
        except CATCH as error:
            folder = getattr(distribution, "_path", "a distribution")
            warnings.warn(
                f"the entry points in {folder} cannot be read: {describe(error)}; if it is a "
                f"plugin, it is not loaded until it is installed again",
                PluginWarning,
                stacklevel=2,
            )
            continue
        names = {_Found(point).distribution for point in points}
        if not names & seen:  # the first one on the path counts
            yield from points
        seen |= names


def _names(variable: str) -> set[str] | None:
    """Give the distributions that an environment variable names, ``None`` if it is not set."""
    value = os.environ.get(variable)
    if value is None:
        return None
    return {normalise(name.strip()) for name in value.split(",") if name.strip()}


_CORE = re.compile(r"zoo[-_.]core(?![\w.-])", re.IGNORECASE)
_SIMPLE = re.compile(r"zoo[-_.]core\s*\(?\s*(?:>=\s*(\d+(?:\.\d+)*))?\s*\)?", re.IGNORECASE)


def _check_requirements(requirements: Iterable[str]) -> None:
    """Refuse a plugin whose metadata asks for another zoo-core, before its code is imported."""
    for text in requirements:
        if _CORE.match(text) and not _accepts_our_version(text):
            raise PluginError(f"needs {text}, and zoo-core {__version__} is installed")


def _accepts_our_version(requirement: str) -> bool:
    simple = _SIMPLE.fullmatch(requirement)
    if simple and _OURS is not None:
        # Nearly every plugin writes it so, and importing packaging would cost 40 ms.
        return _release(simple[1] or "0") <= _OURS
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    if parsed.marker and not parsed.marker.evaluate({"extra": ""}):
        return True
    return parsed.specifier.contains(__version__, prereleases=True)


def _release(version: str) -> tuple[int, ...]:
    """Give the numbers of a version without zeros at their end: 1.0 is as good as 1."""
    return tuple(map(int, re.sub(r"(\.0+)+$", "", version).split(".")))


_OURS: Final = _release(__version__) if re.fullmatch(r"[\d.]+", __version__) else None


def _check_api(module: object) -> tuple[int, int]:
    api = getattr(module, "ZOO_API", None)
    ours = ".".join(map(str, PLUGIN_API))
    match api:
        case (int(major), int(minor)):
            if major != PLUGIN_API[0] or minor > PLUGIN_API[1]:
                raise PluginError(f"is written for plugin API {major}.{minor}; this is {ours}")
            return major, minor
        case None:
            raise PluginError(f"does not say its plugin API; put ZOO_API = {PLUGIN_API} in it")
        case _:
            raise PluginError(f"ZOO_API is {api!r}; it must be two numbers such as {PLUGIN_API}")


def _check_hook_names(module: object) -> None:
    for name, value in vars(module).items():
        marked = getattr(value, "zoo_impl", None)
        if name in HOOKS and callable(value) and not isinstance(marked, dict):
            raise PluginError(f"{name} is not marked as a hook; write @hookimpl above it")
        hook = (marked.get("specname") or name) if isinstance(marked, dict) else None
        if hook is not None and hook not in HOOKS:
            from difflib import get_close_matches

            near = get_close_matches(hook, HOOKS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(HOOKS)}"
            raise PluginError(f"{hook} is no hook of the zoo; {hint}")


_T = TypeVar("_T")


def iterable(result: object, hook: str) -> Iterable[Any]:
    """Give what a hook gave if it is a series of things.

    Raises:
        PluginError: If it is none, or a text or a mapping.
    """
    if isinstance(result, Iterable) and not isinstance(result, str | dict):
        return result
    raise PluginError(f"{hook} gave {result!r}; it must give an iterable")


def _collect(results: Iterable[Any], kind: type[_T], hook: str) -> tuple[_T, ...]:
    collected = tuple(results)
    for item in collected:
        if not isinstance(item, kind):
            raise PluginError(f"{hook} gave {item!r}; it must give {kind.__name__} objects")
    return collected


def _check_repeats(specs: tuple[Spec, ...]) -> None:
    names = [(spec.kind, spec.name) for spec in specs]
    names += [(spec.kind, alias) for spec in specs for alias in spec.aliases]
    if len(set(names)) < len(names):
        kind, name = next(one for i, one in enumerate(names) if one in names[:i])
        raise PluginError(f"gives the {kind} {name!r} twice")
