"""What mmdetection's configuration, Python text in the checkpoint, says; it is never run."""

import ast
import reprlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from limbeck.checkpoints.libraries.nested import Triple, at, colours, numbers
from limbeck.checkpoints.libraries.stated import (
    NO_BOTTLENECKS,
    MetaArchitecture,
    Stated,
    roi_aligned,
)

# Python's parser takes 200 times the size of a text, and configurations have some 20 kB.
_LONGEST_TEXT = 2**20
_MOST_SCALES = 100  # of anchors in an octave; three are usual
_MOST_STEPS = 1000  # of a pipeline: names that stand for lists of names can make any number
_MMDETECTION: dict[str, MetaArchitecture] = {
    "RetinaNet": "retinanet",
    "GFL": "gfl",
    "KnowledgeDistillationSingleStageDetector": "gfl",  # LD's students
    "FasterRCNN": "faster_rcnn",
}


def stated_by_meta(meta: Mapping[str, Any]) -> Stated:
    """What a checkpoint of mmdetection's says, of version 2 or 3.

    Args:
        meta: The value that its files have under ``meta``.

    Returns:
        What it says.

    Raises:
        ValueError: It is of version 1, whose classes count the background first; it is no Python,
            or says what limbeck's detectors cannot be.
    """
    version = str(meta.get("mmdet_version", ""))[:40]
    if version.startswith(("0.", "1.")):
        raise ValueError(
            f"mmdet_version is {version}, whose classes count the background first. Convert the "
            "file with mmdetection's tools/model_converters/upgrade_model_version.py first."
        )
    text = meta.get("cfg", meta.get("config"))
    classes = at(meta, "dataset_meta.classes") or at(meta, "dataset_meta.CLASSES")
    names = classes or meta.get("CLASSES")
    is_names = isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)
    return stated_by_mmdetection(
        text if isinstance(text, str) else "", tuple(names or ()) if is_names else None
    )


def stated_by_mmdetection(text: str, classes: tuple[str, ...] | None = None) -> Stated:
    """What a configuration of mmdetection's says.

    Args:
        text: The text that its checkpoints hold, Python. It is not run.
        classes: The names of the classes, which stand beside it. None: they do not.

    Returns:
        What it says.

    Raises:
        ValueError: It is no Python, or says what limbeck's detectors cannot be.
    """
    config = _assignments(text)
    kind = str(at(config, "model.type")).rpartition(".")[2]
    arch = _MMDETECTION.get(kind)
    two_stage = arch == "faster_rcnn"
    head = "model.roi_head.bbox_head" if two_stage else "model.bbox_head"
    generator = "model.rpn_head" if two_stage else "model.bbox_head"
    # Early 2.x had the settings of tests beside the model.
    test = "model.test_cfg" if at(config, "model.test_cfg") else "test_cfg"
    test += ".rcnn" if two_stage else ""
    told = _anchors_and_levels(config, arch, f"{generator}.anchor_generator")
    bgr, mean, std = _input(config)
    sides = _sides(config)
    frozen = at(config, "model.backbone.frozen_stages", int)
    return Stated(
        meta_arch=arch,
        stride_in_1x1=_caffe(config),
        bgr=bgr,
        mean=mean,
        std=std,
        num_classes=at(config, f"{head}.num_classes", int),
        classes=classes,
        min_size=min(sides) if sides else None,
        max_size=max(sides) if sides else None,
        score_threshold=at(config, f"{test}.score_thr", float),
        nms_threshold=at(config, f"{test}.nms.iou_threshold", float)
        or at(config, f"{test}.nms.iou_thr", float),
        detections_per_image=at(config, f"{test}.max_per_img", int),
        frozen_stages=None if frozen is None else frozen + 1,
        activation=_activation(config),
        roi_aligned=_mm_roi_aligned(config) if two_stage else None,
        **told,
    )


def _anchors_and_levels(config: Any, arch: MetaArchitecture | None, place: str) -> dict[str, Any]:
    """What is said of anchors and extra levels, as far as the detector has arguments for it."""
    if arch is None:
        return {}
    anchors = {
        "anchor_sizes": _sizes(config, place),
        "aspect_ratios": numbers(config, f"{place}.ratios"),
    }
    if arch == "faster_rcnn":
        return anchors
    p6_from, relu = _p6_from(config), _relu_before_p7(config)
    if arch == "gfl":
        _refuse_other_levels(p6_from, relu)
        return {}
    return anchors | {"p6_from": p6_from, "relu_before_p7": relu}


def _assignments(text: str) -> dict[str, Any]:
    """The values that Python text assigns to names, as far as they are literals."""
    values: dict[str, Any] = {}
    if len(text) > _LONGEST_TEXT:
        raise ValueError(
            f"the configuration in the file has {len(text):,} characters: expected at most "
            f"{_LONGEST_TEXT:,}. Keep `state_dict` alone in a file, and state its arguments."
        )
    try:
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                values[statement.targets[0].id] = _literal(statement.value, values)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"the configuration in the file is no Python ({reprlib.repr(str(error))}). Keep "
            "`state_dict` alone in a file, and state its arguments."
        ) from None
    return values


