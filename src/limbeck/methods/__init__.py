"""Published methods, one file or folder each.

Every method exported here joins the tests that all of them must pass.
"""

from limbeck.methods.at import AT
from limbeck.methods.base import Calibration, Method, Side, Step
from limbeck.methods.crosskd import CrossKD
from limbeck.methods.cwd import CWD
from limbeck.methods.dist import DIST
from limbeck.methods.dkd import DKD, DetectorDKD
from limbeck.methods.feature_cosine import FeatureCosine
from limbeck.methods.fgd import FGD
from limbeck.methods.fgfi import FineGrainedImitation
from limbeck.methods.fitnet import FitNet
from limbeck.methods.head import HEAD, TFHEAD
from limbeck.methods.kd import KD
from limbeck.methods.ld import LD
from limbeck.methods.masked_generative import MaskedGenerative
from limbeck.methods.mgd import MGD
from limbeck.methods.pkd import PKD
from limbeck.methods.query_kd import QueryKD
from limbeck.methods.reviewkd import ReviewKD

__all__ = [
    "AT",
    "CWD",
    "DIST",
    "DKD",
    "FGD",
    "HEAD",
    "KD",
    "LD",
    "MGD",
    "PKD",
    "TFHEAD",
    "Calibration",
    "CrossKD",
    "DetectorDKD",
    "FeatureCosine",
    "FineGrainedImitation",
    "FitNet",
    "MaskedGenerative",
    "Method",
    "QueryKD",
    "ReviewKD",
    "Side",
    "Step",
]
