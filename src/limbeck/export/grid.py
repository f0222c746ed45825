"""What is exported of the detectors of one map: ShuffleDet and YOLOv2."""

from typing import Any

from torch import Tensor

from limbeck.export.graph import Decoded, DetectorGraph
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from limbeck.models import ShuffleDet, YOLOv2


class GridGraph(DetectorGraph):
    """A detector on one map, whose size is that of the anchors and cannot be another one.

    Args:
        model: The detector.
        framing: How images come into the frame.
    """

    def __init__(self, model: ShuffleDet | YOLOv2, framing: Framing) -> None:
        super().__init__()
        self.outputs_of_all = model.dense()
        self.framing = framing
        self.suppression = _suppression(model)

    def decoded(self, images: Tensor) -> Decoded:
        """The boxes and scores of all anchors."""
        return Decoded(*self.outputs_of_all(images))

    def halve(self) -> None:
        """Let the network compute in float16."""
        detector: Any = self.outputs_of_all.detector
        detector.backbone.half()
        detector.head.half()


def _suppression(model: ShuffleDet | YOLOv2) -> Suppression:
    """What the detector's own evaluation does behind its head."""
    labels = tuple(range(1, model.num_classes + 1))
    if isinstance(model, YOLOv2):
        return Suppression(
            labels,
            model.score_threshold,
            model.nms_threshold,
            model.detections_per_image,
            topk=model.topk_candidates,
            clip_first=False,
        )
    return Suppression(
        labels,
        -0.5,  # whatever the score
        model.nms_threshold,
        model.topk_candidates,
        best_class=True,
        topk=model.topk_candidates,
        clip_first=False,
        detections_per_class=model.detections_per_class,
    )
