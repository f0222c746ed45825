"""Images come into the frame as each detector's own transform brings them there, and boxes back."""

from types import SimpleNamespace

import pytest
import torch

from limbeck.export.families import framing_of
from limbeck.exported import ExportedModel
from limbeck.exported.framing import Framing
from tests.export import tiny_exports

NAMES = (
    "retinanet",
    "retinanet, mmdetection",
    "faster_rcnn_c4, fgfi",
    "ssd",
    "yolov2",
    "hf, rt_detr",
    "yolox-n",
    "picodet-s",
)
SIZES = ((50, 81), (43, 120), (200, 90), (64, 64), (33, 40))


@pytest.mark.parametrize("name", NAMES)
def test_the_frame_is_that_of_the_detectors_own_transform(name):
    if name in tiny_exports.LIBRARY:
        pytest.importorskip("libreyolo")
    model = tiny_exports.detector(name)
    dynamic = model.transform.fixed_size is None and name not in tiny_exports.LIBRARY
    framing = framing_of(model, None, dynamic=dynamic)
    transform = model.transform
    torch.manual_seed(0)
    for size in SIZES:
        image = torch.rand(3, *size)
        batch, (place,) = framing.framed([image])
        expected, _ = transform([image])
        ours = (batch - transform.mean) / transform.std
        if name == "yolox-n":
            ours = ours.flip(1)  # which the graph does
        torch.testing.assert_close(ours, expected.tensors, atol=2e-4, rtol=0)
        assert place.content == tuple(expected.image_sizes[0])
        boxes = torch.tensor([[3.0, 4.0, 20.0, 30.0]])
        if name not in tiny_exports.LIBRARY:
            (back,) = transform.postprocess([{"boxes": boxes}], expected.image_sizes, [size])
            torch.testing.assert_close(framing.back(boxes, place), back["boxes"])


def test_an_image_that_would_exceed_a_fixed_frame_is_made_smaller():
    framing = framing_of(tiny_exports.detector("retinanet"), None)
    assert framing.size == (64, 96)
    images = [torch.ones(3, 300, 100), torch.ones(3, 100, 300), torch.ones(3, 64, 64)]
    batch, places = framing.framed(images)
    assert batch.shape == (3, 3, 64, 96)
    assert [place.content for place in places] == [(64, 21), (32, 96), (64, 64)]
    assert torch.equal(
        batch[0, :, :, 21:], torch.tensor(framing.fill)[:, None, None].expand(3, 64, 75)
    )
    tall = framing.back(torch.tensor([[0.0, 0.0, 30.0, 64.0]]), places[0])
    torch.testing.assert_close(tall, torch.tensor([[0.0, 0.0, 100.0, 300.0]]))


@pytest.mark.parametrize(("smallest", "kept"), [(0.0, 2), (None, 3)])
def test_a_box_in_the_padding_is_none_where_the_student_drops_empty_ones(smallest, kept):
    framing = framing_of(tiny_exports.detector("retinanet"), None)
    _, (place,) = framing.framed([torch.ones(3, 300, 100)])  # 64 x 21 px of a frame of 64 x 96
    suppression = SimpleNamespace(smallest=smallest)
    file = SimpleNamespace(description=SimpleNamespace(framing=framing, suppression=suppression))
    boxes = torch.tensor([[0.0, 0, 9, 9], [10, 0, 60, 30], [30, 0, 60, 30], [0, 0, 0, 0]])
    labels = torch.tensor([1, 2, 1, 0])
    found = ExportedModel.of_image(file, boxes, torch.ones(4), labels, place)
    assert found["labels"].tolist() == [1, 2, 1][:kept]
    assert len(found["boxes"]) == len(found["scores"]) == kept


def test_images_in_the_centre_are_brought_back_from_it():
    framing = framing_of(tiny_exports.detector("retinanet"), None)
    centred = type(framing)("fit", (64, 96), centred=True)
    batch, (place,) = centred.framed([torch.ones(3, 32, 32)])
    assert (place.top, place.left) == (0, 16)
    assert float(batch.sum()) == 3 * 64 * 64
    back = centred.back(torch.tensor([[16.0, 0.0, 80.0, 32.0]]), place)
    torch.testing.assert_close(back, torch.tensor([[0.0, 0.0, 32.0, 16.0]]))


def test_images_in_a_frame_of_any_size_are_stretched_to_the_largest_of_a_batch():
    framing = Framing("stretch", None, antialias=True)
    image = torch.rand(3, 30, 41)
    batch, (place,) = framing.framed([image])
    assert torch.equal(batch[0], image)
    assert place.content == (30, 41)
    batch, places = framing.framed([torch.ones(3, 30, 20), torch.ones(3, 15, 40)])
    assert torch.equal(batch, torch.ones(2, 3, 30, 40))
    assert [place.scale for place in places] == [(1.0, 2.0), (2.0, 1.0)]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "there is no image"),
        ([torch.ones(3, 4, 4), torch.ones(4, 4)], ValueError, r"image 1 has the shape \(4, 4\)"),
        ([torch.ones(1, 4, 4)], ValueError, r"shape \(1, 4, 4\); expected \(3, H, W\), RGB"),
        ([torch.ones(4, 4, 3)], ValueError, r"shape \(4, 4, 3\)"),
        ([torch.ones(3, 4, 4, dtype=torch.uint8)], TypeError, "uint8: expected float in"),
    ],
)
def test_what_is_no_image_in_floats_is_refused(images, error, message):
    """Pixels of 0 to 255 would be answered, and wrongly."""
    with pytest.raises(error, match=message):
        Framing("stretch", (4, 4)).framed(images)


def test_a_shorter_side_may_be_all_that_is_said():
    framing = Framing("shorter_side", None, 4, min_size=10)
    batch, places = framing.framed([torch.ones(3, 20, 60), torch.ones(3, 5, 5)])
    assert [place.content for place in places] == [(10, 30), (10, 10)]
    assert batch.shape == (2, 3, 12, 32)
