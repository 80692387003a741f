"""What a page shows of one picture."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from PIL import Image

from zoo_core.explainability.report.attention import packed
from zoo_core.explainability.report.overlays import Drawn, drawn, drawn_mask
from zoo_core.explainability.results import Explanations
from zoo_core.pictures import class_colour
from zoo_core.prediction import Prediction, Ranked

_REGIONS: Final = {
    "predicted": "at the pixels that the model takes for it",
    "mask": "at the pixels of a mask",
    "pixel": "at one pixel",
}
_LEGENDS: Final = {"heat": ("least", "most"), "signed": ("against", "for")}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture and all that is to be shown of it.

    Attributes:
        name: What it is called.
        picture: It, as far as the model saw it.
        prediction: What the model says.
        explanations: The results of the methods, with a batch of one.
        target: The class that was explained, with its probability or share of pixels; ``None`` if
            no method asked for one.
        chosen: Whether that class was asked for; otherwise it is the model's answer.
        notes: What else is to be said.
    """

    name: str
    picture: Image.Image
    prediction: Prediction
    explanations: Explanations
    target: Ranked | None
    chosen: bool = False
    notes: Sequence[str] = field(default_factory=tuple)


def section(
    shown: Shown, number: int, summaries: Mapping[str, str], attention_bytes: int = 2_000_000
) -> str:
    """Give the part of a page that shows one picture, as HTML.

    Args:
        shown: The picture and its explanations.
        number: Which picture of the page it is.
        summaries: What each method shows, in a few words.
        attention_bytes: About how many bytes attention may take, before it is compressed.
    """
    results = shown.explanations
    cards, layered, other = [_original(shown, number)], [], {}
    if results.task == "segmentation" and shown.prediction.mask is not None:
        mask = drawn_mask(shown.prediction.mask)
        card = _card(shown, number, "segmentation", mask, "What the model takes pixels for", None)
        cards.append(card)
    for name, values in results.items():
        if name in results.skipped:
            continue
        picture = drawn(values)
        summary = summaries.get(name, "")
        if picture is not None:
            layer = results.facts[name].target_layer
            cards.append(_card(shown, number, name, picture, summary, layer))
        elif isinstance(values, Mapping):
            layered.append(_attention(shown, number, name, values, summary, attention_bytes))
        else:
            other[name] = f"what it gives, {type(values).__name__}, is no map"
    skipped = {name: value.reason for name, value in results.skipped.items()} | other
    return f"""
<article id="picture-{number}" aria-labelledby="name-{number}">
<style>.base-{number} {{ background-image: url({_jpeg(shown.picture)}) }}
#picture-{number} {{ --width: {shown.picture.width}; --height: {shown.picture.height} }}</style>
<header>
<div>
<h2 id="name-{number}">{escape(shown.name)}</h2>
<p class="target">{_target(shown)}</p>
{"".join(f'<p class="note">{escape(note)}</p>' for note in shown.notes)}
</div>
{_ranking(shown)}
</header>
<div class="maps">{"".join(cards)}
</div>{"".join(layered)}{_skipped(skipped)}
</article>"""


def _target(shown: Shown) -> str:
    results, target = shown.explanations, shown.target
    if target is None:
        return "No class was explained."
    why = "as you asked" if shown.chosen else "the model’s answer"
    where = f" {_REGIONS[results.region]}" if results.region in _REGIONS else ""
    share = "of the pixels" if results.task == "segmentation" else "probability"
    number = f"class {target.index}"
    what = why if target.label == number else f"{number}, {why}"
    return (
        f"What speaks for <strong>{escape(target.label)}</strong>{where}? "
        f'<span class="soft">{what}; {_percent(target.score)} {share}</span>'
    )


def _ranking(shown: Shown) -> str:
    """Give the likeliest classes, or in segmentation the largest."""
    title, ranking = "Probabilities", shown.prediction.classification
    if ranking is None or shown.explanations.task == "segmentation":
        title, ranking = "Shares of the pixels", shown.prediction.segmentation
    items = "".join(
        f'<li style="--share: {item.score:.4f}"><span>{escape(item.label)}</span>'
        f'<data value="{item.score:.6f}">{_percent(item.score)}</data></li>'
        for item in (ranking or [])[:5]
    )
    return f'<section class="ranking"><h3>{title}</h3><ol>{items}</ol></section>'


