"""Every installed component by name, read from the plugins when first asked for."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property

from zoo_core.errors import (
    AmbiguousComponentError,
    PluginError,
    PluginWarning,
    UnknownComponentError,
    UsageError,
    WeightsError,
)
from zoo_core.loader import CATCH, Plugin, PluginLoader, describe, iterable, normalise, remedy
from zoo_core.manifest import (
    Manifest,
    NamedModel,
    WeightsEntry,
    read_manifest,
    shipped_manifest,
    user_manifests,
)
from zoo_core.spec import KINDS, LONGEST, Source, Spec, is_name


class Components(Mapping[str, Spec]):
    """The components of one kind, or of all, as a mapping from name to :class:`Spec`.

    Names are plain (``resnet50``), qualified (``zoo-resnet:resnet50``) or an alias. Iterating
    gives each component's plain name, or the qualified one where two distributions give the same
    name, and goes through sources (``timm/…``) as well.
    """

    def __init__(self, registry: Registry, kinds: Sequence[str]) -> None:
        self._registry = registry
        self._kinds = tuple(kinds)

    @cached_property
    def _by_name(self) -> dict[str, list[Spec]]:
        found: dict[str, list[Spec]] = {}
        for spec in self._listed:
            for name in (spec.name, *spec.aliases):
                found.setdefault(name, []).append(spec)
        return found

    @cached_property
    def _listed(self) -> tuple[Spec, ...]:
        by_kind = self._registry._by_kind
        return tuple(spec for kind in KINDS if kind in self._kinds for spec in by_kind[kind])

    @cached_property
    def _sources(self) -> tuple[Source, ...]:
        plugins = self._registry.plugins
        return tuple(s for plugin in plugins for s in plugin.sources if s.kind in self._kinds)

    def listed(self) -> list[Spec]:
        """Give the components that plugins list one by one, sources left out."""
        return list(self._listed)

    def sources(self) -> list[Source]:
        """Give the families of components that are listed lazily."""
        return list(self._sources)

    def __getitem__(self, name: str) -> Spec:
        candidates = self.candidates(name)
        if len(candidates) > 1:
            candidates = self._pinned(name, candidates)
        if len(candidates) > 1:
            qualified = " and ".join(spec.qualified_name for spec in candidates)
            if len({spec.kind for spec in candidates}) > 1:
                kinds = " and ".join(f"{s.kind} {s.qualified_name}" for s in candidates)
                raise AmbiguousComponentError(f"{name!r} is given by {kinds}; say of which kind")
            raise AmbiguousComponentError(
                f"{name!r} is given by {qualified}; write one of these names, or pin the "
                f"distribution in a registry file: 'pins: {{{name}: {candidates[0].provider}}}'"
            )
        if candidates:
            return candidates[0]
        raise UnknownComponentError(self._unknown(name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.candidates(name))

    def __iter__(self) -> Iterator[str]:
        lazy = [
            (source.provider, source.prefix + name)
            for source in self.sources()
            for name in self._registry.source_names(source)
        ]
        count = Counter(name for _, name in lazy)
        for spec in self.listed():
            yield self.shown_name(spec) if not count[spec.name] else spec.qualified_name
        for provider, name in lazy:
            alone = count[name] + len(self._by_name.get(name, ())) == 1
            yield name if alone else f"{provider}:{name}"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def shown_name(self, spec: Spec) -> str:
        """Give the plain name of a listed component, or the qualified one where it is shared."""
        alone = len(self._by_name.get(spec.name, ())) == 1
        return spec.name if alone else spec.qualified_name

    def __repr__(self) -> str:
        sources = [f"{source.prefix}…" for source in self.sources()]
        names = [spec.name for spec in self.listed()]
        return f"<{' and '.join(self._kinds)} components: {', '.join(names + sources)}>"

    def candidates(self, name: str) -> list[Spec]:
        """Give every component that a plain or qualified name may mean."""
        distribution, colon, plain = name.rpartition(":")
        specs = list(self._by_name.get(plain, ()))
        for source in self._sources if "/" in plain else ():
            rest = plain.removeprefix(source.prefix)
            if rest != plain and rest in self._registry.source_names(source):
                specs.append(self._registry.source_spec(source, rest))
        if colon:
            specs = [spec for spec in specs if spec.provider == normalise(distribution)]
        return specs

    def near(self, name: str) -> list[str]:
        """Give up to three known names that look like ``name``."""
        from difflib import get_close_matches

        plain = name.rpartition(":")[2]
        if len(plain) > LONGEST:
            return []
        sources = self.sources()
        names = [*self._by_name]
        if "backbone" in self._kinds:
            names += self._registry.models
        for source in sources:
            if plain.startswith(source.prefix):
                names += [source.prefix + rest for rest in self._registry.source_names(source)]
        near = get_close_matches(plain.lower(), names, 3, 0.6)
        if not near:
            for source in sources:
                if plain in self._registry.source_names(source):
                    near.append(source.prefix + plain)
        return near

    def _pinned(self, name: str, candidates: list[Spec]) -> list[Spec]:
        provider = self._registry.pins.get(name)
        pinned = [spec for spec in candidates if provider and spec.provider == provider]
        return pinned or candidates

    def _unknown(self, name: str) -> str:
        kinds = " or ".join(self._kinds) if len(self._kinds) < len(KINDS) else "component"
        near = self.near(name)
        hint = f"did you mean {' or '.join(near)}?" if near else "'zoo list' shows what there is"
        if name in self._registry.models:
            hint = "it is a named model, and stands alone"
        for source in self.sources():
            if name.rstrip("/") + "/" == source.prefix:
                hint = f"'zoo list {source.prefix}*' shows the names that begin so"
        failed = [p.distribution for p in self._registry.plugins if p.status == "failed"]
        if failed:
            hint += f" (plugins that failed to load: {', '.join(failed)})"
        return f"unknown {kinds} {name!r}; {hint}"


class Registry(Components):
    """All installed components; its views ``backbones``, ``decoders``… hold those of one kind."""

    def __init__(self) -> None:
        super().__init__(self, KINDS)
        self.backbones = Components(self, ["backbone"])
        self.attention = Components(self, ["attention"])
        self.decoders = Components(self, ["decoder"])
        self.explainers = Components(self, ["explainer"])
        self._names: dict[Source, Sequence[str]] = {}
        self._views: dict[tuple[str, ...], Components] = {}

    def of_kind(self, *kinds: str) -> Components:
        """Give the components of these kinds.

        Raises:
            UsageError: If there is no such kind.
        """
        if kinds in self._views:
            return self._views[kinds]
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"unknown kind {kind!r}; kinds are {', '.join(KINDS)}")
        return self._views.setdefault(kinds, Components(self, kinds))

    @cached_property
    def loader(self) -> PluginLoader:
        """The loaded plugins; loading them warns of each that failed."""
        loader = PluginLoader()
        for plugin in loader.plugins:
            _warn_of(plugin)
        _warn_of_absent(loader.plugins)
        return loader

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every installed plugin, failed and blocked ones too."""
        return self.loader.plugins

    @property
    def sorted_specs(self) -> tuple[Spec, ...]:
        """Every component that plugins list one by one, by kind and name."""
        return self._listed

    @cached_property
    def _by_kind(self) -> dict[str, list[Spec]]:
        found: dict[str, list[Spec]] = {kind: [] for kind in KINDS}
        for plugin in self.plugins:
            for spec in plugin.specs:
                found[spec.kind].append(spec)
        for specs in found.values():
            specs.sort(key=_order)
        return found

    @cached_property
    def _manifests(self) -> list[Manifest]:
        return [read_manifest(path) for path in (*user_manifests(), shipped_manifest())]

    @cached_property
    def pins(self) -> dict[str, str]:
        """Component name to the distribution that its plain name means."""
        return {
            name: normalise(distribution)
            for manifest in reversed(self._manifests)
            for name, distribution in manifest.pins.items()
        }

    @cached_property
    def models(self) -> Mapping[str, NamedModel]:
        """Named models by name: the user's files', then ours."""
        winners: dict[str, NamedModel] = {}
        for model in self._models:
            winners.setdefault(model.name, model)
        return winners

    @cached_property
    def _models(self) -> list[NamedModel]:
        return [model for manifest in self._manifests for model in manifest.models]

    def named_model(self, name: str) -> NamedModel | None:
        """Give the named model that a recipe is, ``None`` if it is none.

        Raises:
            AmbiguousComponentError: If a component has this name too.
        """
        model = self.models.get(name)
        specs = self.candidates(name) if model else []
        if model and specs:
            components = " and ".join(f"the {spec.kind} {spec.qualified_name}" for spec in specs)
            raise AmbiguousComponentError(
                f"{name!r} is a named model of {model.origin} and {components}; write "
                f"{specs[0].qualified_name!r} for the component, or give the model another name"
            )
        return model

    @cached_property
    def weights(self) -> tuple[WeightsEntry, ...]:
        """Known weights: the user's files', then ours, then those of plugins."""
        from dataclasses import replace

        entries = [entry for manifest in self._manifests for entry in manifest.weights]
        given = self.loader.weights()
        entries += [replace(entry, origin=self.describe_plugin(entry.provider)) for entry in given]
        return tuple(entries)

    def describe_plugin(self, distribution: str) -> str:
        """Give a plugin as the origin of what it gives: "plugin zoo-foo 1.2"."""
        versions = {plugin.distribution: plugin.version for plugin in self.plugins}
        return f"plugin {distribution} {versions[distribution]}"

    @cached_property
    def _weights_by_name(self) -> dict[str, list[tuple[str, WeightsEntry]]]:
        """Plain name of a component to its entries, each with a distribution, empty for any."""
        by_name: dict[str, list[tuple[str, WeightsEntry]]] = {}
        for entry in self.weights:
            distribution, _, plain = entry.component.rpartition(":")
            owner = normalise(distribution) or entry.provider
            by_name.setdefault(plain, []).append((owner, entry))
        return by_name

    def _weights_by_tag(self, provider: str, name: str) -> dict[str, list[WeightsEntry]]:
        by_tag: dict[str, list[WeightsEntry]] = {}
        for owner, entry in self._weights_by_name.get(name, ()):
            if owner in ("", provider):
                by_tag.setdefault(entry.tag, []).append(entry)
        return by_tag

    def weights_of(self, spec: Spec) -> list[WeightsEntry]:
        """Give the weights entries of one component, its default first, one for each tag.

        Of several with one tag the first of :attr:`weights` wins. A plain component name in a
        plugin's entry means that plugin's own component.
        """
        name = spec.weights_of or spec.name
        if name not in self._weights_by_name:
            return []
        provider = spec.provider
        return [entries[0] for entries in self._weights_by_tag(provider, name).values()]

    def overridden(self, spec: Spec | NamedModel) -> list[tuple[str, str, str]]:
        """Give what stands behind a component's weights, or a named model, and is not used.

        Returns:
            Of each its name, its origin, and the origin of what is used instead.
        """
        if isinstance(spec, NamedModel):
            same = [model.origin for model in self._models if model.name == spec.name]
            return [(spec.name, origin, same[0]) for origin in same[1:]]
        return [
            (f"{spec.name}.{tag}", loser.origin, winner.origin)
            for tag, (winner, *losers) in self._weights_by_tag(*_owner(spec)).items()
            for loser in losers
        ]

    def find_weights(self, name: str) -> WeightsEntry:
        """Give the weights that ``component.tag`` means, or ``component`` for its default ones.

        The component need not be installed. Weights that a source describes are asked of it, and
        only then are heavy libraries imported.

        Raises:
            UsageError: If no component of this name is known, or several are.
            WeightsError: If the component has no such weights, naming those there are.
        """
        match = _WEIGHTS.fullmatch(name)
        if match is None:
            raise UnknownComponentError(self._unknown_weights(name))
        component, tag = match["component"], match["tag"]
        home = self.backbones if component in self.backbones else self
        spec = home.get(component)
        owner = _owner(spec) if spec else self._owner_of_absent(component)
        by_tag = self._weights_by_tag(*owner) if owner else {}
        if spec and tag not in by_tag and self.source_of(spec):
            from zoo_core.weights.finding import find_entry

            return find_entry(spec, tag)
        if owner is None:
            raise UnknownComponentError(self._unknown_weights(name))
        if not by_tag:
            raise WeightsError(f"{owner[1]!r} has no pretrained weights")
        if tag is not None and tag not in by_tag:
            raise WeightsError(f"{owner[1]!r} has no weights {tag!r}; it has {', '.join(by_tag)}")
        return by_tag[tag or next(iter(by_tag))][0]

    def _owner_of_absent(self, component: str) -> tuple[str, str] | None:
        """Give distribution and name of a component that is known by its weights alone."""
        distribution, _, plain = component.rpartition(":")
        owners = {owner for owner, _ in self._weights_by_name.get(plain, ())}
        if distribution:
            distribution = normalise(distribution)
            return (distribution, plain) if distribution in owners else None
        named = sorted(owners - {""})
        if len(named) > 1 and self.pins.get(plain) not in named:
            qualified = " and ".join(f"{owner}:{plain}" for owner in named)
            raise AmbiguousComponentError(
                f"there are weights of {qualified}; write one of these names instead of {plain!r}"
            )
        if len(named) > 1:
            named = [self.pins[plain]]
        return ((named or [""])[0], plain) if owners else None

    def _unknown_weights(self, name: str) -> str:
        from difflib import get_close_matches

        known = [*self._weights_by_name, *self.backbones.near(name)]
        for plain, entries in self._weights_by_name.items():
            known += [f"{plain}.{entry.tag}" for _, entry in entries]
        plain = name.rpartition(":")[2][: 2 * LONGEST]
        near = get_close_matches(plain, dict.fromkeys(known), 3)
        hint = "'zoo weights list' shows what there is"
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        return f"unknown weights {name!r}; {hint}"

    def tags_of(self, spec: Spec) -> list[str]:
        """Give the tags of all weights of a component, its default first.

        Raises:
            PluginError: If the source that the component comes from fails at it.
        """
        tags = [entry.tag for entry in self.weights_of(spec)]
        source = self.source_of(spec)
        if source:
            try:
                given = tuple(iterable(source.tags(spec.name.removeprefix(source.prefix)), "tags"))
                if not all(isinstance(tag, str) for tag in given):
                    raise PluginError("tags gave something that is no text")
                tags += given
            except CATCH as error:
                raise PluginError(
                    f"{source.provider} cannot give the tags of {spec.name}: {describe(error)}"
                ) from error
        return list(dict.fromkeys(tags))

    def source_of(self, spec: Spec) -> Source | None:
        """Give the source that a component comes from, ``None`` for one listed by itself."""
        for source in self._sources if "/" in spec.name else ():
            same = (source.kind, source.provider) == (spec.kind, spec.provider)
            if same and spec.name.startswith(source.prefix):
                return source
        return None

    def source_names(self, source: Source) -> Sequence[str]:
        """Give the names of a source, without its prefix; a failing source has none."""
        if source not in self._names:
            try:
                names = tuple(iterable(source.names(), "names"))
                if not all(isinstance(name, str) for name in names):
                    raise PluginError("names gave something that is no text")
                for name in names:
                    if not is_name(name):
                        raise PluginError(f"names gave {name!r}, which is no component name")
                self._names[source] = names
            except CATCH as error:
                _warn(
                    f"{source.prefix}… of {source.provider} cannot be listed: {describe(error)} "
                    f"{remedy(source.provider)}"
                )
                self._names[source] = ()
        return self._names[source]

    def source_spec(self, source: Source, name: str) -> Spec:
        """Give the spec of one name of a source.

        Raises:
            PluginError: If the source fails at it.
        """
        from dataclasses import replace

        try:
            spec = source.spec(name)
            if not isinstance(spec, Spec):
                raise PluginError(f"it gave {spec!r}, which is no Spec")
            if (spec.kind, spec.name) != (source.kind, source.prefix + name):
                raise PluginError(f"it gave the {spec.kind} {spec.name!r}")
            return replace(spec, provider=source.provider)
        except CATCH as error:
            raise PluginError(
                f"{source.provider} cannot describe {source.prefix}{name}: {describe(error)}"
            ) from error


