"""Where an attack is mounted: a hub, a home for caches and settings, and a canary."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from attacks.firehose import firehose
from attacks.forge import State, checkpoint, filled, pack
from attacks.running import Ended, run
from attacks.victims import Call
from zoo_core.testing import LoopbackHub

ZOO, TIMM, TORCHVISION, BARE = LIBRARIES = ("zoo", "timm", "torchvision", "bare mixin")

HONEST: Final = 0.02
EVIL: Final = 0.5
FILE: Final = "model.safetensors"
TOKEN: Final = "hf_secretsecretsecret"

CONFIG: Final = {"architecture": "test_resnet", "width": 200, "pretrained_cfg": {}}
"""A ``config.json`` that timm and the bare mixin both understand."""

_REPOSITORIES: Final = {
    ZOO: "timm/test_resnet.r160_in1k",
    TIMM: "timm/test_resnet.r160_in1k",
    TORCHVISION: "pytorch/models",
    BARE: "them/net",
}


@cache
def shapes(library: str) -> State:
    """Give the tensors of a library's victim, of no particular values."""
    if library == TORCHVISION:
        from torchvision.models import resnet18

        return dict(resnet18().state_dict())
    if library == BARE:
        from attacks.bare import Bare

        return dict(Bare().state_dict())
    import timm

    return dict(timm.create_model("test_resnet").state_dict())


def honest(library: str) -> State:
    """Give the weights that a library's victim should have."""
    return filled(shapes(library), HONEST)


def evil(library: str) -> State:
    """Give weights of the same form that somebody else made."""
    return filled(shapes(library), EVIL)


def written(library: str, state: State) -> bytes:
    """Give the file that a library reads weights from."""
    return checkpoint(state) if library == TORCHVISION else pack(state)


@dataclass(kw_only=True)
class Trial:
    """An attack on one library, mounted.

    Attributes:
        call: What the library is asked to do.
        harm: Tells what harm was done that the call itself does not show; empty if none was.
        harmless: Tells whether a call that returned did no harm, from what it gave; by default
            every answer is harm.
    """

    call: Call
    harm: Callable[[Ended], str] = lambda ended: ""
    harmless: Callable[[Any], bool] = lambda value: False


def is_honest(value: Any) -> bool:
    """Whether a model's first number is the honest one."""
    return isinstance(value, float) and abs(value - HONEST) < 1e-6