def _original(shown: Shown, number: int) -> str:
    label = escape(f"{shown.name} as the model sees it", quote=True)
    return f"""
<figure data-layer="original">
<div class="view"><div class="base base-{number}" role="img" aria-label="{label}"></div></div>
<figcaption><h3>picture</h3><p>What the model sees</p></figcaption>
</figure>"""


def _card(
    shown: Shown, number: int, name: str, picture: Drawn, summary: str, layer: str | None
) -> str:
    what = f"{name} of {shown.name}"
    if shown.target is not None and picture.scale != "classes":
        what += f" for {shown.target.label}"
    looked = f'<p class="layer">at <code>{escape(layer)}</code></p>' if layer else ""
    legend = "".join(
        f'<li><i style="background: rgb{class_colour(item.index)}"></i>{escape(item.label)}</li>'
        for item in (shown.prediction.segmentation or [])[:8]
    )
    legend = f'<ul class="swatches">{legend}</ul>'
    if picture.scale in _LEGENDS:
        least, most = _LEGENDS[picture.scale]
        legend = (
            f'<p class="legend"><span>{least}</span><i class="{picture.scale}"></i>'
            f"<span>{most}</span></p>"
        )
    return f"""
<figure data-layer="{escape(name, quote=True)}">
<div class="view {picture.scale}"><div class="base base-{number}"></div><img class="map" alt="{
        escape(what, quote=True)
    }" src="{_uri(picture.png(), "image/png")}"></div>
<figcaption><h3>{escape(name)}</h3><p>{escape(summary)}</p>{looked}{legend}</figcaption>
</figure>"""


def _attention(
    shown: Shown,
    number: int,
    name: str,
    values: Mapping[str, Any],
    summary: str,
    budget: int,
) -> str:
    found = packed(values, budget)
    left_out = "".join(
        f"<li><code>{escape(layer)}</code>: {escape(reason)}</li>"
        for layer, reason in found.left_out.items()
    )
    left = f"<details><summary>Layers not shown</summary><ul>{left_out}</ul></details>"
    slug = f"{number}-{escape(name, quote=True)}"
    title = f"""
<section class="attention" data-layer="{escape(name, quote=True)}" aria-labelledby="title-{slug}">
<h3 id="title-{slug}">{escape(name)}</h3>
<p>{escape(summary)}</p>"""
    if not found.layers:
        return f"{title}{left if left_out else ''}</section>"
    data = json.dumps({"layers": found.layers, "data": found.data}).replace("<", "\\u003c")
    last = len(found.layers) - 1
    label = escape(
        f"Patches of {shown.name}. Arrow keys choose the patch whose attention is shown.",
        quote=True,
    )
    return f"""{title}
<noscript><p class="note">A script draws attention, and this browser runs none.</p></noscript>
<div class="lens">
<div class="view patches" role="application" tabindex="0" aria-label="{label}">
<div class="base base-{number}"></div><canvas class="map"></canvas>
<i class="cursor" hidden></i></div>
<div class="controls">
<label>Layer <output class="layer-name"></output>
<input class="layer-choice" type="range" min="0" max="{last}" value="{last}" autocomplete="off">
</label>
<fieldset><legend>Attention of</legend><div class="queries"></div></fieldset>
<fieldset><legend>Head</legend><div class="heads"></div></fieldset>
<p class="said" role="status"></p>
<p class="hint">Click on a patch, drag over several, or move with the arrow keys, to see what each \
attends to.</p>
</div>
</div>
{left if left_out else ""}
<script type="application/json">{data}</script>
</section>"""


def _skipped(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(reason)}</dd>" for name, reason in reasons.items()
    )
    return f'\n<section class="skipped"><h3>Left out</h3><dl>{items}</dl></section>'


def _percent(share: float) -> str:
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _jpeg(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=85, optimize=True)
    return _uri(file.getvalue(), "image/jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