_WEIGHTS = re.compile(r"(?P<component>(?:[A-Za-z0-9][\w.-]*:)?[\w/-]+)(?:\.(?P<tag>[\w-]+))?")


def _owner(spec: Spec) -> tuple[str, str]:
    """Give distribution and name of the component whose weights a component takes."""
    return spec.provider, spec.weights_of or spec.name


_NUMBER = re.compile("[0-9]+")


def _order(spec: Spec) -> str:
    """Sort by name, numbers in names by their value: resnet18 before resnet101."""
    name = _NUMBER.sub(lambda digits: digits[0].rjust(LONGEST, "0"), spec.name)
    return f"{name} {spec.provider}"  # a space comes before all that a name may go on with


def _warn_of(plugin: Plugin) -> None:
    name = plugin.distribution
    if plugin.status == "failed":
        _warn(f"plugin {name} {plugin.version} failed to load: {plugin.reason} {remedy(name)}")
    elif plugin.heavy:
        _warn(
            f"plugin {name} {plugin.version} imports {', '.join(plugin.heavy)} in its catalogue, "
            f"which slows every command down; its author should import it in the target module"
        )


def _warn_of_absent(plugins: Iterable[Plugin]) -> None:
    installed = {plugin.distribution for plugin in plugins}
    for variable in ("ZOO_PLUGINS", "ZOO_BLOCK_PLUGINS"):
        for name in os.environ.get(variable, "").split(","):
            if name.strip() and normalise(name.strip()) not in installed:
                _warn(f"{variable} names {name.strip()}, which is not installed")


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=2)


registry = Registry()


def list_components(kind: str | None = None, pattern: str | None = None) -> list[Spec]:
    """Give installed components, sorted by kind and name.

    Args:
        kind: ``backbone``, ``attention``, ``decoder`` or ``explainer``; all of them without it.
        pattern: Shell pattern that the name or an alias must match. The names of a source such as
            ``timm/…`` are listed only if the pattern begins with its prefix.

    Raises:
        UsageError: If there is no such kind.
    """
    components = registry.of_kind(kind) if kind is not None else registry
    specs = [
        spec
        for spec in components.listed()
        if pattern is None or any(fnmatchcase(n, pattern) for n in (spec.name, *spec.aliases))
    ]
    for source in components.sources():
        if pattern is not None and pattern.startswith(source.prefix):
            specs += [
                registry.source_spec(source, name)
                for name in registry.source_names(source)
                if fnmatchcase(source.prefix + name, pattern)
            ]
    return specs
