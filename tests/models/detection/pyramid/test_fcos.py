import pytest
import torch
from torchvision.models import detection

from limbeck.landmarks import landmarks
from limbeck.models import FCOS, BasicBlocks
from tests.batches import nothing, photographs, targets
from tests.models.comparisons import assert_learns_one_image, same_detections
from tests.models.lively_weights import scramble

EVALUATION = {"min_size": 96, "max_size": 128}
SMALL = {"fpn_channels": 64, "head_depth": 1, "norm": "trained"}
TINY = BasicBlocks((1, 1, 1), (4, 8, 8))


@pytest.fixture(scope="module")
def stock() -> detection.FCOS:
    model = scramble(
        detection.fcos_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=91, **EVALUATION
        )
    )
    for name, parameter in model.head.named_parameters():
        if name.endswith("bbox_reg.bias"):
            torch.nn.init.constant_(parameter, 1.5)  # above 0, where the head's ReLU is silent
    return model


def test_is_torchvisions_fcos_both_ways(stock: detection.FCOS) -> None:
    ours = FCOS("resnet50", 90, **EVALUATION)
    assert isinstance(ours, detection.FCOS)
    ours.load_state_dict(stock.state_dict())
    images = photographs((100, 90), (64, 120))
    assert same_detections(ours, stock, images) > 100
    scramble(ours, seed=5)
    stock.load_state_dict(ours.state_dict())
    assert same_detections(ours, stock, images) > 100


@pytest.mark.parametrize("last", ["with boxes", "without"])
def test_training_losses_and_gradients_are_torchvisions(stock: detection.FCOS, last: str) -> None:
    ours = FCOS("resnet50", 90, norm="trained")
    ours.load_state_dict(stock.state_dict())
    images, labelled = photographs((128, 96), (96, 128)), targets(2)
    labelled[0]["boxes"] = torch.tensor([[8.0, 8.0, 80.0, 100.0], [30.0, 20.0, 62.0, 44.0]])
    labelled[0]["labels"] = torch.tensor([1, 90])
    if last == "without":
        labelled[1] = nothing()
    stock.transform._skip_resize = True
    losses, expected = ours.train()(images, labelled), stock.train()(images, labelled)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])
    gradients = []
    for model, found in ((ours, losses), (stock, expected)):
        model.zero_grad()
        sum(found.values()).backward()
        gradients.append(model.head.classification_head.conv[0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_batch_without_boxes_is_finite() -> None:
    model = FCOS(TINY, 2, levels=(3, 4), **SMALL).train()
    losses = model(photographs((64, 64), (64, 64)), [nothing()] * 2)
    sum(losses.values()).backward()
    assert losses["classification"] > 0
    assert losses["bbox_regression"] == losses["bbox_ctrness"] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "levels"),
    [("resnet18", (3, 7)), ("mobilenet_v2", (3, 5)), (TINY, (3, 4)), (TINY, (4, 6))],
)
def test_a_training_step_reaches_every_parameter(backbone, levels) -> None:
    model = FCOS(backbone, 3, levels=levels, **SMALL)
    losses = model.train()(photographs((64, 96), (96, 64)), targets(2))
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_a_student_learns_one_image_and_labels_it_from_one(seed: int) -> None:
    """With torchvision's initial biases, one side of seed 0 is never learnt."""
    torch.manual_seed(seed)
    assert_learns_one_image(FCOS(TINY, 2, levels=(3, 4), min_size=64, max_size=64, **SMALL))


def test_frozen_stages_and_landmarks() -> None:
    model = FCOS("resnet18", 2, frozen_stages=2, fpn_channels=64, norm="trained")
    frozen = {n.split(".")[2] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    places = {"C2", "C5", "P3", "P7", "fpn", "maps", "anchors", "frame", "cls_tower", "box_tower"}
    assert places | {"cls_maps", "box_maps"} <= landmarks(model).keys()
    assert model.strides == (8, 16, 32, 64, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (3, 6)}, r"levels=\(3, 6\): .* an FCOS's extra levels come as a pair.*or at 7"),
        ({"fpn_channels": 48}, "fpn_channels=48: expected a multiple of 32"),
        ({"head_depth": 0}, "head_depth is 0; expected a number: 1 or more"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FCOS("resnet18", 2, **arguments)
