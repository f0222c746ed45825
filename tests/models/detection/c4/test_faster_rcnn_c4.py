import copy

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from limbeck import Taps, landmarks
from limbeck.models import BasicBlocks, FasterRCNNC4, load_student, save_student
from tests.batches import nothing, photographs, targets
from tests.models.comparisons import assert_same_losses
from tests.models.detection.c4.small_c4 import TINY, every_preset, lively, narrow, small

LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def test_training_losses_are_torchvisions() -> None:
    ours = small(preset="torchvision", box_head_channels=16).train()
    generator = ours.rpn.anchor_generator
    stock = detection.FasterRCNN(
        copy.deepcopy(ours.backbone),
        rpn_anchor_generator=AnchorGenerator(generator.sizes, generator.aspect_ratios),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=copy.deepcopy(ours.roi_heads.box_head),
        box_predictor=FastRCNNPredictor(16, 4),
        _skip_resize=True,
    ).train()
    stock.rpn._post_nms_top_n = ours.rpn._post_nms_top_n
    stock.load_state_dict(ours.state_dict())
    assert_same_losses(ours, stock, (photographs((128, 96), (90, 128)), targets(2)))


@narrow
@every_preset
@pytest.mark.parametrize("backbone", ["vgg11", "vgg16", TINY])
@pytest.mark.parametrize("width", [None, 16])
def test_a_training_step_reaches_every_parameter(backbone, preset, width) -> None:
    model = small(backbone, preset, box_head_channels=width).train()
    batch = photographs((64, 100), (90, 64)), [*targets(1), nothing()]
    losses = model(*batch)
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@every_preset
def test_images_without_boxes_alone(preset) -> None:
    losses = small(preset=preset).train()(photographs((64, 64)), [nothing()])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_rpn_box_reg"] == 0
    assert losses["loss_box_reg"] == 0


@every_preset
def test_images_smaller_than_every_anchor(preset) -> None:
    losses = small(preset=preset, anchor_sizes=None).train()(photographs((64, 64)), targets(1))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())


@narrow
@pytest.mark.parametrize("pooling", ["align", "crop", "pool"])
def test_half_precision(pooling) -> None:
    model = small("vgg11", pooling=pooling).train()
    batch = photographs((64, 96), (64, 64)), targets(2)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch)
        detections = model.eval()(batch[0])
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(found["boxes"].dtype == torch.float32 for found in detections)


@every_preset
def test_an_image_of_a_batch_is_found_as_if_alone(preset) -> None:
    model = lively(small(preset=preset)).eval()
    images = photographs((64, 96), (64, 96))
    with torch.no_grad():
        together, alone = model(images), [model([image])[0] for image in images]
    for batched, single in zip(together, alone, strict=True):
        assert len(single["boxes"]) > 10
        for key, value in single.items():
            torch.testing.assert_close(batched[key], value, rtol=1e-4, atol=1e-4)


def test_boxes_of_a_resized_image_are_the_originals_plus_one_pixel() -> None:
    """The original divides inclusive coordinates: those of the last pixel differ."""
    transform = small().eval().transform
    whole = {"boxes": torch.tensor([[0.0, 0.0, 128.0, 64.0]]), "labels": torch.tensor([1])}
    (scaled,) = transform.postprocess([whole], [(64, 128)], [(32, 64)])
    assert scaled["boxes"].tolist() == [[0.0, 0.0, 127 / 2 + 1, 63 / 2 + 1]]


def test_a_class_agnostic_box_is_every_class_s() -> None:
    agnostic, specific = (
        lively(small(class_agnostic=shared, box_head_channels=8)).eval() for shared in (True, False)
    )
    tensors = agnostic.state_dict()
    boxes = "roi_heads.box_predictor.bbox_pred."
    assert len(tensors[f"{boxes}bias"]) == 4
    repeated = {n: torch.cat([v] * 4) for n, v in tensors.items() if n.startswith(boxes)}
    specific.load_state_dict(tensors | repeated)
    batch = photographs((64, 64), (64, 64)), targets(2)
    found = []
    for model in (agnostic, specific):
        torch.manual_seed(0)
        found.append((model.eval()(batch[0]), model.train()(*batch)))
    assert len(found[0][0][0]["boxes"]) > 10
    torch.testing.assert_close(*found)


@narrow
@every_preset
def test_a_student_comes_back_and_is_weights(preset, tmp_path) -> None:
    model = lively(small("vgg11", preset, class_agnostic=True, pooling="crop")).eval()
    save_student(model, tmp_path)
    again = load_student(tmp_path)
    given = {"anchor_sizes": ((16, 32, 64),), "min_size": 64, "max_size": 128}
    anew = FasterRCNNC4("vgg11", 3, weights=tmp_path, **given).eval()
    images = photographs((64, 80))
    for other in (again, anew):
        other.rpn._post_nms_top_n = model.rpn._post_nms_top_n
        torch.testing.assert_close(other(images), model(images))


@narrow
@pytest.mark.parametrize("backbone", ["vgg11", TINY])
def test_landmarks(backbone) -> None:
    model = small(backbone).eval()
    names = ["C2", "C3", "C4", "C4.pre", "maps", "anchors", "frame", "roi_features"]
    assert set(names) <= landmarks(model).keys()
    with torch.no_grad(), Taps(model, names) as seen:
        model(photographs((64, 96)))
    assert [seen[f"C{k}"].shape[-2:] for k in (2, 3, 4)] == [(16, 24), (8, 12), (4, 6)]
    assert torch.equal(seen["maps"][0], seen["C4"])
    assert torch.equal(seen["C4.pre"].relu(), seen["C4"])
    assert [level.shape for level in seen["anchors"][0]] == [(4 * 6 * 9, 4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "vgg19"}, "no such backbone.*vgg11 or vgg16"),
        ({"backbone": BasicBlocks((1, 1), (4, 4))}, "it has no C4"),
        ({"backbone": BasicBlocks((1, 1, 1), (4, 4, 4))}, "no stage after C4"),
        ({"frozen_stages": 5}, "expected 0 to 4, the stem and 3 stages"),
        ({"preset": "mmdetection"}, "expected one of torchvision, detectron2, fgfi"),
        ({"anchor_sizes": ((16,), (32,))}, "expected 1 tuples of sizes"),
        ({"stride_in_1x1": True}, "no bottleneck blocks"),
        ({"pooling": "roi"}, "pooling='roi': expected one of align, crop, pool"),
    ],
)
def test_what_does_not_suit_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        FasterRCNNC4(**{"backbone": TINY, "num_classes": 3} | arguments)
