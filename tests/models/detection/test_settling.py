import inspect
from pathlib import Path
from typing import ClassVar

import pytest

from limbeck.models import (
    FCOS,
    GFL,
    SSD,
    BasicBlocks,
    Classifier,
    FasterRCNN,
    FasterRCNNC4,
    HuggingFaceDetector,
    LibreYOLODetector,
    RetinaNet,
    ShuffleDet,
    YOLOv2,
    save_student,
)
from limbeck.models.build import LimbeckModel
from limbeck.models.detection.settling import settle
from limbeck.presets import RETINANET
from limbeck.ranges import written

BLOCKS = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))


class Detector(LimbeckModel):
    """A stand-in that is never built: settling reads its constructor and its numerics."""

    numerics: ClassVar = {
        "preset": "torchvision",
        "mean": (0.5,) * 3,
        "relu_before_p7": None,
        "sizes": None,
    }

    def __init__(self, num_classes, preset=None, weights=None, mean=None, relu_before_p7=None):
        raise NotImplementedError


def settled(usual=None, **scope) -> dict:
    """The arguments of a constructor that has locals beside them."""
    arguments = dict.fromkeys(inspect.signature(Detector).parameters) | {"num_classes": 3}
    return settle(Detector, {"self": object(), "a_local": 1} | arguments | scope, usual, RETINANET)[
        1
    ]


def test_what_nobody_says_is_as_usual_or_as_the_preset_has_it() -> None:
    found = settled()
    assert found == {
        "num_classes": 3,
        "preset": "torchvision",
        "mean": (0.5,) * 3,
        "relu_before_p7": True,
    }
    assert settled(preset="mmdetection")["relu_before_p7"] is False


def test_what_is_given_goes_before_all_else_also_where_it_is_false() -> None:
    found = settled(relu_before_p7=False, mean=(0.0,) * 3)
    assert found["relu_before_p7"] is False
    assert found["mean"] == (0.0,) * 3
    assert settled({"mean": (0.25,) * 3})["mean"] == (0.25,) * 3


def test_a_students_weights_decide_numerics_and_nothing_else(tmp_path: Path) -> None:
    save_student(retinanet(preset="mmdetection", mean=(0.1, 0.2, 0.3), min_size=123), tmp_path)
    found = settled(weights=tmp_path)
    assert found["preset"] == "mmdetection"
    assert found["relu_before_p7"] is False
    assert found["mean"] == [0.1, 0.2, 0.3]
    assert found["num_classes"] == 3  # the student has 2
    assert settled(weights=tmp_path, preset="torchvision")["relu_before_p7"] is False


def test_a_preset_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="preset='detectron': expected one of torchvision"):
        settled(preset="detectron")


def retinanet(**arguments) -> RetinaNet:
    return RetinaNet(
        BLOCKS, 2, **{"levels": (3, 7), "fpn_channels": 8, "head_depth": 1} | arguments
    )


def fcos(**arguments) -> FCOS:
    return FCOS(BLOCKS, 2, **{"fpn_channels": 32, "head_depth": 1} | arguments)


def faster_rcnn(**arguments) -> FasterRCNN:
    small = {"levels": (3, 6), "fpn_channels": 8, "box_head_channels": 8}
    return FasterRCNN(BLOCKS, 2, **small | arguments)


def c4(**arguments) -> FasterRCNNC4:
    return FasterRCNNC4(BLOCKS, 2, **{"box_head_channels": 8} | arguments)


def gfl(**arguments) -> GFL:
    return GFL(BLOCKS, 2, **{"levels": (3, 5), "fpn_channels": 32, "head_depth": 1} | arguments)


def ssd(**arguments) -> SSD:
    return SSD(BLOCKS, 2, **{"levels": (3, 5), "image_size": (64, 64)} | arguments)


def shuffledet(**arguments) -> ShuffleDet:
    return ShuffleDet(0.25, 2, **arguments)


def yolov2(**arguments) -> YOLOv2:
    return YOLOv2(0.0625, 2, **arguments)


MAKERS = {
    RetinaNet: retinanet,
    FCOS: fcos,
    FasterRCNN: faster_rcnn,
    FasterRCNNC4: c4,
    GFL: gfl,
    SSD: ssd,
    ShuffleDet: shuffledet,
    YOLOv2: yolov2,
}
OTHER = {  # of each of the numerics, a value that is not the usual one and leaves all shapes alone
    "preset": "mmdetection",
    "mean": (0.1, 0.2, 0.3),
    "anchor_sizes": ((10.0, 20.0, 30.0),) * 5,
    "aspect_ratios": (0.25, 1.0, 4.0),
    "p6_from": "C5",
    "relu_before_p7": False,
    "roi_aligned": True,
    "pooling": "crop",
    "scales": (0.1, 0.2, 0.3, 0.4),
    "steps": (9.0, 17.0, 33.0),
    "anchor_shapes": ((10.0, 20.0),) * 9,
    "passthrough": "darknet",
}
FOR_ONE = {  # where the value depends on the detector
    (FasterRCNN, "anchor_sizes"): ((10.0,),) * 4,
    (FasterRCNNC4, "anchor_sizes"): ((10.0, 20.0, 30.0),),
    (FasterRCNNC4, "preset"): "detectron2",
    (SSD, "aspect_ratios"): ((2.5, 3.0),) * 3,
    (YOLOv2, "anchor_shapes"): ((10.0, 20.0),) * 5,
}
# Of numerics whose usual value is computed, a value to contradict the weights with.
THIRD = {
    (RetinaNet, "anchor_sizes"): ((15.0, 20.0, 30.0),) * 5,
    (FasterRCNN, "anchor_sizes"): ((15.0,),) * 4,
    (FasterRCNNC4, "anchor_sizes"): ((15.0, 20.0, 30.0),),
    (FasterRCNNC4, "pooling"): "pool",
    (SSD, "steps"): (8.0, 16.0, 32.0),
}
# Numerics without such a value: of other trunks, or with other shapes, which are refused by these;
# and those that may be given otherwise than the weights have them.
REST = {"stride_in_1x1", "activation", "class_agnostic", "reduced_tail", "std", "image_size"}


