"""Faster R-CNN with FPN (Ren et al., arXiv 1506.01497; Lin et al., arXiv 1612.03144).

torchvision's, with its parts as arguments.
"""

from collections.abc import Sequence
from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from limbeck.models.anchors import anchor_generator, rpn_sizes
from limbeck.models.build import Build
from limbeck.models.detection.backbones import Backbone, layout_of
from limbeck.models.detection.detector import Detector, pyramid
from limbeck.models.detection.plain import faster_rcnn_code
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks

ROI_SIZE = 7
_EXTRA = "a Faster R-CNN has one extra level (torchvision's LastLevelMaxPool)"


class FasterRCNN(Detector, detection.FasterRCNN):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``FasterRCNN`` over a light or heavy backbone; state dicts interchange.

    In training mode it takes images as they come (geometry belongs to the data pipeline) and gives
    a dict of losses; in evaluation mode it resizes, and gives a dict of ``boxes`` (xyxy, pixels),
    ``scores`` and ``labels`` for each image. Images are a list of RGB floats in [0, 1], (3, H, W).

    Args:
        backbone: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2``, or the
            shape of a network of basic blocks.
        num_classes: foreground classes; labels count from 1, and 0 is the background.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh.
        levels: first and last level of the pyramid; level k has a stride of 2**k pixels. It ends
            at the trunk's last level or below, or one above (P6, which only the RPN sees).
        fpn_channels: of the pyramid.
        box_head_channels: of the two fully connected layers on every region.
        anchor_sizes: of each level, pixels; none: 8 times the stride.
        aspect_ratios: height / width of the anchors.
        frozen_stages: stages of the trunk that are not trained: 1 is the stem, 2 the stem and C2.
        norm: of the trunk's batch normalisations, see :func:`limbeck.models.norms.convert_norms`.
            A trunk that is trained from scratch needs ``trained``.
        min_size: shorter side of images in evaluation mode, pixels.
        max_size: bound of the longer side in evaluation mode, pixels.
        mean: of the input channels, RGB in [0, 1].
        std: likewise.
        score_threshold: detections below it are dropped.
        nms_threshold: IoU above which the lower of two detections of a class is dropped.
        detections_per_image: at most.

    Raises:
        ValueError: An argument does not suit the backbone; it is named.
    """

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (2, 6),
        fpn_channels: int = 256,
        box_head_channels: int = 1024,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        min_size: int = 800,
        max_size: int = 1333,
        mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN,
        std: tuple[float, float, float] = IMAGENET_DEFAULT_STD,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        build = Build.of("limbeck.models.FasterRCNN", locals())
        layout = layout_of(backbone)
        pyramid_levels = pyramid(layout, levels, 1, _EXTRA)
        extra = LastLevelMaxPool() if levels[1] > layout.top else None
        sizes = anchor_sizes or rpn_sizes(pyramid_levels)
        fpn = Backbone(
            backbone, levels, fpn_channels, extra, norm=norm, frozen_stages=frozen_stages
        )
        super().__init__(
            fpn,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(mean),
            image_std=list(std),
            rpn_anchor_generator=anchor_generator(pyramid_levels, sizes, aspect_ratios),
            box_roi_pool=_roi_pool(levels[0], min(levels[1], layout.top)),
            box_head=TwoMLPHead(fpn_channels * ROI_SIZE**2, box_head_channels),
            box_predictor=FastRCNNPredictor(box_head_channels, num_classes + 1),
            box_score_thresh=score_threshold,
            box_nms_thresh=nms_threshold,
            box_detections_per_img=detections_per_image,
            _skip_resize=True,
        )
        self.complete("fasterrcnn", build, pyramid_levels, weights)

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return faster_rcnn_code(self)


def _roi_pool(first: int, last: int) -> MultiScaleRoIAlign:
    """Torchvision's pooler over the levels ``first`` to ``last``, whose scales are said."""
    names = [str(index) for index in range(last - first + 1)]
    pool = MultiScaleRoIAlign(names, output_size=ROI_SIZE, sampling_ratio=2)
    # It would guess its scales from the first batch and keep them: wrong for good if that is small.
    pool.scales = [2.0**-level for level in range(first, last + 1)]
    pool.map_levels = initLevelMapper(first, last)
    return pool
