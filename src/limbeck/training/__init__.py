"""Training with Lightning: the module, the data and the optimizers that recipes state."""

from limbeck.training.compilation import compile_trunks
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer

__all__ = ["DataModule", "DistillationModule", "LearningRate", "Optimizer", "compile_trunks"]
