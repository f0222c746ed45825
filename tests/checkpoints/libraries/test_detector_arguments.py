"""A detector's arguments, none left open."""

import pytest

from limbeck.checkpoints.libraries.detector_arguments import DetectorArguments, comments


def test_usual_values_are_those_of_the_detector_and_its_preset() -> None:
    dense = DetectorArguments("retinanet", {"backbone": "resnet18", "preset": "detectron2"})
    assert dense.levels == (3, 7)
    assert dense.anchor_sizes[0] == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)])
    assert (dense.from_p5, dense.relu_before_p7, dense.detections) == (False, True, 100)
    regions = DetectorArguments("faster_rcnn", {"backbone": "resnet18"})
    assert regions.levels == (2, 6)
    assert regions.anchor_sizes == [[32], [64], [128], [256], [512]]
    assert not regions.aligned


def test_what_is_given_goes_first_and_none_is_not_given() -> None:
    given = {"levels": (3, 4), "anchor_sizes": None, "p6_from": "C5", "aspect_ratios": (1,)}
    found = DetectorArguments("retinanet", {"backbone": "resnet18"} | given)
    assert found.levels == (3, 4)
    assert found.anchor_sizes == [[32, 40, 50], [64, 80, 101]]  # torchvision rounds
    assert not found.from_p5
    assert found.aspect_ratios == [1.0]


def test_a_backbone_that_no_other_library_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*resnet18.*no other library has it"):
        DetectorArguments("retinanet", {"backbone": "vgg16"})


def test_what_no_library_has_words_for_stands_in_the_comments_of_both() -> None:
    given = {"backbone": "resnet18", "preset": "detectron2", "last_norm": "trained"}
    detector = DetectorArguments("retinanet", given)
    for library in ("detectron2", "mmdetection"):
        said = comments(detector, library, ["its classes"])
        last = "# its classes\n# the last block of each stage has the norm 'trained'\n"
        assert said.endswith(last)
