from dataclasses import replace

import pytest

from limbeck.report.page.shown import gather
from tests.report.page.examples import Pictures


def test_detection_and_classification_show_what_is_theirs(detection, classification):
    boxes = gather(detection.findings, detection.data)
    assert list(boxes.details) == ["teacher", "plain", "distilled"]
    assert boxes.details["distilled"].seed == 0
    assert len(boxes.details["plain"].errors) == 6
    assert boxes.details["plain"].confusion is None
    classes = gather(classification.findings, classification.data)
    assert classes.by_size is None
    assert classes.details["plain"].confusion is not None
    assert not classes.details["plain"].errors


def test_predictions_of_other_images_are_refused(detection):
    others = Pictures(detection.data.dataset, ("a", "b"))
    with pytest.raises(ValueError, match="predictions for 20 images of 5 classes"):
        gather(detection.findings, others)


def test_nothing_to_show_is_refused(detection):
    with pytest.raises(ValueError, match="no teacher, plain or distilled row"):
        gather(replace(detection.findings, rows=()), detection.data)
