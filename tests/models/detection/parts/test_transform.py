import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from limbeck.models import SSD, RetinaNet, YOLOv2
from tests.batches import photographs, targets
from tests.models.detection.tiny_detectors import NAMES, TINY, every_detector, every_preset, tiny

STD = (0.3, 0.2, 0.1)
BOXES = torch.tensor([[0.0, 0, 40, 40], [0, 0, 20, 80]])


@pytest.mark.parametrize(
    ("size", "down", "nearest"),
    [
        ((480, 640), (800, 1066), (800, 1067)),
        ((500, 334), (1197, 799), (1198, 800)),
        ((427, 640), (800, 1199), (800, 1199)),
        ((200, 1000), (266, 1333), (267, 1333)),
    ],
)
def test_sizes_are_rounded(size, down, nearest) -> None:
    for preset, expected in zip(NAMES, (down, nearest, nearest), strict=True):
        transform = tiny(RetinaNet, preset).eval().transform
        image, target = transform.resize(torch.zeros(3, *size), {"boxes": BOXES.clone()})
        assert image.shape[-2:] == expected
        scale = torch.tensor(expected) / torch.tensor(size)
        torch.testing.assert_close(target["boxes"], BOXES * scale.flip(0).repeat(2))


def test_detectron2_smooths_what_it_shrinks() -> None:
    checks = (torch.arange(128.0)[:, None] + torch.arange(128)).fmod(2).expand(3, 128, 128)
    spread = {}
    for preset in NAMES:
        transform = tiny(RetinaNet, preset, min_size=50, max_size=60).eval().transform
        spread[preset] = transform.resize(checks)[0].std().item()
    assert spread["detectron2"] < 0.1 < min(spread["torchvision"], spread["mmdetection"])


@every_detector
@every_preset
def test_images_are_resized_in_evaluation_only(kind, preset) -> None:
    model = tiny(kind, preset, min_size=64, max_size=64)
    seen = []
    model.backbone.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[-2:]))
    model.train()(photographs((96, 128)), targets(1))
    model.eval()(photographs((96, 128)))
    assert seen == [(96, 128), (64, 64)]  # 48 x 64, padded to 32


@every_detector
@every_preset
@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (0, 5), (5, 0)])
def test_images_of_which_nothing_is_left_are_refused(kind, preset, size) -> None:
    detector = tiny(kind, preset, max_size=100).eval()
    with pytest.raises(ValueError, match=r"^images\[1\] is .* resizing leaves no pixel; expected"):
        detector([torch.rand(3, 8, 8), torch.rand(3, *size)])
    assert len(detector([torch.rand(3, 1, 1), torch.rand(3, 1, 90)])) == 2


@pytest.mark.parametrize(
    "detector",
    [
        pytest.param(lambda: tiny(RetinaNet, "torchvision"), id="RetinaNet"),
        pytest.param(lambda: SSD(TINY, 3, levels=(3, 6), image_size=(96, 64)), id="SSD"),
        pytest.param(
            lambda: YOLOv2(0.05, 3, image_size=(64, 96), std=(0.3, 0.2, 0.1)), id="YOLOv2"
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [((96, 64), (70, 64)), ((64, 96), (64, 96)), ((40, 96),) * 2])
def test_batches_are_torchvisions_to_the_last_bit(detector, training, sizes) -> None:
    ours = detector().transform.train(training)
    stock = GeneralizedRCNNTransform(
        ours.min_size,
        ours.max_size,
        ours.image_mean,
        ours.image_std,
        ours.size_divisible,
        ours.fixed_size,
        _skip_resize=True,
    ).train(training)
    images = photographs(*sizes)
    (found, found_targets), (expected, expected_targets) = (
        transform(images, targets(2)) for transform in (ours, stock)
    )
    assert torch.equal(found.tensors, expected.tensors)
    assert found.image_sizes == expected.image_sizes
    for one, other in zip(found_targets, expected_targets, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])
    assert torch.equal(images[0], photographs(*sizes)[0])  # normalised in a copy


def test_constants_go_with_the_model_and_into_no_checkpoint() -> None:
    model = tiny(RetinaNet, "torchvision")
    assert not any(name.startswith("transform.") for name in model.state_dict())
    assert model.to("meta").transform.mean.device.type == "meta"


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"torch\.uint8: expected float in \[0, 1\]"):
        tiny(RetinaNet, "torchvision").transform([torch.zeros(3, 64, 64, dtype=torch.uint8)])
