"""All attacks, by where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attacks import caches, files, pictures, registries, saved, servers
from attacks.attack import Attack, everywhere
from attacks.stage import Stage, Trial, is_honest

GROUPS: Final[Mapping[str, list[Attack]]] = {
    "The file of weights": files.ATTACKS,
    "The server": servers.ATTACKS,
    "The cache": caches.ATTACKS,
    "The registry, and plugins' entries": registries.ATTACKS,
    "The saved model": saved.ATTACKS,
    "The picture": pictures.ATTACKS,
}


def _honest(stage: Stage) -> Trial:
    return Trial(call=stage.serve(stage.written(stage.honest)), harmless=is_honest)


CONTROL: Final = Attack(name="none", title="no attack at all", mounts=everywhere(_honest))
