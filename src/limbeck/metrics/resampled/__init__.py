"""A metric's headline on resampled images: each image counts as often as its weight says.

Images are matched once; a draw of the images only weighs their boxes. That takes a file of its own
for each metric. Any other metric sees each image as often as its weight says, which is slow.
"""

from copy import deepcopy

from torchmetrics import Metric

from limbeck.metrics.classification import TopKAccuracy
from limbeck.metrics.coco import COCOAveragePrecision
from limbeck.metrics.kitti import KITTIAveragePrecision
from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled
from limbeck.metrics.resampled.classification import ResampledTop1
from limbeck.metrics.resampled.coco import ResampledCOCO
from limbeck.metrics.resampled.kitti import ResampledKITTI
from limbeck.metrics.resampled.repeated import Repeated
from limbeck.metrics.resampled.voc import ResampledVOC
from limbeck.metrics.resampled.widerface import ResampledWIDERFace
from limbeck.metrics.voc import VOCAveragePrecision
from limbeck.metrics.widerface import WIDERFaceAveragePrecision

__all__ = ["Resampled", "resampled"]


def resampled(metric: Metric, predictions: Predictions) -> Resampled:
    """Prepare a metric for draws of the images.

    Args:
        metric: A metric of the task. It is left as it is; what it has seen does not count.
        predictions: What a model predicts on each image.

    Returns:
        The headline of the metric in any draw of these images; where each image counts once, it is
        what ``compute`` gives of them.
    """
    empty = deepcopy(metric)
    empty.reset()
    # A subclass may compute something else.
    if type(empty) is TopKAccuracy:
        return ResampledTop1(predictions)
    if type(empty) is COCOAveragePrecision:
        return ResampledCOCO.of(empty, predictions)
    if type(empty) is VOCAveragePrecision:
        return ResampledVOC.of(empty, predictions)
    if type(empty) is KITTIAveragePrecision:
        return ResampledKITTI.of(empty, predictions)
    if type(empty) is WIDERFaceAveragePrecision:
        return ResampledWIDERFace.of(empty, predictions)
    return Repeated(empty, predictions)
