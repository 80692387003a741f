"""One page of all pictures, which needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from zoo_core.explainability.report.colours import colours

_HIGHER: Final = {"insertion": True, "deletion": False, "road": True, "average_drop": False}
"""Whether more of a score is better."""

_MEANINGS: Final = {
    "insertion": "how soon the class comes as the pixels that matter most are put in",
    "deletion": "how long the class stays as the pixels that matter most are taken away",
    "road": "how much more is lost with the pixels that matter most than with those that matter "
    "least",
    "average_drop": "what share of the probability is lost if only what the map shows is seen",
}

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By picture, by method, by score."""


def page(
    title: str,
    facts: Sequence[str],
    methods: Iterable[str],
    sections: Sequence[str],
    scores: Scores,
) -> str:
    """Give the whole page as HTML.

    Args:
        title: Its title.
        facts: What there is to say of all pictures, a sentence each.
        methods: What can be shown and hidden, beside the pictures themselves.
        sections: What :func:`zoo_core.explainability.report.section` gave for each picture.
        scores: How good each map is; empty if none was scored.
    """
    heat = colours(signed=False).tolist()
    script = _file("page.js").replace("/* colours */ []", json.dumps(heat, separators=(",", ":")))
    style = _file("page.css").replace("/* scales */", _scales())
    switches = "".join(_switch(name) for name in ["original", *methods])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header class="top">
<h1>{escape(title)}</h1>
{"".join(f"<p>{escape(fact)}</p>" for fact in facts)}
</header>
<form class="bar" aria-label="What is shown" autocomplete="off">
<label class="opacity">Opacity <input id="opacity" type="range" min="0" max="100" value="75">
<output for="opacity">75 %</output></label>
<fieldset><legend>Show</legend>{switches}</fieldset>
</form>
<main>{"".join(sections)}
{_table(scores)}
</main>
<footer><p>Press and hold a map to see the picture without it. <kbd>O</kbd> hides and shows all \
maps.</p></footer>
<script>{script}</script>
</body>
</html>
"""


def _switch(name: str) -> str:
    shown = escape("picture" if name == "original" else name)
    box = f'<input type="checkbox" checked data-shows="{escape(name, quote=True)}">'
    return f'<label class="chip">{box}{shown}</label>'


def _table(scores: Scores) -> str:
    names = list(dict.fromkeys(n for by in scores.values() for one in by.values() for n in one))
    if not names:
        return ""
    body = "".join(
        _row(picture, method, found, names, by)
        for picture, by in scores.items()
        for method, found in by.items()
        if found
    )
    explained = "".join(
        f"<dt>{escape(name)} {_arrow(name)}</dt><dd>{escape(_MEANINGS[name])}</dd>"
        for name in names
        if name in _MEANINGS
    )
    return f"""
<section class="scores" aria-labelledby="scores-title">
<h2 id="scores-title">How far to trust them</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="scores-title"><table>
<caption>An arrow tells which values are better; the best of each picture are bold.</caption>
<thead><tr>{_head("picture", "text")}{_head("method", "text")}{
        "".join(_head(name, _order(name)) for name in names)
    }</tr></thead>
<tbody>{body}</tbody>
</table></div>
<dl>{explained}</dl>
</section>"""


def _head(name: str, order: str) -> str:
    return (
        f'<th scope="col" aria-sort="none"><button type="button" data-order="{order}">'
        f"{escape(name)} {_arrow(name)}</button></th>"
    )


def _row(
    picture: str,
    method: str,
    found: Mapping[str, float],
    names: Sequence[str],
    others: Mapping[str, Mapping[str, float]],
) -> str:
    """Give a method's row; where it is the best of the picture, its value is bold."""
    cells = []
    for name in names:
        values = [one[name] for one in others.values() if name in one]
        best = (max if _HIGHER.get(name, True) else min)(values, default=None)
        if name not in found:
            cells.append("<td>–</td>")
            continue
        wins = name in _HIGHER and len(values) > 1 and found[name] == best
        mark = ' class="best"' if wins else ""
        cells.append(f'<td data-value="{found[name]:.9g}"{mark}>{found[name]:.3f}</td>')
    return (
        f'<tr><td>{escape(picture)}</td><th scope="row">{escape(method)}</th>{"".join(cells)}</tr>'
    )


def _order(name: str) -> str:
    """Tell which way a column is sorted first: the best on top."""
    return "descending" if _HIGHER.get(name, True) else "ascending"


def _arrow(name: str) -> str:
    if name not in _HIGHER:
        return ""
    meaning, sign = ("more is better", "↑") if _HIGHER[name] else ("less is better", "↓")
    return f'<span role="img" aria-label="{meaning}">{sign}</span>'


@cache
def _scales() -> str:
    """Give the legends' colours as CSS."""
    rules = []
    for name, signed in (("heat", False), ("signed", True)):
        steps = ", ".join(
            f"rgb({r} {g} {b} / {a / 255:.2f})"
            for r, g, b, a in colours(signed=signed)[::17].tolist()
        )
        rules.append(f".legend .{name} {{ background-image: linear-gradient(90deg, {steps}) }}")
    return "\n".join(rules)


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
