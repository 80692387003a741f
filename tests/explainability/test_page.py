"""The page of explanations, as it is written and as Chromium shows it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import zoo_core as zoo
from zoo_core.cli import cli
from zoo_core.explainability import Explainer, Explanations, Facts, Skipped
from zoo_core.explainability.report import Shown, drawn, page, save_arrays, section, whole_file
from zoo_core.explainability.report.attention import packed
from zoo_core.explainability.report.colours import colours, indexed
from zoo_core.pictures import prepare
from zoo_core.prediction import Prediction, Ranked

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
METHODS = ("grad_cam", "saliency", "attention", "guided_backprop")


class Browser:
    """A headless Chromium that is told what to do by the DevTools protocol, through two pipes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        (reads, self._to), (self._from, writes) = os.pipe(), os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run "
        flags += "--window-size=1300,1000"
        command = f'exec 3<&{reads} 4>&{writes}; exec "$0" {flags} --user-data-dir="$1"'
        self._process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, str(profile)],
            pass_fds=(reads, writes),
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._number, self._rest, self._session = 0, b"", ""
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait(30)

    def send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait_for(self, event: str) -> None:
        while self._receive().get("method") != event:
            pass

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = os.read(self._from, 1 << 20)
            assert block, "Chromium has ended"
            self._rest += block
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        kind, told = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.problems.append(str(told["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(str(told["args"]))
        elif kind == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(str(told["entry"]))
        elif kind == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"][:40])
        return message

    def ask(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path: Path) -> None:
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")
        self.ask(
            """(async () => {
                 const all = [...document.querySelectorAll('.attention:has(script)')];
                 while (all.some((one) => one.dataset.ready === undefined))
                   await new Promise((go) => setTimeout(go, 10));
               })()"""
        )

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click where an element is, with the mouse."""
        x, y = self.ask(
            f"""(() => {{
                  const one = document.querySelector({json.dumps(selector)});
                  one.scrollIntoView({{block: 'center', behavior: 'instant'}});
                  const box = one.getBoundingClientRect();
                  return [box.x + {across} * box.width, box.y + {down} * box.height];
                }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        if key == " ":
            text["code"] = "Space"
        code = {"Tab": 9, " ": 32, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38}
        code |= {"ArrowRight": 39, "ArrowDown": 40}
        number = code.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=number, **text
            )

    def focus(self, selector: str) -> None:
        self.ask(f"document.querySelector({json.dumps(selector)}).focus()")

    def style(self, selector: str, name: str) -> str:
        found: str = self.ask(
            f"getComputedStyle(document.querySelector({json.dumps(selector)}))[{json.dumps(name)}]"
        )
        return found

    def pixels(self, selector: str) -> list[int]:
        """Give the pixels of a canvas, red, green, blue and opacity each."""
        found = self.ask(f"document.querySelector({json.dumps(selector)}).toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))) as picture:
            values: list[int] = np.asarray(picture.convert("RGBA")).ravel().tolist()
        return values


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ViT of 4×4 patches whose heads attend to few of them, saved."""
    model = zoo.build("vit_tiny", image_size=64, num_classes_classification=3, seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("qkv.weight"):
                parameter.mul_(6)
    model.labels = {"classification": ("<b>cat</b>", "espresso", "missile")}
    folder = tmp_path_factory.mktemp("transformer") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def written(
    transformer: Path, photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The page of two pictures, as the command line writes it."""
    out = tmp_path_factory.mktemp("page") / "out"
    methods = [text for name in METHODS for text in ("--method", name)]
    pictures = [str(photos["chelsea"]), str(photos["rocket"])]
    arguments = ["explain", str(transformer), *pictures, *methods, "--score", "--out", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return out / "index.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser, written: Path) -> Iterator[Browser]:
    """The page, freshly opened; at the end nothing must have gone wrong in it."""
    chromium.send("Emulation.setEmulatedMedia", features=[])
    chromium.requests.clear()
    chromium.open(written)
    yield chromium
    assert chromium.problems == []
    assert {url.partition(":")[0] for url in chromium.requests} <= {"file", "data", "blob"}
    assert sum(url.startswith("file:") for url in chromium.requests) == 1


def test_the_slider_changes_the_opacity(browser: Browser) -> None:
    assert float(browser.style("img.map", "opacity")) == pytest.approx(0.75)
    browser.focus("#opacity")
    for _ in range(5):
        browser.press("ArrowLeft")
    assert browser.ask("document.querySelector('.opacity output').value") == "70 %"
    browser.ask("Promise.all(document.getAnimations().map((one) => one.finished))")
    shown = browser.ask(
        "[...document.querySelectorAll('.map')].map((one) => +getComputedStyle(one).opacity)"
    )
    assert shown == [pytest.approx(0.7)] * 6  # two maps and attention of two pictures


def test_a_method_is_hidden_and_shown_again(browser: Browser) -> None:
    def visible(name: str) -> list[bool]:
        shown: list[bool] = browser.ask(
            f"[...document.querySelectorAll('[data-layer={name}]')].map((one) => "
            "one.checkVisibility())"
        )
        return shown

    for name in ("original", "grad_cam", "attention"):
        assert visible(name) == [True, True]
        browser.click(f"[data-shows={name}]")
        assert visible(name) == [False, False]
        assert visible("saliency") == [True, True]
        browser.focus(f"[data-shows={name}]")
        browser.press(" ")
        assert visible(name) == [True, True]


def test_a_key_hides_all_maps(browser: Browser) -> None:
    browser.press("o")
    browser.ask("Promise.all(document.getAnimations().map((one) => one.finished))")
    assert browser.style("img.map", "opacity") == "0"
    browser.press("o")
    browser.ask("Promise.all(document.getAnimations().map((one) => one.finished))")
    assert float(browser.style("img.map", "opacity")) == pytest.approx(0.75)


def expected_canvas(weights: Tensor) -> list[int]:
    """Give the pixels of a canvas that shows weights, as the page's own rule says."""
    shares = (weights - weights.min()) / (weights.max() - weights.min())
    levels = (31 * shares).round() * 255 / 31
    return colours(signed=False)[levels.round().int().numpy()].ravel().tolist()


def close(shown: list[int], expected: list[int]) -> bool:
    """Compare colours; a canvas keeps them multiplied with their opacity, and so rounds."""
    a, b = np.array(shown).reshape(-1, 4), np.array(expected).reshape(-1, 4)
    a, b = a[:, :3] * a[:, 3:] / 255, b[:, :3] * b[:, 3:] / 255
    return a.shape == b.shape and bool(np.abs(a - b).max() <= 2)


@pytest.fixture(scope="module")
def attention(transformer: Path, photos: dict[str, Path]) -> Any:
    """What the method itself gives for the first picture: weights by layer."""
    model = zoo.MultitaskModel.from_pretrained(transformer)
    assert model.preprocessing is not None
    with Image.open(photos["chelsea"]) as picture:
        inputs = prepare(picture, model.preprocessing)[None]
    explained = Explainer(model, {"attention": {"heads": "none"}}).explain(inputs)
    return explained["attention"]


def test_patches_heads_and_layers_show_their_attention(browser: Browser, attention: Any) -> None:
    layers = [attention[name][0] for name in attention]
    first = "#picture-0 .attention"

    def shows(weights: Tensor) -> bool:
        return close(browser.pixels(f"{first} .patches canvas"), expected_canvas(weights))

    assert shows(layers[-1].mean(0)[0, 1:])  # the class token, of all heads
    browser.click(f"{first} .patches", across=0.6, down=0.3)  # row 1, column 2 of 4
    assert shows(layers[-1].mean(0)[1 + 4 + 2, 1:])
    assert "Patch in row 2, column 3 attends most to" in browser.ask(
        f"document.querySelector('{first} .said').textContent"
    )
    assert browser.style(f"{first} .cursor", "display") == "block"
    browser.click(f"{first} .heads button:nth-child(3)")
    assert shows(layers[-1][1, 1 + 4 + 2, 1:])
    pressed = f"document.querySelector('{first} .heads [aria-pressed=true]').textContent"
    assert browser.ask(pressed) == "2"
    browser.focus(f"{first} .layer-choice")
    browser.press("ArrowLeft")
    assert shows(layers[-2][1, 1 + 4 + 2, 1:])
    assert browser.ask(f"document.querySelector('{first} .layer-name').value").endswith(
        f"{len(layers) - 1} of {len(layers)}: {list(attention)[-2]}"
    )
    browser.click(f"{first} .queries button:first-child")
    assert shows(layers[-2][1, 1:, 1:].mean(0))
    # The other picture is as it was.
    assert not close(
        browser.pixels("#picture-1 .patches canvas"), browser.pixels(f"{first} canvas")
    )


def test_arrow_keys_move_from_patch_to_patch(browser: Browser, attention: Any) -> None:
    last = attention[list(attention)[-1]][0].mean(0)
    browser.focus("#picture-0 .patches")

    def shows(row: int, column: int) -> bool:
        weights = last[1 + 4 * row + column, 1:]
        return close(browser.pixels("#picture-0 .patches canvas"), expected_canvas(weights))

    browser.press("ArrowDown")
    assert shows(2, 2)  # where one begins
    before = browser.ask("scrollY")
    for key, place in (
        ("ArrowRight", (2, 3)),
        ("ArrowRight", (2, 3)),
        ("ArrowUp", (1, 3)),
        ("ArrowLeft", (1, 2)),
        ("ArrowDown", (2, 2)),
    ):
        browser.press(key)
        assert shows(*place)
    assert browser.ask("scrollY") == before
    browser.press("Escape")
    assert browser.style("#picture-0 .cursor", "display") == "none"


def test_dragging_shows_patch_after_patch(browser: Browser, attention: Any) -> None:
    last = attention[list(attention)[-1]][0].mean(0)
    browser.click("#picture-0 .patches", across=0.9, down=0.9)
    x, y, width, height = browser.ask(
        """(() => {
             const box = document.querySelector('#picture-0 .patches').getBoundingClientRect();
             return [box.x, box.y, box.width, box.height];
           })()"""
    )
    for kind, row, column in (
        ("mousePressed", 3, 3),
        ("mouseMoved", 1, 3),
        ("mouseMoved", 3, 1),
    ):
        place = {"x": x + (column + 0.5) / 4 * width, "y": y + (row + 0.5) / 4 * height}
        browser.send("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, **place)
        browser.ask("new Promise((go) => requestAnimationFrame(go))")
        wanted = expected_canvas(last[1 + 4 * row + column, 1:])
        assert close(browser.pixels("#picture-0 .patches canvas"), wanted)
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", button="left", **place)


def test_every_control_is_reached_by_the_keyboard(browser: Browser) -> None:
    reached = set()
    browser.ask("document.activeElement.blur()")
    for _ in range(60):
        browser.press("Tab")
        reached.add(
            browser.ask(
                """(() => {
                     const one = document.activeElement;
                     return one.id || one.dataset.shows || one.className || one.dataset.order
                       || one.parentElement.className || one.tagName;
                   })()"""
            )
        )
    wanted = {"opacity", "original", "grad_cam", "view patches", "layer-choice", "queries", "heads"}
    assert wanted <= reached
    assert {"ascending", "descending"} <= reached


def test_the_table_sorts(browser: Browser) -> None:
    def column(number: int) -> list[float]:
        values: list[float] = browser.ask(
            f"[...document.querySelectorAll('tbody tr')].map((row) => "
            f"+row.cells[{number}].dataset.value)"
        )
        return values

    names = browser.ask(
        "[...document.querySelectorAll('thead th')].map((one) => one.innerText.split(/\\s/)[0])"
    )
    assert names[:3] == ["picture", "method", "insertion"]
    insertion, deletion = 3, names.index("deletion") + 1
    head = "thead th:nth-child({}) button"
    assert len(column(2)) == 4
    browser.click(head.format(insertion))
    assert column(insertion - 1) == sorted(column(insertion - 1), reverse=True)
    browser.click(head.format(insertion))
    assert column(insertion - 1) == sorted(column(insertion - 1))
    browser.focus(head.format(deletion))
    browser.press(" ")
    assert column(deletion - 1) == sorted(column(deletion - 1))  # less is better: first on top
    sorts = browser.ask("[...document.querySelectorAll('thead th')].map((one) => one.ariaSort)")
    assert [sort for sort in sorts if sort != "none"] == ["ascending"]
    browser.click(head.format(2))
    methods = browser.ask(
        "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[1].innerText)"
    )
    assert methods == ["grad_cam", "grad_cam", "saliency", "saliency"]


def test_light_and_dark_can_be_read(browser: Browser) -> None:
    found = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.send("Emulation.setEmulatedMedia", features=[feature])
        found[scheme] = [
            contrast(browser.style(place, "color"), browser.style("body", "backgroundColor"))
            for place in ("body", ".top p", "dd", "td.best")
        ]
        light = luminance(browser.style("body", "backgroundColor")) > 0.5
        assert light == (scheme == "light")
    assert all(ratio >= 4.5 for ratios in found.values() for ratio in ratios), found


def luminance(colour: str) -> float:
    """Give the relative luminance of a colour, as WCAG 2 defines it."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    less, more = sorted((luminance(first), luminance(second)))
    return (more + 0.05) / (less + 0.05)


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    browser.send("Emulation.clearDeviceMetricsOverride")


class Outline(HTMLParser):
    """Collects tags, ids and texts, and finds tags that are not closed."""

    VOID = frozenset(["meta", "link", "input", "img", "br"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def test_the_page_is_one_whole_document(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    named = [value for _, a in outline.tags if (value := a.get("aria-labelledby"))]
    assert set(named) <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    sources = [a[key] or "" for _, a in outline.tags for key in ("src", "href") if key in a]
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r"http-equiv", "", text)
    # What the model says, what was explained, what was left out and why.
    assert "<b>cat</b>" in outline.text
    assert "What speaks for " in outline.text
    assert "has no ReLU" in outline.text
    assert len(text) < 600_000


def shown(name: str, **results: Any) -> Shown:
    explanations = Explanations()
    explanations.update(results)
    explanations.facts = {key: Facts(target_layer="<i>layer</i>") for key in results}
    explanations.task = "classification"
    ranked = Ranked(index=0, label="</script><script>alert(1)</script>", score=1.0)
    return Shown(
        name=name,
        picture=Image.new("RGB", (8, 6)),
        prediction=Prediction(classification=[ranked], segmentation=None, mask=None),
        explanations=explanations,
        target=ranked,
        notes=["<img src=x onerror=alert(2)>"],
    )


def test_names_stay_text() -> None:
    evil = '"><script>alert(3)</script>'
    values: dict[str, Any] = {evil: torch.rand(1, 6, 8), "other": Skipped("<u>why</u>")}
    values["odd"] = ["neither a map nor layers"]
    part = section(shown(evil, **values), 0, {evil: "<s>summary</s>"})
    whole = page("<title>", ["<fact>"], values, [part], {evil: {evil: {"insertion": 0.5}}})
    outline = Outline(whole)
    assert outline.open == []
    assert sum(tag == "script" for tag, _ in outline.tags) == 1
    assert not {"b", "i", "u", "s", "fact"} & {
        tag for tag, attributes in outline.tags if not attributes.get("class")
    }
    for text in (evil, "<i>layer</i>", "<u>why</u>", "<s>summary</s>", "<fact>", "is no map"):
        assert text in outline.text


def test_colours_of_heat_begin_with_nothing_and_rise() -> None:
    table = colours(signed=False).astype(int)
    assert table[0, 3] == 0
    assert (np.diff(table[:, 3]) >= 0).all()
    brightness = table[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > -1).all()
    levels, signed = indexed(np.linspace(3, 4, 1000).reshape(20, 50))
    assert not signed
    assert (levels.min(), levels.max()) == (0, 255)
    assert (np.diff(levels.ravel().astype(int)) >= 0).all()


def test_colours_of_both_signs_are_even_about_zero() -> None:
    table = colours(signed=True)
    assert table[128, 3] == 0
    assert (np.diff(table[128:, 3].astype(int)) >= 0).all()
    assert table[255, 0] > table[255, 2]  # red speaks for it
    assert table[1, 0] < table[1, 2]  # and blue against
    plane = np.array([[-2.0, -1.0], [0.0, 1.0]])
    levels, signed = indexed(plane)
    assert signed
    assert levels[1, 0] == 128
    assert int(levels[1, 1]) - 128 == 128 - int(levels[0, 1])
    assert levels[0, 0] == 1


@pytest.mark.parametrize("plane", [np.zeros((3, 4)), np.full((3, 4), 7.0), np.full((3, 4), np.nan)])
def test_a_flat_map_shows_nothing(plane: np.ndarray[Any, Any]) -> None:
    picture = Image.new("RGB", (8, 6), (10, 20, 30))
    flat = drawn(torch.from_numpy(plane)[None])
    assert flat is not None
    assert flat.over(picture).tobytes() == picture.tobytes()


def test_outliers_do_not_hide_the_rest() -> None:
    plane = np.linspace(0, 1, 10_000).reshape(100, 100)
    plane[0, 0] = 1e6
    assert int(indexed(plane).levels[50, 50]) == pytest.approx(128, abs=4)


def test_the_png_has_the_colours_of_the_values() -> None:
    values = torch.linspace(0, 1, 48).reshape(1, 6, 8)
    picture = drawn(values)
    assert picture is not None
    with Image.open(io.BytesIO(picture.png())) as file:
        assert (file.size, file.mode) == ((8, 6), "P")
        found = np.asarray(file.convert("RGBA"))
    assert (found == colours(signed=False)[picture.index]).all()
    large = drawn(torch.rand(1, 500, 1000))
    assert large is not None
    with Image.open(io.BytesIO(large.png())) as file:
        assert file.size == (224, 112)
    over = large.over(Image.new("RGB", (300, 150)))
    assert (over.size, over.mode) == ((300, 150), "RGB")


def test_channels_are_added_up_with_their_signs() -> None:
    channels = torch.randn(1, 3, 20, 30)
    both = drawn(channels)
    assert both is not None
    assert both.scale == "signed"
    alone = drawn(channels.sum(1))
    assert alone is not None
    assert (both.index == alone.index).all()


@pytest.mark.parametrize("values", [torch.rand(1, 5), torch.ones(1, 4, 4).int(), {"a": 1}, None])
def test_what_is_no_map_is_not_drawn(values: object) -> None:
    assert drawn(values) is None


def unpacked(found: Any) -> list[np.ndarray[Any, Any]]:
    """Give the bytes of each layer, ``[heads, queries, cells + 1]``."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(found.data)), np.uint8)
    tables, begin = [], 0
    for layer in found.layers:
        rows = len(layer["names"]) + (np.prod(layer["queries"]) if layer["queries"] else 0)
        shape = (layer["heads"] or 0) + 1, int(rows), int(np.prod(layer["cells"])) + 1
        tables.append(data[begin : begin + np.prod(shape)].reshape(shape))
        begin += int(np.prod(shape))
    assert begin == len(data)
    return tables


def attention_of(recipe: str, **options: Any) -> Any:
    model = zoo.build(recipe, seed=0, num_classes_classification=2, **options).eval()
    torch.manual_seed(0)
    side = options.get("image_size", 224)
    return Explainer(model, ["attention"]).explain(torch.randn(1, 3, side, side))["attention"]


def test_packed_attention_is_the_methods_own() -> None:
    values = attention_of("vit_tiny", image_size=64)
    found = packed(values, 10_000_000)
    assert found.left_out == {}
    assert [layer["name"] for layer in found.layers] == list(values)
    for layer, table in zip(found.layers, unpacked(found), strict=True):
        assert (layer["heads"], layer["cells"], layer["queries"]) == (3, [4, 4], [4, 4])
        assert layer["names"] == ["all of the picture", "class token"]
        own = values.layers[layer["name"]].weights("none")[0][..., 1:]
        wanted = torch.cat([own.mean(0, keepdim=True), own])
        wanted = torch.cat([wanted[:, 1:].mean(1, keepdim=True), wanted], 1)
        least, most = wanted.amin(-1, keepdim=True), wanted.amax(-1, keepdim=True)
        levels = (31 * (wanted - least) / (most - least)).numpy()
        assert np.abs(table[..., :-1] - levels).max() <= 0.501
        rise = 2 ** (table[..., -1] / 16)
        assert rise == pytest.approx(
            (most / wanted.mean(-1, keepdim=True))[..., 0].numpy(), rel=0.03
        )


def test_a_small_budget_is_kept_by_averaging_patches() -> None:
    values = attention_of("vit_tiny", image_size=128)
    whole, small = packed(values, 10_000_000), packed(values, 12 * 4 * 20**2)
    assert whole.layers[0]["cells"] == [8, 8]
    assert small.layers[0]["cells"] == small.layers[0]["queries"] == [4, 4]
    assert len(small.data) < len(whole.data) / 4
    own = values.layers[small.layers[0]["name"]].weights()[0][1:, 1:]
    averages = own.reshape(4, 2, 4, 2, 4, 2, 4, 2).mean((1, 3, 5, 7)).reshape(16, 16)
    least, most = averages.amin(-1, keepdim=True), averages.amax(-1, keepdim=True)
    levels = (31 * (averages - least) / (most - least)).numpy()
    assert np.abs(unpacked(small)[0][0, 2:, :-1] - levels).max() <= 0.51


def test_windows_are_shown_where_they_are() -> None:
    values = attention_of("timm/swin_tiny_patch4_window7_224")
    found = packed(values, 2_000_000)
    assert found.left_out == {}
    tables = unpacked(found)
    assert max(layer["cells"] for layer in found.layers) <= [14, 14]
    # In the first layer the patch on top on the left attends to nothing outside its window.
    height, width = found.layers[0]["cells"]
    seen = tables[0][0, len(found.layers[0]["names"]), :-1].reshape(height, width)
    window = -(-height // 8)
    assert seen[:window, :window].any()
    assert not seen[window:].any()
    assert not seen[:, window:].any()
    assert len(found.data) < 2_700_000


def test_layers_without_places_are_left_out_with_the_reason() -> None:
    found = packed({"a": torch.rand(1, 4, 4)}, 1000)
    assert found.layers == []
    assert list(found.left_out) == ["a"]
    assert "not known where" in found.left_out["a"]


def test_arrays_are_the_methods_own(tmp_path: Path) -> None:
    values = attention_of("timm/swin_tiny_patch4_window7_224")
    results = {"grad_cam": torch.rand(1, 6, 8), "saliency": torch.randn(1, 3, 6, 8).double()}
    path = tmp_path / "new" / "arrays.safetensors"
    save_arrays(path, {**results, "attention": values, "none": Skipped("why")}, {"path": "ü.png"})
    found = load_file(path)
    names = [f"attention/{name}" for name in values]
    assert set(found) == {"grad_cam", "saliency", *names}
    assert torch.equal(found["grad_cam"], results["grad_cam"][0])
    assert torch.equal(found["saliency"], results["saliency"][0])
    assert found[names[0]].shape == (64, 49, 49)
    assert torch.equal(found[names[-1]], values[list(values)[-1]][0])
    assert path.stat().st_size < 10_000_000
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_whole_or_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")

    def fail() -> None:
        with whole_file(path) as partial:
            partial.write_text("half of")
            raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        fail()
    assert path.read_text() == "before"
    with whole_file(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]
