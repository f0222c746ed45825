"""The metrics by which teacher, plain student and distilled student are measured.

Each is a ``torchmetrics.Metric`` of the class names: ``update(predictions, targets)`` takes in a
batch, and ``compute()`` gives a dictionary of scores, each a scalar. The class attribute
``headline`` names the score by which a run is judged, and ``task`` the task that the metric is for.

A metric of a user's own is stated as ``model.metric`` in the same form. It may give one scalar
instead, which is named after its class, and ``higher_is_better = False`` makes less the better.
"""

from limbeck.metrics.classification import TopKAccuracy
from limbeck.metrics.coco import COCOAveragePrecision
from limbeck.metrics.detections import DetectionMetric
from limbeck.metrics.kitti import KITTIAveragePrecision
from limbeck.metrics.voc import VOCAveragePrecision
from limbeck.metrics.widerface import WIDERFaceAveragePrecision

__all__ = [
    "COCOAveragePrecision",
    "DetectionMetric",
    "KITTIAveragePrecision",
    "TopKAccuracy",
    "VOCAveragePrecision",
    "WIDERFaceAveragePrecision",
]
