"""Model cards: what is known of a model, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from huggingface_hub import ModelCard, ModelCardData
from torch import nn

from zoo_core._version import __version__
from zoo_core.errors import SavedModelError
from zoo_core.grammar import Part
from zoo_core.models.multitask import MultitaskModel
from zoo_core.saved.config import HEADS
from zoo_core.saved.saving import describe, to_config

MOST_NAMES: Final = 20
_IDENTIFIER: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def card_options(given: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Give the options of a model card.

    Args:
        given: Those that the caller set.
        name: What the card's snippet loads by default.

    Raises:
        SavedModelError: If there is no such option.
    """
    options = {"repo_id": name.encode(errors="replace").decode(), **(given or {})}
    for option in options:
        if option != "repo_id":
            raise SavedModelError(f"the model card has no option {option!r}; it has repo_id")
    return options


def model_card(model: MultitaskModel, repo_id: str) -> ModelCard:
    """Give the model card of a model.

    Args:
        model: The model.
        repo_id: What the snippet loads: a repository, or a folder beside the reader.

    Raises:
        SavedModelError: If the model cannot be saved.
    """
    config = to_config(model)
    heads = {head: count for head, count in config["classes"].items() if count}
    data = ModelCardData(
        library_name="zoo-core",
        tags=["zoo", *(f"image-{head}" for head in heads)],
        **_licence_data(config["licence"]),
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        f"# {_title(repo_id)}",
        f"`{config['recipe']}`, composed with zoo-core {__version__}.",
        _parts(model, config),
        _heads(config, heads),
        _preprocessing(config),
        _weights(model, config),
        _usage(model, config, repo_id),
    ]
    return ModelCard("\n\n".join(sections) + "\n", ignore_metadata_errors=True)


def _licence_data(licence: str | None) -> dict[str, Any]:
    if licence is None:
        return {}
    if _IDENTIFIER.fullmatch(licence):
        return {"license": licence}
    return {"license": "other", "license_name": licence}


def _title(name: str) -> str:
    return _code(name).strip("`") or "A model"


def _code(text: str) -> str:
    """Give text as Markdown shows it letter by letter, in a table too."""
    return f"`{text.replace('`', 'ˋ').replace('|', '¦')}`"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _parts(model: MultitaskModel, config: Mapping[str, Any]) -> str:
    recipe = describe(model)
    attention = [module for row in model.attention.values() for module in row.children()]
    modules: list[nn.Module] = [model.backbone, *attention]
    modules += [model.decoder] if model.decoder is not None else []
    rows = [
        _part(part, module, config["plugins"])
        for part, module in zip(recipe.parts, modules, strict=True)
    ]
    if model.classifier is not None:
        rows.append(("classification head", "", "", "", f"{_count(model.classifier):,}"))
    rows.append(("**all**", "", "", "", f"{_count(model):,}"))
    header = ("part", "component", "distribution", "options", "parameters")
    return "## Parts\n\n" + _table(header, rows)


def _part(part: Part, module: nn.Module, versions: Mapping[str, str]) -> tuple[str, ...]:
    name = part.spec.name + (f"@{part.levels}" if part.spec.kind == "attention" else "")
    options = ", ".join(f"{key}={json.dumps(value)}" for key, value in part.options.items())
    provider = part.spec.provider
    return (
        part.spec.kind,
        _code(name),
        f"{provider} {versions[provider]}",
        _code(options) if options else "",
        f"{_count(module):,}",
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _heads(config: Mapping[str, Any], heads: Mapping[str, int]) -> str:
    lines = ["## Heads", ""]
    for head in HEADS:
        if head in heads:
            names = config["labels"].get(head, ())
            told = ", ".join(map(_code, names)) if len(names) <= MOST_NAMES else "names in the file"
            lines.append(f"- {head}: {heads[head]} classes" + (f": {told}" if names else ""))
    return "\n".join(lines)


def _preprocessing(config: Mapping[str, Any]) -> str:
    shown = config["preprocessing"]
    if shown is None:
        return "## Preprocessing\n\nThe model does not say how pictures become its inputs."
    rows = [(key, _code(json.dumps(value))) for key, value in shown.items()]
    return "## Preprocessing\n\n" + _table(("setting", "value"), rows)


def _weights(model: MultitaskModel, config: Mapping[str, Any]) -> str:
    types = dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in model.parameters())
    lines = ["## Weights", "", f"- type: {', '.join(types)}"]
    source = config["weights"]
    lines.append(f"- begun with: {_code(source)}" if source else "- begun with: no known weights")
    licence = config["licence"]
    lines.append(f"- licence: {_code(licence)}" if licence else "- licence: not known")
    return "\n".join(lines)


def _usage(model: MultitaskModel, config: Mapping[str, Any], name: str) -> str:
    shown = config["preprocessing"]
    size = shown["size"] if shown else config["picture"]["size"] or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    needed = " ".join(["zoo-core", *config["plugins"]])
    dtype = next(model.parameters()).dtype
    like = "" if dtype == torch.float32 else f", dtype={dtype}"
    return f"""## Usage

```sh
pip install {needed}
```

```python
import torch
from zoo_core import MultitaskModel

model = MultitaskModel.from_pretrained({json.dumps(name, ensure_ascii=False)})
images = torch.rand(1, {config["picture"]["channels"]}, {height}, {width}{like})
with torch.no_grad():
    output = model(images)
for head, logits in output.items() if isinstance(output, dict) else [("logits", output)]:
    print(head, tuple(logits.shape))
```"""
