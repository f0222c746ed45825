"""What is exported of each family finds what the model finds, before and after it is exported."""

import copy

import pytest
import torch

from limbeck.export import Wanted, export
from limbeck.export.families import graph_of
from limbeck.export.graph import Detecting
from limbeck.exported import load
from limbeck.frame import network_frame
from limbeck.models import BasicBlocks, Classifier
from tests.export import tiny_exports
from tests.export.tiny_exports import DETECTORS, LIBRARY

# One of each family; RetinaNet is in test_writing.py.
EXPORTED = (
    "fcos",
    "gfl",
    "faster_rcnn",
    "faster_rcnn_c4",
    "ssd",
    "shuffledet",
    "yolov2",
    "hf, detr",
)


FIELDS = ("boxes", "scores", "labels")
# Their sigmoids are of whole batches here, and of one image there: processors round the elements at
# the end of a tensor otherwise than those that fill a vector register.
ROUNDED = ("rtmdet-t", "picodet-s")


def in_one_order(boxes, scores, labels):
    """The rows of detections, sorted: of equal scores, either may be the first."""
    return torch.unique(torch.cat([scores[:, None], labels[:, None], boxes], dim=1), dim=0)


def of_library(name):
    if name in LIBRARY:
        pytest.importorskip("libreyolo")
    if name.startswith("hf"):
        pytest.importorskip("transformers")
    return tiny_exports.detector(name)


@pytest.mark.parametrize("name", [*DETECTORS, *LIBRARY])
def test_a_graph_gives_bit_for_bit_what_evaluation_gives(name):
    model = of_library(name)
    graph = graph_of(copy.deepcopy(model))
    batch, _ = graph.framing.framed(tiny_exports.photographs())
    with torch.no_grad(), network_frame(model):
        found, expected = Detecting(graph)(batch), model(list(batch))
    for boxes, scores, labels, one in zip(*found, expected, strict=True):
        known = one["labels"] > 0
        assert known.any()
        there = labels > 0
        rows = in_one_order(boxes[there], scores[there], labels[there])
        least = torch.finfo().eps if name in ROUNDED else 0
        expected_rows = in_one_order(*(one[k][known] for k in FIELDS))
        torch.testing.assert_close(rows, expected_rows, rtol=least, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_onnxruntime_finds_on_photographs_what_pytorch_finds(name, tmp_path):
    """Through the whole of what predict does: framing, the file, and boxes brought back."""
    model, path = of_library(name), tmp_path / "student.onnx"
    images = tiny_exports.photographs()
    checked = export(model, path, Wanted("onnx"), images)
    assert (checked.images, checked.unmatched) == (3, 0)
    assert checked.detections > 5
    assert checked.boxes < 0.01
    assert checked.scores < 1e-4
    if graph_of(copy.deepcopy(model)).framing.rule != "stretch":
        return  # padding adds pixels that the model itself would not see
    with torch.no_grad():
        pairs = zip(load(path)(list(images)), model(list(images)), strict=True)
    for found, expected in pairs:
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(found[key], expected[key], atol=0.02, rtol=0)


def test_classifiers_of_limbeck_and_of_others_are_exported(tmp_path):
    torch.manual_seed(0)
    model = Classifier(BasicBlocks(depths=(1, 1), widths=(8, 16)), num_classes=4)
    path, images = tmp_path / "student.onnx", torch.rand(3, 3, 32, 32)
    wanted = Wanted("onnx", size=(32, 32), dynamic=("batch",))
    checked = export(model, path, wanted, list(images))
    assert model.training
    assert checked.scores < 1e-5
    exported = load(path)
    with torch.no_grad():
        torch.testing.assert_close(exported(images), model.eval()(images), atol=1e-4, rtol=0)
    assert exported.description.framing.size == (32, 32)
    assert exported.description.batch is None


def test_a_classifier_for_images_of_any_size_sees_them_as_they_are(tmp_path):
    torch.manual_seed(0)
    model = Classifier(BasicBlocks(depths=(1,), widths=(8,)), num_classes=4).eval()
    images = [torch.rand(3, 32, 48), torch.rand(3, 40, 24)]
    path = tmp_path / "student.pt2"
    checked = export(model, path, Wanted("torch_export", dynamic=("batch", "size")), images)
    assert checked.images == 2
    exported = load(path, trust=True)
    assert exported.description.framing.size is None
    with torch.no_grad():
        for image in images:
            torch.testing.assert_close(exported([image]), model(image[None]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssd", {"size": (64, 96)}, r"--size 64 96: this SSD was built for images of 64 x 64 px"),
        ("retinanet", {"size": (60, 96)}, r"multiples of 32. Give such, for example --size 64 96"),
        ("faster_rcnn", {"dynamic": ("batch",)}, r"--dynamic batch: FasterRCNN is exported for a"),
        ("ssd", {"dynamic": ("size",)}, r"--dynamic size: SSD is exported for one size"),
        (
            "retinanet",
            {"dynamic": ("size",), "post_processing": "dense"},
            r"--dynamic size with --p",
        ),
    ],
)
def test_what_a_family_cannot_is_refused_before_anything_is_written(
    name, options, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        export(
            tiny_exports.detector(name),
            tmp_path / "a.onnx",
            Wanted("onnx", **options),
            tiny_exports.photographs(),
        )
    assert not list(tmp_path.iterdir())
