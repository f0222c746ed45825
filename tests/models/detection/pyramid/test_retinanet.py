import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection

from limbeck.models import BasicBlocks, RetinaNet
from tests.batches import photographs, targets
from tests.models.comparisons import assert_learns_one_image, same_detections
from tests.models.lively_weights import scramble

EVALUATION = {"min_size": 96, "max_size": 128}
SHAPES = {
    "levels": (3, 4),
    "fpn_channels": 48,
    "head_depth": 1,
    "anchor_sizes": ((14, 20), (28, 40)),
    "aspect_ratios": (1.0,),
    "norm": "trained",
}
TINY = BasicBlocks((1, 1, 1), (4, 8, 8))


@pytest.fixture(scope="module")
def stock() -> detection.RetinaNet:
    return scramble(
        detection.retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=91, **EVALUATION
        )
    )


def test_is_torchvisions_retinanet_both_ways(stock: detection.RetinaNet) -> None:
    ours = RetinaNet("resnet50", 90, **EVALUATION)
    assert isinstance(ours, detection.RetinaNet)
    ours.load_state_dict(stock.state_dict())
    images = photographs((100, 90), (64, 120))
    assert same_detections(ours, stock, images) > 100
    scramble(ours, seed=5)
    stock.load_state_dict(ours.state_dict())
    assert same_detections(ours, stock, images) > 100


def test_training_losses_are_torchvisions(stock: detection.RetinaNet) -> None:
    ours = RetinaNet("resnet50", 90, norm="trained")
    ours.load_state_dict(stock.state_dict())
    images = photographs((96, 96), (96, 128))
    stock.transform._skip_resize = True
    losses, expected = ours.train()(images, targets(2)), stock.train()(images, targets(2))
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize(
    ("backbone", "parameters", "gflop"),
    [
        (BasicBlocks((2, 2, 2), (32, 64, 128)), 796_436, 0.1488),  # the quickstart's teacher
        (BasicBlocks((1, 1, 1), (8, 16, 32)), 113_820, 0.0302),  # and its student
    ],
)
def test_size_of_the_quickstarts_detectors(backbone, parameters: int, gflop: float) -> None:
    model = RetinaNet(backbone, 5, min_size=96, max_size=96, **SHAPES).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        model(photographs((96, 96)))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=1e-4)


def test_size_of_the_blood_cell_student() -> None:
    arguments = {"levels": (3, 5), "fpn_channels": 128, "head_depth": 2, "norm": "trained"}
    sizes = ((16, 22), (40, 52), (76, 108))
    blocks = BasicBlocks((1, 1, 1, 1), (16, 32, 64, 128))
    model = RetinaNet(blocks, 3, anchor_sizes=sizes, aspect_ratios=(0.8, 1.25), **arguments)
    assert sum(p.numel() for p in model.parameters()) == 1_406_576


@pytest.mark.parametrize(
    ("backbone", "levels"),
    [
        ("resnet18", (3, 7)),
        ("resnet34", (2, 5)),
        ("mobilenet_v2", (3, 7)),
        ("mobilenet_v2", (3, 5)),
        (BasicBlocks((1, 1, 1, 1), (4, 8, 8, 8)), (3, 5)),
        (TINY, (3, 4)),
        (TINY, (4, 6)),
    ],
)
def test_a_training_step_reaches_every_parameter(backbone, levels) -> None:
    model = RetinaNet(backbone, 3, levels=levels, fpn_channels=8, head_depth=2, norm="trained")
    losses = model.train()(photographs((64, 96), (96, 64)), targets(2))
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_student_learns_one_image_and_labels_it_from_one() -> None:
    anchors = {"anchor_sizes": ((16,), (32,))}
    assert_learns_one_image(RetinaNet(TINY, 2, min_size=64, max_size=64, **SHAPES | anchors))


def test_images_are_resized_in_evaluation_only() -> None:
    model = RetinaNet(TINY, 2, levels=(3, 4), fpn_channels=8, min_size=64, max_size=64)
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[-2:]))
    model.train()(photographs((96, 128)), targets(1))
    model.eval()(photographs((96, 128)))
    assert seen == [(96, 128), (64, 64)]  # 48 x 64, padded to 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (3, 6)}, r"levels=\(3, 6\).*come as a pair.*or at 7"),
        ({"levels": (3, 8)}, "end at 5 or lower, or at 7"),
        ({"levels": (1, 5)}, "Begin at 2 to 5"),
        ({"levels": (6, 7)}, "has C2 to C5"),
        ({"levels": (4, 3)}, r"levels=\(4, 3\)"),
        ({"head_depth": 0}, "head_depth is 0; expected a number: 1 or more"),
        ({"anchor_sizes": ((8,), (16,))}, r"one for each of the levels \[3, 4, 5, 6, 7\]"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetinaNet("resnet18", 2, **arguments)
