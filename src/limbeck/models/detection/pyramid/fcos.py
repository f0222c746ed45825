"""FCOS (Tian et al., arXiv 1904.01355): torchvision's, with its parts as arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models import detection
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import sigmoid_focal_loss

from limbeck.models.detection.detector import Detector, Maps, pyramid
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.parts.backbones import P6P7, Activation, Backbone, layout_of
from limbeck.models.detection.parts.heads import FCOSHead
from limbeck.models.detection.parts.locations import centreness, match_locations
from limbeck.models.detection.parts.overlaps import giou
from limbeck.models.detection.parts.selection import indices_of_rows
from limbeck.models.detection.parts.timm_trunks import input_of
from limbeck.models.detection.parts.transform import Targets
from limbeck.models.detection.pyramid.plain import fcos_code
from limbeck.models.detection.settling import settle
from limbeck.models.norms import LastNorm, Norm
from limbeck.models.resnet import BasicBlocks
from limbeck.presets import OF_EVERY_DETECTOR

_EXTRA = "an FCOS's extra levels come as a pair (torchvision's LastLevelP6P7)"


class FCOS(Detector, detection.FCOS):  # type: ignore[misc]  # torchvision is untyped
    """FCOS on a feature pyramid (Tian et al., arXiv 1904.01355 and 2006.09214).

    Every cell of a map predicts the distances from its location to the four sides of a box, and how
    central it is there; there are no anchors of several shapes. It is torchvision's ``FCOS`` over a
    light or a heavy backbone, and state dicts can be exchanged between the two. It takes images and
    gives losses or detections as all of limbeck's detectors do, see
    :class:`limbeck.models.detection.detector.Detector`. Its losses are ``classification``, the
    focal loss, ``bbox_regression``, of the generalised IoU, and ``bbox_ctrness``.

    It has torchvision's numerics, which are those of the second paper: the distances are in
    strides, the centre-ness is predicted in the tower of the boxes, locations near a box's centre
    alone are positive, and a score is the geometric mean of the class's and the centre-ness's.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        backbone: The trunk and the feature pyramid over it.
        head: What predicts the classes, the boxes and the centre-ness of all locations.
        anchor_generator: What makes the locations, as squares of the size of a cell.
        box_coder: What encodes boxes as distances.
        center_sampling_radius: How near to a box's centre its positives are, in strides.

    Args:
        backbone: The trunk: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``,
            ``mobilenet_v2``; a network of timm's, ``timm:NAME``; or the shape of a network of
            basic blocks, :class:`limbeck.models.BasicBlocks`.
        num_classes: The number of foreground classes. Their labels count from 1. The head has one
            column more than there are classes, the first one, which is never used.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them.
            Default (None): the detector is initialised afresh.
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels.
            The pyramid ends at the trunk's last level or below it, or two above it (P6 and P7).
        fpn_channels: The number of channels of the pyramid and of the head, a multiple of 32.
        head_depth: The number of convolutions in each of the head's two towers.
        frozen_stages: The number of stages of the trunk that are not trained: 1 is the stem, 2 is
            the stem and C2.
        norm: What the batch normalisations of the trunk do, see
            :func:`limbeck.models.norms.convert_norms`. A trunk that is trained from scratch needs
            ``trained``.
        last_norm: What replaces the normalisations in the last block of each trained stage:
            ``group`` or ``synchronised``, with which a student of MGD learns the teacher's
            features. Default (None): nothing does.
        stride_in_1x1: The bottlenecks have their stride in the first 1x1 convolution. Default
            (None): as the weights say, otherwise not.
        activation: The activation of MobileNetV2: ``leaky_relu``, as in HEAD. Default (None): as
            the weights say, otherwise its own ReLU6.
        min_size: The shorter side of images in evaluation mode, in pixels.
        max_size: The bound of the longer side of images in evaluation mode, in pixels.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise as timm says of its network, and ImageNet's for others.
        score_threshold: The score that a detection has to exceed.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
        detections_per_image: The greatest number of detections in an image.
        topk_candidates: The greatest number of detections of each level that enter NMS.

    Raises:
        ValueError: An argument, which is named, does not suit the backbone or the weights.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> shape = models.BasicBlocks(depths=(1, 1, 1, 1), widths=(16, 16, 32, 32))
        >>> detector = models.FCOS(shape, num_classes=3, fpn_channels=32, head_depth=1, min_size=64)
        >>> images = [torch.rand(3, 64, 96)]
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> list(detector(images, [target]))
        ['classification', 'bbox_regression', 'bbox_ctrness']
        >>> list(detector.eval()(images)[0])
        ['boxes', 'scores', 'labels']
    """

    numerics: ClassVar[Mapping[str, Any]] = {
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "stride_in_1x1": False,
        "activation": None,
    }
    backbone: Backbone
    head: nn.Module
    anchor_generator: nn.Module
    box_coder: BoxLinearCoder
    center_sampling_radius: float

    def __init__(
        self,
        backbone: str | BasicBlocks,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        levels: tuple[int, int] = (3, 7),
        fpn_channels: int = 256,
        head_depth: int = 4,
        frozen_stages: int = 0,
        norm: Norm = "frozen",
        last_norm: LastNorm | None = None,
        stride_in_1x1: bool | None = None,
        activation: Activation | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.2,
        nms_threshold: float = 0.6,
        detections_per_image: int = 100,
        topk_candidates: int = 1000,
    ) -> None:
        opened, settled = settle(FCOS, locals(), input_of(backbone, weights))
        layout = layout_of(backbone)
        every_level = pyramid(layout, levels, 2, _EXTRA)
        extra = P6P7(fpn_channels, fpn_channels, from_p5=True, relu=True)
        fpn = Backbone(
            backbone,
            levels,
            fpn_channels,
            extra if levels[1] > layout.top else None,
            norm=norm,
            frozen_stages=frozen_stages,
            last_norm=last_norm,
            stride_in_1x1=settled["stride_in_1x1"],
            activation=settled["activation"],
        )
        super().__init__(
            fpn,
            num_classes + 1,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(settled["mean"]),
            image_std=list(settled["std"]),
            anchor_generator=anchor_generator(every_level, [(2**k,) for k in every_level], (1.0,)),
            head=FCOSHead(fpn_channels, num_classes + 1, head_depth),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections_per_image,
            topk_candidates=topk_candidates,
            _skip_resize=True,
        )
        self.preset = OF_EVERY_DETECTOR["torchvision"]
        self.complete(settled, every_level, opened, "fcos_{}_fpn")

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of all locations of a batch, from its maps on."""
        levels = list(maps.values())
        anchors: Tensor = self.anchor_generator(batch, levels)[0]  # every image has the same
        by_level = torch.split(anchors, [m.shape[-2] * m.shape[-1] for m in levels])
        boxes = [target["boxes"] for target in targets]
        matched = match_locations(by_level, boxes, self.center_sampling_radius)
        return self._losses(targets, self.head(levels), anchors, matched)

    def _losses(
        self, targets: Targets, outputs: dict[str, Tensor], anchors: Tensor, matched: Tensor
    ) -> dict[str, Tensor]:
        """The losses that torchvision computes, of N anchors that were matched, (B, N)."""
        (positive,) = indices_of_rows((matched >= 0).flatten()[None])
        own = anchors[positive % len(anchors)]
        where = positive // len(anchors), matched.flatten()[positive]  # image and object
        truth, label = (
            pad_sequence([target[name] for target in targets], batch_first=True)[where]
            for name in ("boxes", "labels")
        )
        logits, distances = (
            outputs[name].flatten(0, 1) for name in ("cls_logits", "bbox_regression")
        )
        wanted = torch.zeros_like(logits)
        wanted.index_put_((positive, label), torch.ones_like(label, dtype=wanted.dtype))
        found = self.box_coder.decode(distances[positive], own)
        central = centreness(self.box_coder.encode(own, truth))
        ours = outputs["bbox_ctrness"].flatten()[positive]
        losses = {
            "classification": sigmoid_focal_loss(logits, wanted, reduction="sum"),
            "bbox_regression": (1 - giou(found, truth)).sum(),
            "bbox_ctrness": F.binary_cross_entropy_with_logits(ours, central, reduction="sum"),
        }
        return {name: loss / max(1, len(positive)) for name, loss in losses.items()}

    def without_limbeck(self) -> str | None:
        """Python that builds and loads this detector with torchvision alone."""
        return fcos_code(self)
