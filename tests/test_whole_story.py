"""Data, training, evaluation and saving together, as a user's script puts them together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import CrossEntropyLoss
from torch.optim import Adam
from torch.utils.data import DataLoader

from zoo_core.data import (
    ClassificationDataset,
    DummyClassificationDataset,
    DummyMultitaskDataset,
    DummySegmentationDataset,
    SegmentationDataset,
    Transforms,
)
from zoo_core.evaluation import (
    ClassificationMetrics,
    Evaluator,
    Experiment,
    SegmentationMetrics,
    enable_cudnn_determinism,
    set_seed,
)
from zoo_core.models import MultitaskModel
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import CNNBackbone, ViTSpatial
from zoo_core.models.encoder_decoder import UNetDecoder
from zoo_core.training import MixedPrecisionManager, Trainer


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """``data/train`` and ``data/val`` with classes, ``data/train/images`` and ``masks`` beside."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                levels = rng.integers(0, 256, (40, 50, 3), np.uint8)
                Image.fromarray(levels).save(folder / f"{number}.jpg")
    for kind, shape, top in (("images", (40, 50, 3), 256), ("masks", (40, 50), 21)):
        folder = tmp_path / "seg" / "train" / kind
        folder.mkdir(parents=True)
        for number in range(4):
            levels = rng.integers(0, top, shape, np.uint8)
            Image.fromarray(levels).save(folder / f"{number}.png")
    return tmp_path


def test_a_classifier_is_trained_and_evaluated(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    set_seed(42)
    train_dataset = ClassificationDataset("data/train", transform=Transforms(64, augment=True))
    val_dataset = ClassificationDataset("data/val", transform=Transforms(64, augment=False))
    train_loader = DataLoader(train_dataset, batch_size=4, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=4, shuffle=False)
    model = MultitaskModel(backbone=CNNBackbone(depth=18), num_classes_classification=10).to("cpu")
    trainer = Trainer(
        model=model,
        criterion=CrossEntropyLoss(),
        optimizer=Adam(model.parameters(), lr=0.001),
        max_epochs=2,
        validation_freq=1,
        early_stopping_patience=10,
        mixed_precision=False,
        gradient_clip_value=1.0,
        device="cpu",
    )
    history = trainer.train(train_loader, val_loader)
    assert len(history["train_loss"]) == len(history["val_loss"]) == 2
    assert len(history["val_metrics"]["accuracy"]) == 2

    evaluator = Evaluator(model=model, device="cpu")
    metrics = evaluator.evaluate(val_loader)
    assert metrics["accuracy"] == history["val_metrics"]["accuracy"][-1]

    experiment = Experiment(
        model=model,
        trainer=trainer,
        evaluator=evaluator,
        num_epochs=1,
        checkpoint_dir="checkpoints/",
    )
    history = experiment.run(train_loader, val_loader)
    assert len(history["train_loss"]) == 1
    assert list(Path("checkpoints").glob("*/step-*/model.safetensors"))


def test_a_split_is_named_or_is_the_folder_itself(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    named = ClassificationDataset(root="data", split="train", transform=Transforms(64))
    itself = ClassificationDataset(root="data/train", split="train", transform=Transforms(64))
    assert named.files == [str(Path(file)) for file in itself.files]
    images, labels = next(iter(DataLoader(itself, batch_size=2)))
    assert images.shape == (2, 3, 64, 64)
    assert labels.shape == (2,)


def test_a_segmenter_with_a_transformer_is_trained(pictures: Path) -> None:
    folder = pictures / "seg" / "train"
    dataset = SegmentationDataset(
        images_dir=folder / "images", masks_dir=folder / "masks", transform=Transforms(32)
    )
    backbone = ViTSpatial(image_size=32, num_layers=4, hidden_dim=48, num_heads=3, mlp_dim=96)
    decoder = UNetDecoder(
        backbone_channels=backbone.get_channel_schedule(),
        output_channels=21,
    )
    model = MultitaskModel(backbone=backbone, decoder=decoder, num_classes_segmentation=21)
    loader = DataLoader(dataset, batch_size=2, shuffle=True)
    history = Trainer(model, max_epochs=1).train(loader, loader)
    assert len(history["val_metrics"]["mean_iou"]) == 1


def test_both_tasks_are_trained_at_once() -> None:
    backbone = CNNBackbone(depth=18)
    schedule = backbone.get_channel_schedule()
    model = MultitaskModel(
        backbone=backbone,
        attention=CBAM(in_channels=schedule[-1]),
        decoder=UNetDecoder(schedule, 21),
        num_classes_classification=10,
        num_classes_segmentation=21,
    )
    dataset = DummyMultitaskDataset(6, (48, 48), 10, 21)
    loader = DataLoader(dataset, batch_size=3)
    batch = next(iter(loader))
    output = model(batch["image"])
    assert output["classification"].shape == (3, 10)
    assert output["segmentation"].shape == (3, 21, 48, 48)
    history = Trainer(model, max_epochs=1).train(loader, loader)
    assert set(history["val_metrics"]) == {"classification", "segmentation"}


def test_half_precision_in_a_loop_of_ones_own() -> None:
    linear = torch.nn.Linear(12, 1)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    amp = MixedPrecisionManager(enabled=True)
    before = linear.weight.detach().clone()
    for batch in torch.ones(3, 2, 3, 2, 2):
        with amp.autocast():
            loss = model(batch).square().mean()
        amp.backward(loss)
        optimizer.step()
    assert not torch.equal(before, linear.weight)


def test_metrics_and_dummies_are_as_described(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", cudnn.benchmark)
    monkeypatch.setattr(cudnn, "deterministic", cudnn.deterministic)
    request.addfinalizer(lambda: torch.use_deterministic_algorithms(False))
    enable_cudnn_determinism()
    dummy = DummyClassificationDataset(num_samples=10, image_size=(32, 40), num_classes=10)
    images, labels = next(iter(DataLoader(dummy, batch_size=2)))
    assert images.shape == (2, 3, 32, 40)
    clf_metrics = ClassificationMetrics(num_classes=10)
    clf_metrics.update(torch.randn(2, 10), labels)
    assert {"accuracy", "top5_accuracy"} <= set(clf_metrics.compute())
    clf_metrics.reset()

    batch = next(iter(DataLoader(DummySegmentationDataset(4, (32, 40), 21), batch_size=2)))
    seg_metrics = SegmentationMetrics(num_classes=21)
    seg_metrics.update(torch.randn(2, 21, 32, 40), batch["mask"])
    scores = seg_metrics.compute()
    assert {"mean_iou", "class_iou", "mean_dice", "class_dice"} <= set(scores)
    assert len(scores["class_iou"]) == 21
