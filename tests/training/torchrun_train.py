"""What the distributed tests run: ``torchrun … torchrun_train.py FOLDER OPTIONS``.

It is an ordinary script; nothing in it knows how many processes there are.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoo_core.errors import ZooError
from zoo_core.training import Checkpoints, Trainer


class Pictures(Dataset[dict[str, Tensor]]):
    """Seven classes, two tasks; some samples lack a target."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(4, (8, 8), generator=generator)
        mask[: index % 8] = 255
        label = torch.tensor(-100 if index % 5 == 4 else index % 7)
        image = torch.randn(3, 8, 8, generator=generator) + index % 7
        return {"image": image + torch.rand(()) * 0.1, "label": label, "mask": mask}


class Network(nn.Module):
    """Two heads behind a batch norm."""

    def __init__(self, dropout: float, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.Tanh(),
            nn.Dropout(dropout), nn.Conv2d(width, width, 3, padding=1), nn.Tanh(),
        )  # fmt: skip
        self.classifier = nn.Linear(width, 7)
        self.decoder = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.stem(x)
        return {
            "classification": self.classifier(maps.mean((2, 3))),
            "segmentation": self.decoder(maps),
        }


def main(folder: Path, options: dict) -> None:
    torch.manual_seed(0)
    model = Network(options.pop("dropout", 0.0), options.pop("width", 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01, eps=1e-4)
    batch = options.pop("batch", 6)
    workers = options.pop("workers", 0)
    every = options.pop("every_steps", 0)
    resume = options.pop("resume", False)
    dtype = options.pop("dtype", None)
    trainer = Trainer(
        model,
        optimizer=optimizer,
        seed=5,
        device="cpu",
        progress=False,
        mixed_precision=getattr(torch, dtype) if dtype else False,
        checkpoints=Checkpoints(folder / "checkpoints", every_steps=every) if every else None,
        **options,
    )
    train = DataLoader(Pictures(), batch_size=batch, shuffle=True, num_workers=workers)
    val = DataLoader(Pictures(), batch_size=batch)
    try:
        history = trainer.train(train, val, resume=resume)
    except ZooError as error:
        sys.exit(f"rank {trainer.world.rank}: {error}")
    rank = trainer.world.rank
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / f"model-{rank}.safetensors",
    )
    (folder / f"history-{rank}.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
