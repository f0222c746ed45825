"""Students as files of other runtimes: what is exported, written, and compared with PyTorch."""

from limbeck.export.check import Checked, Tolerance
from limbeck.export.writing import DifferenceError, Said, Wanted, export

__all__ = ["Checked", "DifferenceError", "Said", "Tolerance", "Wanted", "export"]
