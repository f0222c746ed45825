"""A package of a user's own: one of everything that limbeck lets its users bring along.

Nothing in it is known to limbeck. A recipe names each class by its path (``recipe.yaml``, beside
this file), and Python passes each object as an argument. All that is needed is that the package can
be imported: that it is installed, or that its folder is in ``PYTHONPATH``.
"""

from own_package.augmentation import GreyImages
from own_package.dataset import Stripes
from own_package.learning_rate import Polynomial
from own_package.method import SpatialAttention
from own_package.metric import BrierScore
from own_package.model import StripeNet

__all__ = ["BrierScore", "GreyImages", "Polynomial", "SpatialAttention", "StripeNet", "Stripes"]
