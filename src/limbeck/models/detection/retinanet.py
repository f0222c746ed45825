"""RetinaNet (Lin et al., arXiv 1708.02002): torchvision's, with its parts as arguments."""

from collections.abc import Sequence
from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from limbeck.models.anchors import anchor_generator, retinanet_sizes
from limbeck.models.build import Build
from limbeck.models.detection.backbones import Backbone, layout_of
from limbeck.models.detection.detector import Detector, pyramid
from limbeck.models.detection.plain import retinanet_code
from limbeck.models.norms import Norm
from limbeck.models.resnet import BasicBlocks

_EXTRA = "a RetinaNet's extra levels come as a pair (torchvision's LastLevelP6P7)"


class RetinaNet(Detector, detection.RetinaNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``RetinaNet`` over a light or heavy backbone; state dicts are interchangeable.

    In training mode it takes images as they come (geometry belongs to the data pipeline) and gives
    a dict of losses; in evaluation mode it resizes, and gives a dict of ``boxes`` (xyxy, pixels),
    ``scores`` and ``labels`` for each image. Images are a list of RGB floats in [0, 1], (3, H, W).

    Args:
        backbone: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``mobilenet_v2``, or the
            shape of a network of basic blocks.
        num_classes: foreground classes; labels count from 1. As in stock torchvision the head has
            one column more, and column 0 is never used.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh.
        levels: first and last level of the pyramid; level k has a stride of 2**k pixels. It ends
            at the trunk's last level or below, or two above (P6 and P7).
        fpn_channels: of the pyramid and the head.
        head_depth: convolutions in each of the two towers.
        anchor_sizes: of each level, pixels; none: three an octave, from 4 times the stride.
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
        topk_candidates: detections of each level that enter NMS, at most.

    Raises:
        ValueError: An argument does not suit the backbone; it is named.
    """

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (3, 7),
        fpn_channels: int = 256,
        head_depth: int = 4,
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
        detections_per_image: int = 300,
        topk_candidates: int = 1000,
    ) -> None:
        build = Build.of("limbeck.models.RetinaNet", locals())
        layout = layout_of(backbone)
        pyramid_levels = pyramid(layout, levels, 2, _EXTRA)
        extra = LastLevelP6P7(fpn_channels, fpn_channels) if levels[1] > layout.top else None
        anchors = anchor_generator(
            pyramid_levels, anchor_sizes or retinanet_sizes(pyramid_levels), aspect_ratios
        )
        per_cell = anchors.num_anchors_per_location()[0]
        fpn = Backbone(
            backbone, levels, fpn_channels, extra, norm=norm, frozen_stages=frozen_stages
        )
        super().__init__(
            fpn,
            num_classes + 1,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(mean),
            image_std=list(std),
            anchor_generator=anchors,
            head=_head(fpn_channels, per_cell, num_classes + 1, head_depth),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections_per_image,
            topk_candidates=topk_candidates,
            _skip_resize=True,
        )
        self.complete("retinanet", build, pyramid_levels, weights)

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return retinanet_code(self)


def _head(channels: int, anchors: int, columns: int, depth: int) -> RetinaNetHead:
    """Torchvision's head with ``depth`` convolutions a tower, where it has four."""
    if depth < 1:
        raise ValueError(f"head_depth={depth}: expected 1 or more convolutions a tower.")
    head = RetinaNetHead(channels, anchors, columns)
    for branch in (head.classification_head, head.regression_head):
        branch.conv = nn.Sequential(
            *(Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(depth))
        )
        for module in branch.conv.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
    return head
