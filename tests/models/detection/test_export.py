"""What torch.export makes of a detector of one map gives the same boxes and scores."""

import pytest
import torch
from torch import nn

from limbeck.models import ShuffleDet, YOLOv2

SIZE = (64, 96)
SHAPES = [(16.0, 16.0), (40.0, 24.0)]
MODELS = {
    "shuffledet": lambda: ShuffleDet(0.25, 3, image_size=SIZE, anchor_shapes=SHAPES),
    "yolov2, darknet": lambda: YOLOv2(
        0.0625, 3, image_size=SIZE, anchor_shapes=SHAPES, passthrough="darknet"
    ),
    "yolov2, space_to_depth": lambda: YOLOv2(
        0.0625, 3, image_size=SIZE, anchor_shapes=SHAPES, passthrough="space_to_depth"
    ),
}


def detector(name):
    """Whose predictions are alive."""
    model = MODELS[name]()
    for parameter in model.head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_exported_outputs_are_the_same(name):
    model, images = detector(name), torch.rand(2, 3, *SIZE)
    dense = model.dense()
    exported = torch.export.export(dense, (images,)).module()
    with torch.no_grad():
        for ours, theirs in zip(dense(images), exported(images), strict=True):
            assert ours.std() > 0.01
            torch.testing.assert_close(theirs, ours)


@pytest.mark.parametrize("name", MODELS)
def test_dense_outputs_are_what_detections_are_made_of(name):
    """Of an image of the network's own size, which is not resized."""
    model, image = detector(name), torch.rand(3, *SIZE)
    with torch.no_grad():
        boxes, scores = (each[0] for each in model.dense()(image[None]))
        (found,) = model([image])
        kept = model.suppress(model.candidates(boxes, scores), SIZE)
    assert len(found["scores"]) > 1
    for key, value in found.items():
        torch.testing.assert_close(kept[key], value)
