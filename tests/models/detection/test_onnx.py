"""What is exported to ONNX gives the boxes and scores that PyTorch gives."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from limbeck.models import ShuffleDet, YOLOv2

SIZE = (64, 96)


def shuffledet():
    return ShuffleDet(0.15, 3, image_size=SIZE, anchor_shapes=[(16.0, 16.0), (40.0, 24.0)])


def yolov2():
    shapes = [(16.0, 16.0), (40.0, 24.0)]
    return YOLOv2(1 / 16, 3, image_size=SIZE, anchor_shapes=shapes, passthrough="darknet")


@pytest.mark.slow
@pytest.mark.parametrize("make", [shuffledet, yolov2])
def test_onnx_gives_the_same(make, tmp_path):
    model = make()
    for parameter in model.head.parameters():
        nn.init.normal_(parameter, std=0.1)
    dense, images = model.dense(), torch.rand(2, 3, *SIZE)
    file = tmp_path / "detector.onnx"
    torch.onnx.export(dense, (images,), dynamo=True, verbose=False).save(file)
    session = onnxruntime.InferenceSession(file)
    boxes, scores = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected_boxes, expected_scores = dense(images)
    assert np.allclose(boxes, expected_boxes, atol=1e-2)
    assert np.allclose(scores, expected_scores, atol=1e-4)
    assert np.ptp(scores) > 0.01
