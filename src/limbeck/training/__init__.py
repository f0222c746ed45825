"""Training on Lightning: a module, the data, callbacks, optimizers as recipes state them."""

from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer

__all__ = ["DataModule", "DistillationModule", "LearningRate", "Optimizer"]
