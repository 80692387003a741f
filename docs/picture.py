"""Draws the README's picture: three photographs and what a trained model says of them.

Run ``python docs/picture.py`` with the test extras installed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageDraw, ImageFont
from skimage import data

import zoo_core as zoo
from zoo_core.prediction import Ranked, predict
from zoo_core.testing.lite0 import convert

SIDE, BAR, FONT = 300, 26, 15


def panel(picture: Image.Image, ranking: list[Ranked]) -> Image.Image:
    """Give a square photograph over bars as long as the probabilities."""
    shorter = min(picture.size)
    left, top = (picture.width - shorter) // 2, (picture.height - shorter) // 2
    square = picture.crop((left, top, left + shorter, top + shorter)).resize((SIDE, SIDE))
    drawn = Image.new("RGB", (SIDE, SIDE + BAR * len(ranking) + 8), "white")
    drawn.paste(square)
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(FONT)
    for row, item in enumerate(ranking):
        y = SIDE + 8 + row * BAR
        pen.rectangle((0, y, item.score * SIDE, y + BAR - 6), fill=(120, 180, 240))
        pen.text((6, y + 1), f"{item.label}  {item.score:.0%}", fill="black", font=font)
    return drawn


def main() -> None:
    """Write docs/images/predict.png."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "lite0.safetensors")
        convert(file)
        model = zoo.build("timm/efficientnet_lite0", weights=file).eval()
    panels = []
    for name in ("chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(data, name)())
        ranking = predict(model, picture, top=3).classification
        assert ranking is not None
        panels.append(panel(picture, ranking))
    strip = Image.new("RGB", (len(panels) * (SIDE + 12) - 12, panels[0].height), "white")
    for column, drawn in enumerate(panels):
        strip.paste(drawn, (column * (SIDE + 12), 0))
    strip.quantize(192).save(Path(__file__).parent / "images" / "predict.png", optimize=True)


if __name__ == "__main__":
    main()
