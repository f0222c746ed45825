"""Published methods, one file each. Every method exported here joins the tests all must pass."""

from limbeck.methods.base import Calibration, Method, Side, Step
from limbeck.methods.fitnet import FitNet
from limbeck.methods.kd import KD

__all__ = ["KD", "Calibration", "FitNet", "Method", "Side", "Step"]