def _literal(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The value of a literal, ``dict(...)`` or a known name; None of anything else."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item, known) for item in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        pairs = [(k.arg, _literal(k.value, known)) for k in node.keywords]
        return _merged(pairs)
    if isinstance(node, ast.Dict):
        keys = [None if k is None else _literal(k, known) for k in node.keys]
        return _merged(zip(keys, (_literal(v, known) for v in node.values), strict=True))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None


def _merged(pairs: Any) -> dict[str, Any]:
    """A dict of pairs; a key of None stands for ``**`` before a dict."""
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key is None and isinstance(value, dict):
            merged |= value
        elif isinstance(key, str):
            merged[key] = value
    return merged


def _caffe(config: Any) -> bool | None:
    """Whether bottlenecks are strided in their 1x1 convolution; ``pytorch`` is the default."""
    backbone = at(config, "model.backbone")
    if not isinstance(backbone, Mapping) or backbone.get("depth") in NO_BOTTLENECKS:
        return None
    return backbone.get("style", "pytorch") == "caffe" if "depth" in backbone else None


def _mm_roi_aligned(config: Any) -> bool | None:
    layer = at(config, "model.roi_head.bbox_roi_extractor.roi_layer")
    if not isinstance(layer, Mapping):
        return None
    aligned = layer.get("type") == "RoIAlign" and bool(layer.get("aligned", True))
    return roi_aligned(aligned, layer.get("sampling_ratio", 0), layer)


def _activation(config: Any) -> Literal["leaky_relu"] | None:
    """Of MobileNetV2, as in HEAD's configurations."""
    said = at(config, "model.backbone.act_cfg")
    if said is None or at(config, "model.backbone.act_cfg.type") == "ReLU6":
        return None
    if said == {"type": "LeakyReLU", "negative_slope": 0.1}:
        return "leaky_relu"
    raise ValueError(
        f"model.backbone.act_cfg is {reprlib.repr(said)}: limbeck's MobileNetV2 has ReLU6, "
        "or LeakyReLU of negative_slope 0.1."
    )


def _input(config: Any) -> tuple[bool | None, Triple | None, Triple | None]:
    """Order, mean and standard deviation: of the model (3.x), or of a step of the tests (2.x)."""
    place = "model.data_preprocessor"
    if at(config, place) is not None:
        bgr = not at(config, f"{place}.bgr_to_rgb")
    else:
        step = _step(config, "Normalize")
        if step is None:
            return None, None, None
        config, place, bgr = {"step": step}, "step", not step.get("to_rgb", True)
    return bgr, colours(config, f"{place}.mean", bgr), colours(config, f"{place}.std", bgr)


def _sides(config: Any) -> list[int] | None:
    """Both bounds of a test image's sides."""
    for kind, key in (("Resize", "scale"), ("MultiScaleFlipAug", "img_scale")):
        scale = (_step(config, kind) or {}).get(key)
        if isinstance(scale, list) and len(scale) == 2 and all(type(s) is int for s in scale):
            return scale
    return None


def _step(config: Any, kind: str) -> dict[str, Any] | None:
    """The step of that type in the pipeline of the tests."""
    places = ("test_pipeline", "test_dataloader.dataset.pipeline", "data.test.pipeline")
    found = (at(config, place) for place in places)
    steps = islice(_steps(next((p for p in found if p), None)), _MOST_STEPS)
    return next((s for s in steps if str(s.get("type")).rpartition(".")[2] == kind), None)


def _steps(pipeline: Any) -> Iterator[dict[str, Any]]:
    for step in pipeline if isinstance(pipeline, list) else ():
        if isinstance(step, dict):
            yield step
            yield from _steps(step.get("transforms"))


def _sizes(config: Any, place: str) -> tuple[tuple[float, ...], ...] | None:
    """Anchor sizes of each level: its base, which is its stride if not said, times the scales."""
    if at(config, place) is None:
        return None
    kind = str(at(config, f"{place}.type")).rpartition(".")[2]
    if kind != "AnchorGenerator" or at(config, f"{place}.center_offset") not in (None, 0, 0.0):
        raise ValueError(
            f"{place} is {reprlib.repr(at(config, place))}: limbeck's detectors have the anchors "
            "of mmdetection's AnchorGenerator, without an offset of the centres."
        )
    bases = numbers(config, f"{place}.base_sizes") or numbers(config, f"{place}.strides")
    scales = numbers(config, f"{place}.scales")
    octave = at(config, f"{place}.octave_base_scale", float)
    count = at(config, f"{place}.scales_per_octave", int)
    if count is not None and not 0 < count <= _MOST_SCALES:
        raise ValueError(
            f"{place}.scales_per_octave is {count}, expected 1 to {_MOST_SCALES}, or none."
        )
    if scales is None and octave and count:
        scales = tuple(octave * 2 ** (i / count) for i in range(count))
    if bases is None or scales is None:
        return None
    return tuple(tuple(base * scale for scale in scales) for base in bases)


def _p6_from(config: Any) -> Literal["P5", "C5"] | None:
    said = at(config, "model.neck.add_extra_convs")
    if said in (None, False):
        return None
    if said in (True, "on_input"):
        return "C5"
    if said == "on_output":
        return "P5"
    raise ValueError(
        f"model.neck.add_extra_convs is {reprlib.repr(said)}: limbeck's detectors compute P6 "
        "from C5 (on_input) or P5 (on_output)."
    )


def _relu_before_p7(config: Any) -> bool | None:
    if not at(config, "model.neck.add_extra_convs"):
        return None
    return bool(at(config, "model.neck.relu_before_extra_convs"))


def _refuse_other_levels(p6_from: str | None, relu: bool | None) -> None:
    """Raise ValueError unless P6 and P7 are those of limbeck's GFL."""
    if p6_from == "C5" or relu:
        raise ValueError(
            f"model.neck computes P6 from {p6_from}, and relu_before_extra_convs is {relu}: "
            "limbeck's GFL computes P6 from P5 (add_extra_convs on_output), without a ReLU before "
            "P7."
        )
