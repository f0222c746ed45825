"""Detectron2's configuration, YAML: what one says of a checkpoint, and the one for a converted one.

A configuration that is written builds the network that the weights are of, and runs it as limbeck
does. What Detectron2 has no words for stands in comments at its beginning.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.libraries.detector_arguments import DetectorArguments, comments
from limbeck.checkpoints.libraries.nested import at, colours, rows
from limbeck.checkpoints.libraries.stated import (
    NO_BOTTLENECKS,
    MetaArchitecture,
    Stated,
    roi_aligned,
)
from limbeck.checkpoints.libraries.trunks import DETECTRON2_BACKBONES
from limbeck.texts import SAFE_LOADER, load_yaml

# Where each detector has its head and its levels.
_DETECTRON2: dict[str, tuple[MetaArchitecture | None, str, str]] = {
    "RetinaNet": ("retinanet", "MODEL.RETINANET", "MODEL.RETINANET"),
    "GeneralizedRCNN": ("faster_rcnn", "MODEL.ROI_HEADS", "MODEL.RPN"),
}
_D2_NORMS = {"frozen": "FrozenBN", "affine": "FrozenBN", "trained": "BN", "synchronised": "SyncBN"}


def stated_by_detectron2(text: str, origin: str = "config.yaml") -> Stated:
    """What a configuration of Detectron2's says.

    Args:
        text: The text of the configuration, YAML.
        origin: The file that it is from, for messages.

    Returns:
        What it says; nothing if it is another program's.

    Raises:
        ValueError: It is no YAML, or says what limbeck's detectors cannot be.
    """
    try:
        # The loader is PyYAML's safe one; it gives None for every tag that is not plain.
        config = load_yaml(text, origin, _PlainLoader)
    except ValueError as error:
        if "META_ARCHITECTURE" not in text:
            return Stated()
        raise ValueError(f"{error} Or move it away.") from None
    if not isinstance(at(config, "MODEL"), Mapping):
        return Stated()
    name = str(at(config, "MODEL.META_ARCHITECTURE"))
    arch, head, levels = _DETECTRON2.get(name, (None, "", ""))
    order = at(config, "INPUT.FORMAT")
    bgr = None if order is None else order == "BGR"
    no_bottlenecks = at(config, "MODEL.RESNETS.DEPTH") in NO_BOTTLENECKS
    own_p6 = at(config, "MODEL.BACKBONE.NAME") == "build_retinanet_resnet_fpn_backbone"
    return Stated(
        meta_arch=arch,
        stride_in_1x1=None if no_bottlenecks else at(config, "MODEL.RESNETS.STRIDE_IN_1X1", bool),
        bgr=bgr,
        mean=colours(config, "MODEL.PIXEL_MEAN", bgr),
        std=colours(config, "MODEL.PIXEL_STD", bgr),
        num_classes=at(config, f"{head}.NUM_CLASSES", int),
        anchor_sizes=_sizes_of_levels(config, f"{levels}.IN_FEATURES"),
        aspect_ratios=_ratios(config),
        p6_from="C5" if own_p6 else None,
        relu_before_p7=True if own_p6 else None,
        min_size=at(config, "INPUT.MIN_SIZE_TEST", int) or None,  # 0 is as it comes
        max_size=at(config, "INPUT.MAX_SIZE_TEST", int),
        score_threshold=at(config, f"{head}.SCORE_THRESH_TEST", float),
        nms_threshold=at(config, f"{head}.NMS_THRESH_TEST", float),
        detections_per_image=at(config, "TEST.DETECTIONS_PER_IMAGE", int),
        frozen_stages=at(config, "MODEL.BACKBONE.FREEZE_AT", int),
        roi_aligned=_d2_roi_aligned(config) if arch == "faster_rcnn" else None,
    )


def _d2_roi_aligned(config: Any) -> bool | None:
    kind = at(config, "MODEL.ROI_BOX_HEAD.POOLER_TYPE")
    samples = at(config, "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO")
    return None if kind is None else roi_aligned(kind == "ROIAlignV2", samples or 0, kind)


class _PlainLoader(SAFE_LOADER):  # type: ignore[misc]  # PyYAML's, of C where it was built
    """Plain values and tuples; anything else that Python could make of YAML is None."""


def _sequence(loader: Any, node: Any) -> Any:
    return loader.construct_sequence(node, deep=True)


_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)
_PlainLoader.add_multi_constructor("", lambda *_: None)


def _sizes_of_levels(config: Any, features: str) -> tuple[tuple[float, ...], ...] | None:
    key = "MODEL.ANCHOR_GENERATOR.SIZES"
    found = rows(config, key)
    levels = at(config, features)
    if found is None or len(found) > 1:
        return found
    return found * len(levels) if isinstance(levels, list) else None  # one for all levels


def _ratios(config: Any) -> tuple[float, ...] | None:
    key = "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"
    found = rows(config, key)
    if found and len(set(found)) > 1:
        raise ValueError(
            f"{key} is {found}: limbeck's detectors have the same ratios on all levels."
        )
    return found[0] if found else None


def detectron2_config(
    arch: MetaArchitecture,
    arguments: Mapping[str, Any],
    *,
    bgr: bool = False,
    classes: Sequence[str] = (),
) -> str:
    """``config.yaml`` for Detectron2's ``cfg.merge_from_file``.

    Args:
        arch: The detector.
        arguments: The arguments of limbeck's constructor, :class:`limbeck.models.RetinaNet` or
            ``FasterRCNN``. Those that are missing or None have limbeck's defaults.
        bgr: Whether the checkpoint's first convolution takes BGR images.
        classes: The names of the foreground classes. Detectron2 has no place for them: they stand
            in a comment.

    Returns:
        The text of the configuration.

    Raises:
        ValueError: Detectron2 has no such backbone.
    """
    detector = DetectorArguments(arch, arguments)
    if detector.backbone not in DETECTRON2_BACKBONES:
        raise ValueError(f"backbone={detector.backbone!r}: Detectron2 has residual networks alone.")
    config = {
        "VERSION": 2,
        "MODEL": _model(detector, bgr),
        "INPUT": {
            "FORMAT": "BGR" if bgr else "RGB",
            "MIN_SIZE_TEST": detector.of("min_size", 800),
            "MAX_SIZE_TEST": detector.of("max_size", 1333),
        },
        "TEST": {"DETECTIONS_PER_IMAGE": detector.detections},
    }
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None)
    return comments(detector, "detectron2", _unsaid(detector, classes)) + text


def _model(detector: DetectorArguments, bgr: bool) -> dict[str, Any]:
    """The part of the configuration that builds the network."""
    retinanet, (first, _) = detector.arch == "retinanet", detector.levels
    body = [f"res{level}" for level in range(first, 6)]
    return {
        "META_ARCHITECTURE": "RetinaNet" if retinanet else "GeneralizedRCNN",
        "PIXEL_MEAN": detector.colours("mean", IMAGENET_DEFAULT_MEAN, bgr=bgr),
        "PIXEL_STD": detector.colours("std", IMAGENET_DEFAULT_STD, bgr=bgr),
        "BACKBONE": {
            "NAME": f"build_{'retinanet_' if retinanet else ''}resnet_fpn_backbone",
            "FREEZE_AT": detector.of("frozen_stages", 0),
        },
        "RESNETS": {
            **DETECTRON2_BACKBONES[detector.backbone],
            "NORM": _D2_NORMS[detector.of("norm", "frozen")],
            "STRIDE_IN_1X1": detector.of("stride_in_1x1", False),
            "RES2_OUT_CHANNELS": detector.channels[0],
            "OUT_FEATURES": body,
        },
        "FPN": {"IN_FEATURES": [*body], "OUT_CHANNELS": detector.of("fpn_channels", 256)},
        "ANCHOR_GENERATOR": {
            "SIZES": detector.anchor_sizes,
            "ASPECT_RATIOS": [detector.aspect_ratios],
        },
        **(_d2_retinanet(detector) if retinanet else _d2_faster_rcnn(detector)),
    }


def _unsaid(detector: DetectorArguments, classes: Sequence[str]) -> list[str]:
    """What Detectron2's configuration has no place for, as comments."""
    retinanet, (_, last) = detector.arch == "retinanet", detector.levels
    unsaid = [f"classes: {', '.join(map(_listed, classes))}"] if classes else []
    if retinanet and last < 7:
        unsaid.append(f"the pyramid ends at P{last}; Detectron2 adds P6 and P7, unused")
    elif retinanet and detector.from_p5:
        unsaid.append('P6 is computed from P5: LastLevelP6P7(..., in_feature="p5")')
    if retinanet and not detector.relu_before_p7:
        unsaid.append("there is no ReLU between P6 and P7")
    return unsaid