@dataclass(kw_only=True)
class Stage:
    """One library's place in one attack.

    Attributes:
        victim: The library that is attacked.
        folder: All that happens, happens in it.
        hub: What its Hub is.
        stack: Closes what else is opened.
        patience: As of a :class:`~attacks.victims.Call`.
    """

    victim: str
    folder: Path
    hub: LoopbackHub
    stack: ExitStack
    patience: float | None = None
    environment: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        for folder in (self.home, self.work):
            folder.mkdir(parents=True)
        # Without this file, the first request of every child would be to ask for it.
        asked = self.home / "huggingface" / ".agent_harnesses.json"
        asked.parent.mkdir()
        asked.write_text('{"standardEnvVars": [], "harnesses": {}}', encoding="utf-8")
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = kept | {
            "HOME": str(self.home),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.home / "huggingface"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TORCH_HOME": str(self.home / "torch"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "NO_PROXY": "*",
        }

    @property
    def home(self) -> Path:
        """Where caches and settings are."""
        return self.folder / "home"

    @property
    def work(self) -> Path:
        """The victim's working directory."""
        return self.folder / "work"

    @property
    def canary(self) -> Path:
        """The file that a payload writes."""
        return self.folder / "canary"

    @property
    def repository(self) -> str:
        """The repository that the library's weights are in."""
        return _REPOSITORIES[self.victim]

    @property
    def honest(self) -> State:
        """The weights that the victim should have."""
        return honest(self.victim)

    @property
    def evil(self) -> State:
        """Weights of the same form that somebody else made."""
        return evil(self.victim)

    def written(self, state: State) -> bytes:
        """Give the file that the library reads weights from."""
        return written(self.victim, state)

    def checkpoint_name(self, content: bytes) -> str:
        """Give the name that torchvision has for a file: with the beginning of its hash."""
        return f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"

    def call(self, entry: str, **arguments: Any) -> Call:
        """Give a call in this place."""
        self.calls += 1
        return Call(
            entry=entry,
            arguments=arguments,
            environment=self.environment,
            folder=self.work,
            path=tuple(self.path),
            report=self.folder / f"report{self.calls}.json",
            patience=self.patience if self.victim == ZOO else None,
        )

    def perform(self, call: Call) -> Ended:
        """Make a call that is not the attack yet.

        Raises:
            RuntimeError: If it fails.
        """
        ended = run(call, self.home, 60)
        if ended.report is None or ended.report.error:
            raise RuntimeError(f"{call.entry} failed before the attack: {ended}")
        return ended

    def another_hub(self) -> LoopbackHub:
        """Open a hub of somebody else."""
        return self.stack.enter_context(LoopbackHub())

    def firehose(self) -> str:
        """Open a server that sends too much; give its address."""
        return self.stack.enter_context(firehose())

    @property
    def weights_path(self) -> str:
        """What requests for the file of weights look like."""
        return "*.pth" if self.victim == TORCHVISION else f"*/{FILE}"

    def publish(
        self,
        content: bytes,
        *,
        name: str | None = None,
        revision: str = "main",
        hub: LoopbackHub | None = None,
    ) -> str:
        """Publish a file of weights; give its commit.

        Args:
            content: The file.
            name: Its name, if it is not the one that the library asks for.
            revision: The branch.
            hub: Where, if not at the stage's own hub.
        """
        if name is None:
            name = self.checkpoint_name(content) if self.victim == TORCHVISION else FILE
        files = {name: content}
        if self.victim in (TIMM, BARE):
            files["config.json"] = json.dumps(CONFIG).encode()
        return (hub or self.hub).add(self.repository, files, revision=revision)

    def serve(self, content: bytes) -> Call:
        """Publish a file of weights; give the call that fetches and loads it."""
        self.publish(content)
        if self.victim != TORCHVISION:
            return self.load()
        name = self.checkpoint_name(content)
        place = f"{self.hub.endpoint}/{self.repository}/resolve/main/{name}"
        return self.call("torchvision_model", url=place)

    def load_revision(self, revision: str) -> Call:
        """Give the call that loads weights of one revision."""
        if self.victim == TIMM:
            return self.call("timm_model", name=f"hf-hub:{self.repository}@{revision}")
        entry = "zoo_saved" if self.victim == ZOO else "bare_model"
        return self.call(entry, name=self.repository, revision=revision)

    def load(self) -> Call:
        """Give the call that loads the library's weights, from the Hub or the cache."""
        if self.victim == ZOO:
            return self.call("zoo_build", recipe="timm/test_resnet", pretrained=True)
        if self.victim == TIMM:
            return self.call("timm_model", name="test_resnet.r160_in1k")
        if self.victim == TORCHVISION:
            return self.call("torchvision_model")
        return self.call("bare_model", name=self.repository)

    def cached(self) -> Path:
        """Put the honest file into the cache; give where its bytes lie.

        The call that loads it is :meth:`load`; the Hub cannot be reached.
        """
        content = self.written(self.honest)
        if self.victim == TORCHVISION:
            place = self.home / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
            place.parent.mkdir(parents=True)
            place.write_bytes(content)
            return place
        self.environment["HF_HUB_OFFLINE"] = "1"
        folder = self.cache_folder
        commit, sha256 = "c" * 40, hashlib.sha256(content).hexdigest()
        blob, snapshot = folder / "blobs" / sha256, folder / "snapshots" / commit
        for parent in (blob.parent, snapshot, folder / "refs"):
            parent.mkdir(parents=True)
        blob.write_bytes(content)
        (snapshot / FILE).symlink_to(f"../../blobs/{sha256}")
        (folder / "refs" / "main").write_text(commit)
        if self.victim == BARE:
            (snapshot / "config.json").write_text(json.dumps(CONFIG))
        return blob

    @property
    def cache_folder(self) -> Path:
        """The folder of the library's repository in the Hub's cache."""
        return self.home.joinpath("huggingface", "hub", f"models--{self._flat}")

    @property
    def _flat(self) -> str:
        return self.repository.replace("/", "--")

    def register(self, text: str) -> None:
        """Have the zoo read a registry."""
        file = self.folder / "registry.yaml"
        file.write_text(text, encoding="utf-8")
        self.environment["ZOO_REGISTRY"] = str(file)

    def escaped(self, ended: Ended) -> str:
        """Tell of a file called ``escaped…`` outside the cache."""
        for path in sorted(self.folder.rglob("escaped*")):
            if not path.is_relative_to(self.home / "huggingface" / "hub"):
                return "a file written outside the cache"
        return ""

    def executed(self) -> bool:
        """Whether a payload ran."""
        return self.canary.exists()


def requests_with_token(hub: LoopbackHub) -> str:
    """Tell of a token in what a hub was sent."""
    told = any(TOKEN in value for request in hub.log for value in request.headers.values())
    return "the token sent" if told else ""


def entry_of_registry(changes: Mapping[str, str]) -> str:
    """Give a registry with one entry of weights, changed."""
    fields = {
        "component": "zoo-timm:timm/test_resnet",
        "tag": "r160_in1k",
        "repository": _REPOSITORIES[ZOO],
        "source": "an attack",
        **changes,
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "weights:\n- " + "\n  ".join(lines) + "\n"
