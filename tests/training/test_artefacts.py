"""Pictures that a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import Dataset

import zoo_core as zoo
from zoo_core.data import Sample
from zoo_core.training.artefacts import draw_predictions


class Masked(Dataset[Sample]):
    """Two pictures whose lower halves belong to no class."""

    def __init__(self, ignored: int) -> None:
        self.ignored = ignored

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        mask = torch.full((32, 32), index + 1)
        mask[16:] = self.ignored
        return Sample(image=torch.full((3, 32, 32), index / 2), mask=mask)


def test_pixels_of_no_class_have_no_colour(tmp_path: Path) -> None:
    model = zoo.build(
        "timm/test_resnet+linear", num_classes_classification=0, num_classes_segmentation=4, seed=0
    ).eval()
    drawn = []
    for ignored in (255, 3, -1):
        path = tmp_path / f"{ignored}.png"
        draw_predictions(model, Masked(ignored), path, ignored)
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1] == drawn[2]
