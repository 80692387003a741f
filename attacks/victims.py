"""What is attacked: each library's own way to a model or a picture, called in a child process.

Nothing here imports a library before it is called: they read the environment when they are
imported, and that is the attack's.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

Kwargs = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a child process does.

    Attributes:
        entry: The function of this module that is called.
        arguments: Its arguments.
        environment: The child's variables, beside those of this process.
        folder: Its working directory.
        path: Folders that it finds packages in.
        report: The file that it says in what happened.
        patience: Seconds that the zoo waits for a silent server, if not as many as it always does.
    """

    entry: str
    arguments: dict[str, Any]
    environment: dict[str, str]
    folder: Path
    path: tuple[str, ...] = ()
    report: Path
    patience: float | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a child says.

    Attributes:
        error: The type of the error that ended the call; empty if it returned.
        message: The error's text.
        own: Whether it is one of the zoo's own errors.
        warnings: What the zoo warned of before.
        value: What the call gave: the model's first number, the size of a picture, or ``None``.
    """

    error: str = ""
    message: str = ""
    own: bool = False
    warnings: list[str] = field(default_factory=list)
    value: Any = None


def obey(call: Call) -> None:
    """Do what a call says, in a process that was forked for it."""
    if "huggingface_hub" in sys.modules:
        raise RuntimeError("the Hub's client has read another environment already")
    os.environ.clear()
    os.environ.update(call.environment)
    os.chdir(call.folder)
    sys.path[:0] = call.path
    said = os.open(call.report.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = _report(call)
    told = [str(item.message) for item in caught if _is_ours(item.category, "ZooWarning")]
    report = replace(report, warnings=told)
    call.report.write_text(json.dumps(asdict(report)), encoding="utf-8", errors="backslashreplace")


def _report(call: Call) -> Report:
    import torch

    torch.set_num_threads(1)
    if call.patience is not None:
        from zoo_core.store import hub

        hub.PATIENCE, hub._ANSWER = call.patience, call.patience / 3  # type: ignore[misc]
    try:
        return Report(value=ENTRIES[call.entry](**call.arguments))
    except Exception as error:
        own = _is_ours(type(error), "ZooError")
        return Report(error=type(error).__name__, message=str(error), own=own)


def _is_ours(kind: type, base: str) -> bool:
    """Tell whether a class derives from one of the zoo's; without importing the zoo for it."""
    return any(parent.__name__ == base for parent in kind.__mro__)


def _first_number(model: Any) -> float:
    """Give a number that tells the honest weights from others."""
    return float(next(model.parameters()).detach().reshape(-1)[0])


def zoo_build(recipe: str, **options: Any) -> float:
    """Build a model of the zoo with its weights."""
    import zoo_core

    return _first_number(zoo_core.build(recipe, **options))


def zoo_saved(name: str, **options: Any) -> float:
    """Load a saved model of the zoo."""
    from zoo_core.models import MultitaskModel

    return _first_number(MultitaskModel.from_pretrained(name, **options))


def zoo_save(folder: str, **options: Any) -> None:
    """Save a model for others to attack."""
    import zoo_core

    zoo_core.build(**options).save_pretrained(folder)


def zoo_command(*, arguments: list[str]) -> str:
    """Run a command of the zoo; give the last line of what it prints.

    Raises:
        ZooError: If it fails, with the last line of what it says of that.
    """
    from zoo_core.cli import cli
    from zoo_core.errors import ZooError

    printed, told = StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(told):
        code = cli.main(arguments, prog_name="zoo", standalone_mode=False)
    if code:
        last = told.getvalue().splitlines()[-1]
        raise ZooError(last.removeprefix("zoo: skipped "))
    return printed.getvalue().strip().rpartition("\n")[2]


def timm_model(name: str, **options: Any) -> float:
    """Make a model of timm with its weights."""
    import timm

    return _first_number(timm.create_model(name, pretrained=True, **options))


def timm_picture(folder: str, **transform: Any) -> Any:
    """Read a folder's one picture as timm's training and validation do."""
    data = _timm_data()
    dataset = data.create_dataset("", root=folder, class_map={"": 0})
    dataset.transform = data.create_transform(**{"input_size": 224, **transform})
    picture, _ = dataset[0]
    return list(picture.shape)


def timm_picture_of_model(name: str, folder: str) -> Any:
    """Prepare a picture as a model's configuration says."""
    import timm

    model = timm.create_model(name, pretrained=True)
    return timm_picture(folder, **_timm_data().resolve_model_data_config(model))


def _timm_data() -> Any:
    """Give ``timm.data``, whose functions are not typed."""
    import timm.data

    return timm.data


def torchvision_model(url: str | None = None) -> float:
    """Make torchvision's ResNet-18 with its weights.

    Args:
        url: A mirror of its server, for torchvision's own is not to be attacked.
    """
    from torchvision.models import ResNet18_Weights, resnet18

    weights = ResNet18_Weights.DEFAULT
    if url is not None:
        weights.value.url = url
    return _first_number(resnet18(weights=weights, progress=False))


def torchvision_picture(path: str) -> Any:
    """Read a picture and prepare it for a classifier."""
    from torchvision.io import decode_image
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.DEFAULT.transforms()(decode_image(path, "RGB")).shape)


def bare_model(name: str, **options: Any) -> float:
    """Load a module that has huggingface-hub's mixin and nothing else."""
    from attacks.bare import Bare

    return _first_number(Bare.from_pretrained(name, **options))


ENTRIES: dict[str, Callable[..., Any]] = {
    entry.__name__: entry
    for entry in (
        zoo_build,
        zoo_saved,
        zoo_save,
        zoo_command,
        timm_model,
        timm_picture,
        timm_picture_of_model,
        torchvision_model,
        torchvision_picture,
        bare_model,
    )
}
