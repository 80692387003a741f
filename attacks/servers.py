"""Attacks by the server, or by whoever stands between it and this machine."""

from __future__ import annotations

import hashlib
import shutil
from typing import Final

from attacks.attack import Attack, Mount, everywhere
from attacks.firehose import bomb
from attacks.stage import (
    TIMM,
    TOKEN,
    TORCHVISION,
    ZOO,
    Stage,
    Trial,
    entry_of_registry,
    is_honest,
    requests_with_token,
)
from zoo_core.testing import Cut, Drip, Fault, Hang, Header, Redirect, Slow, Status

ESCAPED: Final = "../../../../escaped"


def _badly(fault: Fault, method: str | None = None) -> Mount:
    """Serve the honest file with a fault."""

    def mount(stage: Stage) -> Trial:
        call = stage.serve(stage.written(stage.honest))
        stage.hub.fault(fault, method=method, path=stage.weights_path)
        return Trial(call=call, harm=stage.escaped)

    return mount


def _swapped(stage: Stage) -> Trial:
    """Send other bytes than the ETag, or the hash in the file's name, is of."""
    good, bad = stage.written(stage.honest), stage.written(stage.evil)
    call, other = stage.serve(good), stage.another_hub()
    name = stage.checkpoint_name(good) if stage.victim == TORCHVISION else None
    for revision in ("main", stage.hub.commits(stage.repository)[-1].id):
        stage.publish(bad, name=name, revision=revision, hub=other)
    stage.hub.fault(Redirect(other.endpoint), method="GET", path=stage.weights_path)
    return Trial(call=call)


def _pinned(stage: Stage) -> Trial:
    """Give other weights for a commit than were published, with a hash that fits them."""
    good = stage.written(stage.honest)
    commit = stage.publish(good)
    stage.publish(stage.written(stage.evil), revision=commit)
    stage.hub.fault(Header("X-Repo-Commit", commit))
    if stage.victim != ZOO:
        return Trial(call=stage.load_revision(commit))
    sha256 = hashlib.sha256(good).hexdigest()
    stage.register(entry_of_registry({"revision": commit, "sha256": sha256}))
    return Trial(call=stage.load())


def _moved(stage: Stage) -> Trial:
    """Move the branch to other weights after the first use; the cache is emptied meanwhile."""
    stage.perform(stage.serve(stage.written(stage.honest)))
    shutil.rmtree(stage.home / "huggingface" / "hub")
    return Trial(call=stage.serve(stage.written(stage.evil)))


def _flooded(place: str) -> Mount:
    """Redirect to a server that sends more than was announced."""

    def mount(stage: Stage) -> Trial:
        call = stage.serve(bomb() if place == "gzip" else stage.written(stage.honest))
        flood = Redirect(f"{stage.firehose()}/{place}")
        stage.hub.fault(flood, method="GET", path=stage.weights_path)
        return Trial(call=call)

    return mount


def _circle(stage: Stage) -> Trial:
    call = stage.serve(stage.written(stage.honest))
    stage.hub.fault(Redirect(stage.hub.endpoint), method="GET", path=stage.weights_path)
    return Trial(call=call)


def _token_abroad(stage: Stage) -> Trial:
    """Send the client to a foreign host that wants to know who asks."""
    stage.environment["HF_TOKEN"] = TOKEN
    call, foreign = stage.serve(stage.written(stage.honest)), stage.another_hub()
    foreign.fault(Status(401, "who are you?"))
    stage.hub.fault(Redirect(foreign.endpoint), path=stage.weights_path)
    return Trial(call=call, harm=lambda ended: requests_with_token(foreign), harmless=is_honest)


def _token_in_clear(stage: Stage) -> Trial:
    """Name an endpoint without encryption that is not known to be this machine."""
    stage.environment["HF_TOKEN"] = TOKEN
    call = stage.serve(stage.written(stage.honest))
    stage.hub.make_private(stage.repository, TOKEN)
    stage.environment["HF_ENDPOINT"] = stage.hub.endpoint.replace("127.0.0.1", "0.0.0.0")
    return Trial(call=call, harm=lambda ended: requests_with_token(stage.hub), harmless=is_honest)


def _climbing_revision(stage: Stage) -> Trial:
    stage.publish(stage.written(stage.honest), revision=ESCAPED)
    return Trial(call=stage.load_revision(ESCAPED), harm=stage.escaped)


