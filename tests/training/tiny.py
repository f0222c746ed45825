"""Models, data and runs of a second, in Python."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import nn

from limbeck.data import Shapes
from limbeck.models import Classifier, RetinaNet
from limbeck.models.resnet import BasicBlocks
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer

BLOCKS = BasicBlocks(depths=[1, 1, 1], widths=[8, 8, 16])
STEADY = LearningRate("constant", warm_up=0)
PLAIN_SGD = Optimizer("sgd", lr=0.01, momentum=0.0, weight_decay=0.0)


def detector(seed: int = 0) -> RetinaNet:
    """On strides of 8 and 16, for images of 64 px."""
    torch.manual_seed(seed)
    return RetinaNet(
        BLOCKS,
        5,
        levels=(3, 4),
        fpn_channels=16,
        head_depth=1,
        anchor_sizes=[[14, 20], [28, 40]],
        aspect_ratios=[1.0],
        norm="trained",
        min_size=64,
        max_size=64,
        topk_candidates=50,
        detections_per_image=10,
    )


def classifier(seed: int = 0, classes: int = 5) -> Classifier:
    """Of 64 px or whatever else."""
    torch.manual_seed(seed)
    return Classifier(BLOCKS, classes)


def shapes(task: Any = "detection", train: int = 32, val: int = 8) -> DataModule:
    """Batches of 8."""
    return DataModule(
        Shapes(task, size=64, count=val, seed=0),
        Shapes(task, size=64, count=train, seed=1),
        batch_size=8,
        workers=0,
    )


def fit(
    module: DistillationModule,
    data: DataModule,
    folder: Path,
    *callbacks: L.Callback,
    checkpoint: Path | None = None,
    **options: Any,
) -> L.Trainer:
    """One epoch, unless the options say otherwise; nothing is shown or logged."""
    stated = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    trainer = L.Trainer(default_root_dir=folder, callbacks=list(callbacks), **stated | options)
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


class Watch(L.Callback):
    """Calls a function with the module at the start of every batch."""

    def __init__(self, see: Any) -> None:
        self.see = see

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.see(pl_module)
