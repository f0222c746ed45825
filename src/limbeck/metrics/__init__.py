"""What teacher, plain student and distilled student are measured by.

Every metric has ``update(predictions, targets)``, ``compute()``, which gives a dict of scalars,
and ``headline``, the name of the main one.
"""

from limbeck.metrics.classification import TopKAccuracy
from limbeck.metrics.coco import COCOAveragePrecision
from limbeck.metrics.kitti import KITTIAveragePrecision
from limbeck.metrics.voc import VOCAveragePrecision
from limbeck.metrics.widerface import WIDERFaceAveragePrecision

__all__ = [
    "COCOAveragePrecision",
    "KITTIAveragePrecision",
    "TopKAccuracy",
    "VOCAveragePrecision",
    "WIDERFaceAveragePrecision",
]