def compared() -> list[tuple[type, str]]:
    return [(kind, n) for kind in MAKERS for n in kind.numerics if n not in REST]


@pytest.mark.parametrize(("kind", "name"), compared())
def test_weights_are_taken_over_with_their_numerics_and_never_run_under_others(
    kind: type, name: str, tmp_path: Path
) -> None:
    make, other = MAKERS[kind], FOR_ONE.get((kind, name), OTHER[name])
    student, usual = make(**{name: other}), make()
    assert student.arguments[name] != usual.arguments[name]
    save_student(student, tmp_path)
    given_by_default = inspect.signature(kind).parameters[name].default is not None
    if not given_by_default:
        assert make(weights=tmp_path).arguments[name] == student.arguments[name]
    with pytest.raises(ValueError, match=f"{name} is .* in the weights"):
        make(weights=tmp_path, **{name: THIRD.get((kind, name), usual.arguments[name])})


# Arguments that decide the shapes of tensors, how a model is trained, or what is done with its
# outputs: with other values the same weights still compute the same for every anchor and region.
NOT_NUMERICS = {
    "weights", "class_numbers", "backbone", "network", "arguments", "width", "num_classes", "norm",
    "last_norm", "levels", "fpn_channels", "head_depth", "box_head_channels", "extra_channels",
    "stem_channels", "lite", "dropout", "frozen_stages", "min_size", "max_size", "score_threshold",
    "nms_threshold", "detections_per_image", "detections_per_class", "topk_candidates",
}  # fmt: skip


@pytest.mark.parametrize("kind", [*MAKERS, Classifier, HuggingFaceDetector, LibreYOLODetector])
def test_every_argument_is_one_of_the_numerics_or_known_to_be_none(kind: type) -> None:
    """Who adds an argument to a model has to decide: otherwise weights would run under another."""
    undecided = set(inspect.signature(kind).parameters) - set(kind.numerics) - NOT_NUMERICS
    assert not undecided


IMPOSSIBLE = [
    ("num_classes", 0),
    ("num_classes", -5),
    ("num_classes", 10**12),
    ("min_size", -64),
    ("max_size", 0),
    ("max_size", 10**15),
    ("fpn_channels", 0),
    ("fpn_channels", 10**6),
    ("head_depth", 10**6),
    ("frozen_stages", -1),
    ("anchor_sizes", ((-14, 20), (28, 40))),
    ("anchor_sizes", ((1e300, 20), (28, 40))),
    ("aspect_ratios", (-1.0,)),
    ("aspect_ratios", ()),
    ("std", (0.0, 0.0, 0.0)),
    ("mean", (float("nan"),) * 3),
    ("score_threshold", 2.0),
    ("nms_threshold", -0.5),
    ("detections_per_image", -10),
    ("detections_per_image", 20_000_000),  # a student saved so could not be loaded
    ("topk_candidates", 0),
    ("topk_candidates", 20_000_000),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_what_no_detector_can_be_built_of_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is .*; expected .*\. Give") as said:
        RetinaNet(BLOCKS, **{"num_classes": 3, name: value})
    assert written(value) in str(said.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FCOS(BLOCKS, 0),
        lambda: FasterRCNN(BLOCKS, 3, box_head_channels=0),
        lambda: FasterRCNN(BLOCKS, 3, min_size=-1),
        lambda: FasterRCNNC4("resnet50", 0),
        lambda: FasterRCNNC4("resnet50", 3, nms_threshold=7.0),
        lambda: SSD(BLOCKS, -1),
        lambda: SSD(BLOCKS, 3, image_size=(-300, 300)),
        lambda: SSD(BLOCKS, 3, scales=(-0.1, 0.2)),
        lambda: ShuffleDet(1.0, 0),
        lambda: ShuffleDet(-1.0, 3),
        lambda: ShuffleDet(1.0, 3, detections_per_class=0),
        lambda: YOLOv2(1000.0, 3),
        lambda: YOLOv2(0.25, 3, image_size=(0, 416)),
        lambda: Classifier("resnet18", -1),
        lambda: Classifier("resnet18", 3, std=(0.0, 1.0, 1.0)),
    ],
)
def test_every_model_refuses_what_it_cannot_be_built_of(make) -> None:
    with pytest.raises(ValueError, match=r"is .*; expected .*\. Give it a value in that range"):
        make()