def _climbing_repository(stage: Stage) -> Trial:
    if stage.victim == ZOO:
        stage.register(entry_of_registry({"repository": "../escaped"}))
        return Trial(call=stage.load(), harm=stage.escaped)
    if stage.victim == TIMM:
        return Trial(call=stage.call("timm_model", name="hf-hub:../escaped"), harm=stage.escaped)
    return Trial(call=stage.call("bare_model", name="../escaped"), harm=stage.escaped)


def _climbing_file(stage: Stage) -> Trial:
    name = f"../{ESCAPED}.safetensors"
    stage.publish(stage.written(stage.honest), name=name)
    if stage.victim == ZOO:
        stage.register(entry_of_registry({"filename": name}))
        return Trial(call=stage.load(), harm=stage.escaped)
    overlay = {"hf_hub_id": stage.repository, "hf_hub_filename": name}
    call = stage.call("timm_model", name="test_resnet", pretrained_cfg_overlay=overlay)
    return Trial(call=call, harm=stage.escaped)


def _on_the_hub(mount: Mount) -> dict[str, Mount]:
    """Mount an attack on what uses the Hub."""
    return everywhere(mount, TORCHVISION)


ATTACKS: Final = [
    Attack(
        name="swapped",
        title="other weights of the same size under the honest hash",
        mounts=everywhere(_swapped),
    ),
    Attack(
        name="pinned",
        title="other weights under a pinned commit",
        mounts=_on_the_hub(_pinned),
    ),
    Attack(
        name="moved",
        title="a branch moved to other weights after the first use",
        mounts=_on_the_hub(_moved),
    ),
    Attack(
        name="cut",
        title="a connection that is cut each time",
        mounts=everywhere(_badly(Cut(), "GET")),
    ),
    Attack(name="endless", title="a file that never ends", mounts=everywhere(_flooded("endless"))),
    Attack(
        name="gzip",
        title="1 MB announced, which unpacks to 1 GB (`Content-Encoding: gzip`)",
        mounts=everywhere(_flooded("gzip")),
    ),
    Attack(
        name="huge",
        title="an announced size of 99 TB",
        mounts=_on_the_hub(_badly(Header("X-Linked-Size", "9" * 14))),
    ),
    Attack(
        name="etag-path",
        title=f"an ETag `{ESCAPED}`",
        mounts=_on_the_hub(_badly(Header("ETag", f'"{ESCAPED}"'))),
    ),
    Attack(
        name="etag-kind",
        title="an ETag that is another kind of hash",
        mounts=_on_the_hub(_badly(Header("ETag", f'"{"0f" * 16}"'))),
    ),
    Attack(name="etag-none", title="no ETag", mounts=_on_the_hub(_badly(Header("ETag", None)))),
    Attack(
        name="commit-path",
        title=f"a commit `{ESCAPED}`",
        mounts=_on_the_hub(_badly(Header("X-Repo-Commit", ESCAPED))),
    ),
    Attack(
        name="revision-path",
        title=f"a revision `{ESCAPED}`",
        mounts=_on_the_hub(_climbing_revision),
    ),
    Attack(
        name="repository-path",
        title="a repository `../escaped`",
        mounts=_on_the_hub(_climbing_repository),
    ),
    Attack(
        name="file-path",
        title=f"a file `../{ESCAPED}.safetensors` of a repository",
        mounts={ZOO: _climbing_file, TIMM: _climbing_file},
    ),
    Attack(
        name="token-abroad",
        title="a redirect to a foreign host that asks for the token",
        mounts=_on_the_hub(_token_abroad),
    ),
    Attack(
        name="token-clear",
        title="an endpoint elsewhere, without encryption, that asks for the token",
        mounts=_on_the_hub(_token_in_clear),
    ),
    Attack(
        name="redirect-file",
        title="a redirect to `file:///etc/passwd`",
        mounts=everywhere(_badly(Redirect("file:///etc/passwd"), "GET")),
    ),
    Attack(name="redirect-circle", title="redirects in a circle", mounts=everywhere(_circle)),
    Attack(
        name="failing",
        title="answers of 503, for ever",
        mounts=everywhere(_badly(Status(503))),
    ),
    Attack(
        name="drip",
        title="an answer whose head comes byte by byte, one a second",
        mounts=everywhere(_badly(Drip(seconds=1.0))),
        seconds=90,
    ),
    Attack(
        name="hang",
        title="a file that stops in its middle",
        mounts=everywhere(_badly(Hang(after=1000), "GET")),
        seconds=90,
    ),
    Attack(
        name="slow",
        title="a file at 100 bytes a second",
        mounts=everywhere(_badly(Slow(bytes_per_second=100), "GET")),
        seconds=90,
    ),
]
