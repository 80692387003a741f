"""The registry files, ours and the user's, and the record of known hashes."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from zoo_core.catalogue import registry
from zoo_core.doctor.finding import Finding, note, ok, problem
from zoo_core.errors import WeightsError, ZooError
from zoo_core.grammar import parse
from zoo_core.loader import normalise
from zoo_core.manifest import Manifest, read_manifest, shipped_manifest, user_manifests


def examine() -> Iterator[Finding]:
    """Read each file, and tell of pins and models that do not fit what is installed."""
    readable = True
    for path in [*user_manifests(), shipped_manifest()]:
        own = path != shipped_manifest()
        try:
            manifest = read_manifest(path)
        except ZooError as error:
            readable = False
            aside = f"mv {quote(str(path))} {quote(f'{path}.aside')}"
            if not path.exists():
                aside = "unset ZOO_REGISTRY"
            mend = aside if own else "pip install --force-reinstall zoo-core"
            yield problem("registry", str(error), mend)
            continue
        name = str(path) if own else "registry.yaml of zoo-core"
        weights, models = len(manifest.weights), len(manifest.models)
        yield ok("registry", f"{name}: {weights} weights, {models} models")
        if own:
            yield from _examine_pins(name, manifest)
    if readable:
        yield from _examine_models()
    yield from _examine_known()


def _examine_pins(name: str, manifest: Manifest) -> Iterator[Finding]:
    installed = {plugin.distribution for plugin in registry.plugins}
    for component, distribution in manifest.pins.items():
        if normalise(distribution) not in installed:
            found = f"{name} pins {component} to {distribution}, which is not installed"
            yield note("registry", found, f"zoo install {distribution}")


def _examine_models() -> Iterator[Finding]:
    for model in registry.models.values():
        try:
            parse(model.recipe, registry)
        except ZooError as error:
            found = f"named model {model.name} of {model.origin} cannot be built: {error}"
            yield note("registry", found, f"zoo info {model.name}")


def _examine_known() -> Iterator[Finding]:
    from zoo_core.store.known import known_file, recall

    try:
        recall(read_manifest(shipped_manifest()).weights[0])
    except WeightsError as error:
        yield problem("known weights", str(error), f"rm {quote(str(known_file()))}")
