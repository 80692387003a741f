"""Attacks by a registry of weights and models, or by a plugin; the zoo alone has them."""

from __future__ import annotations

from typing import Final

from attacks.attack import Attack, Mount
from attacks.stage import ZOO, Stage, Trial, entry_of_registry

PLUGIN: Final = """
from zoo_core import WeightsEntry, hookimpl

ZOO_API = (1, 0)

@hookimpl
def zoo_weights():
    return [
        WeightsEntry(
            component="zoo-timm:timm/test_resnet",
            tag="evil",
            repository="../escaped",
            source="an attack",
        )
    ]
"""
METADATA: Final = "Metadata-Version: 2.1\nName: zoo-evil\nVersion: 1.0\nRequires-Dist: zoo-core\n"


def _of_text(text: str) -> dict[str, Mount]:
    def mount(stage: Stage) -> Trial:
        stage.register(text)
        return Trial(call=stage.load(), harm=stage.escaped)

    return {ZOO: mount}


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        parts = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{parts}]")
    return "\n".join(lines) + "\n"


def _tagged(stage: Stage) -> Trial:
    stage.register(f"models: !!python/object/apply:builtins.open ['{stage.canary}', 'w']\n")
    return Trial(call=stage.load())


def _plugin(stage: Stage) -> Trial:
    site = stage.folder / "site"
    information = site / "zoo_evil-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "zoo_evil.py").write_text(PLUGIN)
    (information / "METADATA").write_text(METADATA)
    (information / "entry_points.txt").write_text("[zoo.plugins]\nzoo_evil = zoo_evil\n")
    stage.path.append(str(site))
    stage.environment["ZOO_STRICT"] = "1"
    call = stage.call("zoo_build", recipe="timm/test_resnet.evil")
    return Trial(call=call, harm=stage.escaped)


def _named_model(stage: Stage) -> Trial:
    stage.register("models:\n- {name: evil, recipe: '../../escaped:open+os.system'}\n")
    return Trial(call=stage.call("zoo_build", recipe="evil"), harm=stage.escaped)


ATTACKS: Final = [
    Attack(name="yaml-bomb", title="aliases that unfold to ten billion", mounts=_of_text(_bomb())),
    Attack(
        name="yaml-tag",
        title="a tag `!!python/object/apply`",
        mounts={ZOO: _tagged},
    ),
    Attack(
        name="yaml-twice",
        title="a key that stands there twice",
        mounts=_of_text(entry_of_registry({}) + '  repository: "evil/net"\n'),
    ),
    Attack(
        name="yaml-depth",
        title="100,000 lists in one another",
        mounts=_of_text("models: " + "[" * 100_000 + "]" * 100_000),
    ),
    Attack(
        name="yaml-size",
        title="20 MB of entries",
        mounts=_of_text("# " + "a" * 20_000_000 + "\n"),
    ),
    Attack(
        name="yaml-word",
        title="a size that some read as a number and others as text",
        mounts=_of_text(entry_of_registry({}) + "  size: 0o17\n"),
    ),
    Attack(
        name="yaml-control",
        title="a name that clears the terminal",
        mounts=_of_text('pins: {"\x1b[2J": zoo-resnet}\n'),
    ),
    Attack(
        name="registry-hash",
        title="a hash `../../../escaped`",
        mounts=_of_text(entry_of_registry({"sha256": "../../../escaped"})),
    ),
    Attack(
        name="registry-recipe",
        title="a named model whose recipe is code",
        mounts={ZOO: _named_model},
    ),
    Attack(
        name="plugin-path",
        title="a plugin that gives a repository `../escaped`",
        mounts={ZOO: _plugin},
    ),
]
