"""Results to be read."""

from __future__ import annotations

import json
import math

import pytest
import torch

from zoo_core.cli.tables import echo_table
from zoo_core.errors import InputError
from zoo_core.evaluation import ClassificationMetrics, SegmentationMetrics
from zoo_core.evaluation.tables import confusion_table, for_json, per_class_table

PER_CLASS = """\
class       precision  recall      f1  support
0 cat          1.0000  0.9996  0.9998    2,400
1 sea lion     0.0000  0.0000  0.0000        0
2 dog               –       –       –        0
"""
CONFUSION = """\
target          0  1  2
0 cat       2,399  1  0
1 sea lion      0  0  0
2 dog           0  0  0
"""


@pytest.fixture
def metrics() -> ClassificationMetrics:
    metrics = ClassificationMetrics(3)
    predicted = torch.zeros(2400, dtype=torch.int64)
    predicted[0] = 1
    metrics.update(predicted, torch.zeros_like(predicted))
    return metrics


def test_tables_of_classification(
    metrics: ClassificationMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("cat", "sea lion", "dog")
    echo_table(*per_class_table(metrics, names))
    assert capsys.readouterr().out == PER_CLASS
    echo_table(*confusion_table(metrics, names))
    assert capsys.readouterr().out == CONFUSION


def test_tables_of_segmentation_without_names() -> None:
    metrics = SegmentationMetrics(2)
    metrics.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]]))
    table = per_class_table(metrics)
    assert table.header == ["class", "iou", "dice", "precision", "recall", "support"]
    assert table.rows[0] == ["0", "0.5000", "0.6667", "1.0000", "0.5000", "2"]
    assert confusion_table(metrics).rows == [["0", "1", "1"], ["1", "0", "0"]]


def test_other_names_than_classes_are_refused(metrics: ClassificationMetrics) -> None:
    for table in (per_class_table, confusion_table):
        with pytest.raises(InputError, match=r"^2 names for 3 classes$"):
            table(metrics, ["cat", "dog"])


def test_json_has_null_for_nan(metrics: ClassificationMetrics) -> None:
    results = {"classification": {**metrics.compute(), "table": metrics.per_class()}}
    found = json.loads(json.dumps(for_json(results), allow_nan=False))["classification"]
    assert found["accuracy"] == 2399 / 2400
    assert found["calibration_error"] is None
    assert found["table"]["recall"][1:] == [0, None]
    assert for_json([math.inf, 1, "a", None]) == [None, 1, "a", None]