def _listed(name: str) -> str:
    """The name of a class in a list with commas, in quotation marks where it has a comma itself."""
    return json.dumps(name, ensure_ascii=False) if {",", '"'} & {*name} else name


def _d2_retinanet(detector: DetectorArguments) -> dict[str, Any]:
    first, last = detector.levels
    return {
        "RETINANET": {
            "NUM_CLASSES": detector.arguments["num_classes"],
            "IN_FEATURES": [f"p{level}" for level in range(first, last + 1)],
            "NUM_CONVS": detector.of("head_depth", 4),
            "SCORE_THRESH_TEST": detector.of("score_threshold", 0.05),
            "NMS_THRESH_TEST": detector.of("nms_threshold", 0.5),
            "TOPK_CANDIDATES_TEST": detector.of("topk_candidates", 1000),
        }
    }


def _d2_faster_rcnn(detector: DetectorArguments) -> dict[str, Any]:
    first, last = detector.levels
    return {
        "RPN": {
            "IN_FEATURES": [f"p{level}" for level in range(first, last + 1)],
            "PRE_NMS_TOPK_TRAIN": 2000,
            "PRE_NMS_TOPK_TEST": 1000,
            "POST_NMS_TOPK_TRAIN": 1000 if detector.aligned else 2000,
            "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": {
            "NAME": "StandardROIHeads",
            "NUM_CLASSES": detector.arguments["num_classes"],
            "IN_FEATURES": [f"p{level}" for level in range(first, min(last, 5) + 1)],
            "SCORE_THRESH_TEST": detector.of("score_threshold", 0.05),
            "NMS_THRESH_TEST": detector.of("nms_threshold", 0.5),
        },
        "ROI_BOX_HEAD": {
            "NAME": "FastRCNNConvFCHead",
            "NUM_FC": 2,
            "FC_DIM": detector.of("box_head_channels", 1024),
            "POOLER_RESOLUTION": 7,
            "POOLER_TYPE": "ROIAlignV2" if detector.aligned else "ROIAlign",
            "POOLER_SAMPLING_RATIO": 0 if detector.aligned else 2,
        },
    }
