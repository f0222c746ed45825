import pytest
import timm
import torch
from torch import nn
from torchvision import models

from limbeck.frame import Frame, explained_size, foreground_classes, network_frame, own_size
from tests import small_models, tiny_models


def sizes(detector, images):
    """What the transform makes of the images: the padded batch, and each content."""
    transformed, _ = detector.transform(images)
    return tuple(transformed.tensors.shape[-2:]), [tuple(s) for s in transformed.image_sizes]


@pytest.fixture
def images():
    return [torch.rand(3, 50, 64), torch.rand(3, 64, 40)]


@pytest.mark.parametrize("training", [False, True])
def test_no_resizing_within_and_resizing_afterwards(images, training):
    detector = small_models.retinanet().train(training)
    outside = sizes(detector, images)
    assert outside[1] == [(800, 1024), (1280, 800)]
    with network_frame(detector):
        assert sizes(detector, images) == ((64, 64), [(50, 64), (64, 40)])
    assert sizes(detector, images) == outside
    assert "resize" not in vars(detector.transform)


def test_resizing_is_back_after_an_exception(images):
    detector = small_models.retinanet().eval()
    with pytest.raises(KeyError), network_frame(detector):
        raise KeyError
    assert sizes(detector, images)[0] == (1280, 1024)


def test_pixels_are_only_normalised_and_boxes_stay(images):
    detector = small_models.retinanet().eval()
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}] * 2
    with network_frame(detector):
        batch, framed = detector.transform(images, targets)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    assert torch.allclose(batch.tensors[0, :, :50, :64], (images[0] - mean) / std)
    assert torch.equal(framed[1]["boxes"], boxes)


def test_predictions_are_in_the_frame(images):
    """Without resizing, boxes come out in the pixels that went in."""
    detector = small_models.faster_rcnn().eval()
    with torch.no_grad(), network_frame(detector):
        found = detector(images)
    for image, detections in zip(images, found, strict=True):
        height, width = image.shape[-2:]
        limits = torch.tensor([width, height, width, height])
        assert len(detections["boxes"])
        assert (detections["boxes"] <= limits).all()


def test_several_models_and_none(images):
    first, second = small_models.retinanet().eval(), small_models.faster_rcnn().eval()
    nested = nn.ModuleDict({"inner": second})
    with network_frame(first, None, nested):
        assert sizes(first, images)[0] == sizes(second, images)[0] == (64, 64)
    assert sizes(second, images)[0] == (1280, 1024)


def test_twice_over_one_transform(images):
    detector = small_models.retinanet().eval()
    with network_frame(detector):
        with network_frame(detector, detector):
            pass
        assert sizes(detector, images)[0] == (64, 64)
    assert sizes(detector, images)[0] == (1280, 1024)


def test_a_resize_of_the_users_own_comes_back(images):
    detector = small_models.retinanet().eval()
    detector.transform.resize = lambda image, target=None: (image[:, :32, :32], target)
    with network_frame(detector):
        assert sizes(detector, images)[0] == (64, 64)
    assert sizes(detector, images)[0] == (32, 32)


def test_frame_of_a_transformed_batch(images):
    detector = small_models.retinanet()
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}] * 2
    with network_frame(detector):
        frame = Frame.of(detector.transform(images, targets))
    assert (frame.size, frame.image_sizes) == ((64, 64), ((50, 64), (64, 40)))
    assert torch.equal(frame.targets[0]["boxes"], boxes)


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("vit_tiny_patch16_224", {}, (224, 224)),
        ("vit_tiny_patch16_224", {"img_size": (96, 128)}, (96, 128)),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, None),
        ("deit_tiny_patch16_224", {}, (224, 224)),
        ("swin_tiny_patch4_window7_224", {}, (224, 224)),
        ("mixer_s32_224", {}, (224, 224)),
        ("levit_128s", {}, (224, 224)),
        ("resnet18", {}, None),
        ("mobilenetv3_small_050", {}, None),
    ],
)
def test_timms_networks_say_which_size_they_are_made_for(name, arguments, size):
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    assert own_size(model) == size
    assert own_size(nn.Sequential(nn.Identity(), model)) == size


def test_torchvisions_networks_do_too():
    with torch.device("meta"):
        assert own_size(models.vit_b_16(image_size=160)) == (160, 160)
        assert own_size(models.maxvit_t()) == (224, 224)
        assert own_size(models.swin_t()) is None
        assert own_size(small_models.resnet()) is None


def test_the_classes_of_detectors_are_known_without_the_background():
    detectors = (small_models.retinanet(), small_models.faster_rcnn(), small_models.fcos())
    assert {foreground_classes(detector) for detector in detectors} == {small_models.CLASSES}
    assert foreground_classes(tiny_models.detector()) == 5
    assert foreground_classes(small_models.resnet()) is None


def test_an_error_about_input_that_is_no_images_stays_what_it_is():
    pixels = {"pixel_values": torch.rand(1, 3, 8, 8)}  # as Hugging Face's models take them
    with (
        pytest.raises(ValueError, match="mine"),
        explained_size("student", nn.Linear(1, 1), pixels),
    ):
        raise ValueError("mine")
