"""limbeck distils heavy image classifiers and object detectors into light ones.

``Distillation(student, teacher, methods)`` is an ``nn.Module``; one call to it with a batch gives
named losses. Everything else builds its three arguments, feeds it, or reports on it.
"""

from limbeck.distillation import Distillation
from limbeck.landmarks import landmarks, norm_of, register_family
from limbeck.losses import Losses
from limbeck.tap import Tap, TapError
from limbeck.taps import Taps
from limbeck.wiring import NotAliveError

__version__ = "0.1.0"

__all__ = [
    "Distillation",
    "Losses",
    "NotAliveError",
    "Tap",
    "TapError",
    "Taps",
    "landmarks",
    "norm_of",
    "register_family",
]
