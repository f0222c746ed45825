"""Configurations for mmdetection, to be kept in a converted checkpoint and beside it.

They build the network that the weights are of, and run it as limbeck does. What mmdetection has no
words for stands in comments at their beginning.
"""

from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any

import numpy as np
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.libraries.detector_arguments import DetectorArguments, comments
from limbeck.checkpoints.libraries.stated import MetaArchitecture
from limbeck.checkpoints.libraries.trunks import MMDETECTION_BACKBONES

_TYPES = {"retinanet": "RetinaNet", "gfl": "GFL", "faster_rcnn": "FasterRCNN"}


def mmdetection_config(
    arch: MetaArchitecture,
    arguments: Mapping[str, Any],
    *,
    bgr: bool = False,
    classes: Sequence[str] = (),
) -> str:
    """A configuration of mmdetection 3, Python text, for ``init_detector`` and tests.

    Args:
        arch: The detector.
        arguments: The arguments of limbeck's constructor, :class:`limbeck.models.RetinaNet`,
            ``GFL`` or ``FasterRCNN``. Those that are missing or None have limbeck's defaults.
        bgr: Whether the checkpoint's first convolution takes BGR images.
        classes: The names of the foreground classes.

    Returns:
        The text of the configuration.

    Raises:
        ValueError: mmdetection has no such backbone, or no such anchors.
    """
    detector = DetectorArguments(arch, arguments)
    model = {
        "type": _TYPES[arch],
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            "mean": detector.colours("mean", IMAGENET_DEFAULT_MEAN, bgr=bgr),
            "std": detector.colours("std", IMAGENET_DEFAULT_STD, bgr=bgr),
            "bgr_to_rgb": not bgr,
            "pad_size_divisor": 32,
        },
        "backbone": _mm_backbone(detector),
        "neck": _mm_neck(detector),
        **(_mm_faster_rcnn(detector) if arch == "faster_rcnn" else _mm_one_stage(detector)),
    }
    scale = (detector.of("max_size", 1333), detector.of("min_size", 800))
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": scale, "keep_ratio": True},
        {"type": "PackDetInputs", "meta_keys": keys},
    ]
    config = {
        "default_scope": "mmdet",
        "model": model,
        "test_pipeline": pipeline,
        "test_dataloader": {"dataset": {"pipeline": pipeline}},
    }
    config |= {"metainfo": {"classes": tuple(classes)}} if classes else {}
    unsaid = ["losses and the data of a training: this is for tests"]
    unsaid += _mm_sizes_unsaid(detector, model)
    text = "".join(f"{k} = {pformat(v, width=96, sort_dicts=False)}\n" for k, v in config.items())
    return comments(detector, "mmdetection", unsaid) + text


