"""What a checkpoint says of the inputs of its weights."""

from dataclasses import replace

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_STD

from limbeck.checkpoints import Checkpoint, with_std
from limbeck.checkpoints.checkpoint import style_of
from tests.checkpoints.manifests import Tensors, assert_same
from tests.checkpoints.narrow_tensors import small_detector

CAFFE_STD = (1 / 255,) * 3
CONV1 = "backbone.body.conv1.weight"


def test_another_deviation_is_folded_into_the_first_convolution() -> None:
    tensors = small_detector("RetinaNet", "resnet50")
    found = Checkpoint("model.pkl", "detectron2", "RetinaNet", tensors, {"std": CAFFE_STD})
    assert with_std(found, None) is found.tensors
    assert with_std(found, CAFFE_STD) is found.tensors
    folded = with_std(found, IMAGENET_DEFAULT_STD)
    scale = torch.tensor(IMAGENET_DEFAULT_STD) * 255
    torch.testing.assert_close(folded[CONV1], found.tensors[CONV1] * scale[:, None, None])
    others: Tensors = {k: v for k, v in folded.items() if k != CONV1}
    assert_same(others, {k: found.tensors[k] for k in others})
    headless = replace(found, tensors=others)
    with pytest.raises(ValueError, match="no layer of theirs takes three channels"):
        with_std(headless, IMAGENET_DEFAULT_STD)


def test_the_style_is_caffe_where_the_deviation_is_one() -> None:
    caffe = Checkpoint("a.pth", "torchvision", "trunk", {}, {"std": CAFFE_STD})
    assert style_of(caffe) == "caffe"
    assert style_of(replace(caffe, arguments={"std": IMAGENET_DEFAULT_STD})) == "pytorch"
    assert style_of(replace(caffe, arguments={})) == "pytorch"
