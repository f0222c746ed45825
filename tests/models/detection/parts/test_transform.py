import pytest
import torch

from limbeck.models import RetinaNet
from tests.batches import photographs, targets
from tests.models.detection.tiny_detectors import NAMES, every_detector, every_preset, tiny

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