def _mm_backbone(detector: DetectorArguments) -> dict[str, Any]:
    norm = {"type": "BN", "requires_grad": detector.of("norm", "frozen") != "frozen"}
    backbone = MMDETECTION_BACKBONES[detector.backbone]
    if backbone["type"] == "MobileNetV2":
        leaky = {"act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1}}
        plain = {**backbone, "norm_cfg": norm}
        return plain | leaky if detector.of("activation", None) else plain
    return {
        **backbone,
        "frozen_stages": detector.of("frozen_stages", 0) - 1,  # -1 is none, 0 the stem
        "norm_cfg": norm,
        "norm_eval": detector.of("norm", "frozen") in ("frozen", "affine"),
        "style": "caffe" if detector.of("stride_in_1x1", False) else "pytorch",
    }


def _mm_neck(detector: DetectorArguments) -> dict[str, Any]:
    first, last = detector.levels
    neck = {
        "type": "FPN",
        "in_channels": detector.channels,
        "out_channels": detector.of("fpn_channels", 256),
        "start_level": first - 2,
        "num_outs": last - first + 1,
    }
    if detector.arch != "faster_rcnn" and last > 5:
        neck["add_extra_convs"] = "on_output" if detector.from_p5 else "on_input"
        neck["relu_before_extra_convs"] = detector.relu_before_p7
    return neck


def _mm_anchors(detector: DetectorArguments) -> dict[str, Any]:
    """Sizes of a level are its stride, or another base, times scales that all levels share."""
    first, last = detector.levels
    sizes = detector.anchor_sizes
    strides = [2**level for level in range(first, last + 1)]
    generator = {
        "type": "AnchorGenerator",
        "ratios": detector.aspect_ratios,
        "strides": strides,
    }
    scales = _scales(sizes, strides)
    if scales is not None:
        return generator | {"scales": scales}
    bases = [of_level[0] for of_level in sizes]
    scales = _scales(sizes, bases)
    if scales is None:
        raise ValueError(
            f"anchor_sizes={sizes}: mmdetection has the same scales on all levels, and these are "
            f"none that differ by less than a pixel."
        )
    return generator | {"scales": scales, "base_sizes": bases}


def _scales(sizes: Sequence[Sequence[float]], bases: Sequence[float]) -> list[float] | None:
    """What all levels' sizes are of their bases, but for rounding to whole pixels."""
    scales = [size / bases[-1] for size in sizes[-1]]  # rounding matters least in the largest
    for of_level, base in zip(sizes, bases, strict=True):
        if len(of_level) != len(scales):
            return None
        if any(abs(base * s - size) >= 1 for s, size in zip(scales, of_level, strict=True)):
            return None
    return scales


def _mm_sizes_unsaid(detector: DetectorArguments, model: Mapping[str, Any]) -> list[str]:
    """The anchors' sizes, where mmdetection's are not quite those."""
    head = model["rpn_head" if detector.arch == "faster_rcnn" else "bbox_head"]
    generator = head["anchor_generator"]
    bases = generator.get("base_sizes", generator["strides"])
    sizes = detector.anchor_sizes
    made = [[base * scale for scale in generator["scales"]] for base in bases]
    same = all(np.allclose(a, b, rtol=1e-9, atol=0) for a, b in zip(made, sizes, strict=True))
    return [] if same else [f"anchor sizes: {sizes}"]


def _mm_one_stage(detector: DetectorArguments) -> dict[str, Any]:
    channels = detector.of("fpn_channels", 256)
    return {
        "bbox_head": {
            "type": "GFLHead" if detector.arch == "gfl" else "RetinaHead",
            "num_classes": detector.arguments["num_classes"],
            "in_channels": channels,
            "stacked_convs": detector.of("head_depth", 4),
            "feat_channels": channels,
            "anchor_generator": _mm_anchors(detector),
        },
        "test_cfg": {
            "nms_pre": detector.of("topk_candidates", 1000),
            "min_bbox_size": 0,
            **_mm_last_nms(detector),
        },
    }


def _mm_faster_rcnn(detector: DetectorArguments) -> dict[str, Any]:
    channels = detector.of("fpn_channels", 256)
    first, last = detector.levels
    layer = {"type": "RoIAlign", "output_size": 7}
    aligned = {"sampling_ratio": 0} if detector.aligned else {"sampling_ratio": 2, "aligned": False}
    return {
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": channels,
            "feat_channels": channels,
            "anchor_generator": _mm_anchors(detector),
        },
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": {
                "type": "SingleRoIExtractor",
                "roi_layer": layer | aligned,
                "out_channels": channels,
                "featmap_strides": [2**level for level in range(first, min(last, 5) + 1)],
                "finest_scale": 14 * 2**first,
            },
            "bbox_head": {
                "type": "Shared2FCBBoxHead",
                "in_channels": channels,
                "fc_out_channels": detector.of("box_head_channels", 1024),
                "roi_feat_size": 7,
                "num_classes": detector.arguments["num_classes"],
                "reg_class_agnostic": False,
            },
        },
        "test_cfg": {
            "rpn": {
                "nms_pre": 1000,
                "max_per_img": 1000,
                "nms": {"type": "nms", "iou_threshold": 0.7},
                "min_bbox_size": 0,
            },
            "rcnn": _mm_last_nms(detector),
        },
    }


def _mm_last_nms(detector: DetectorArguments) -> dict[str, Any]:
    usual = 0.6 if detector.arch == "gfl" else 0.5
    return {
        "score_thr": detector.of("score_threshold", 0.05),
        "nms": {"type": "nms", "iou_threshold": detector.of("nms_threshold", usual)},
        "max_per_img": detector.detections,
    }
