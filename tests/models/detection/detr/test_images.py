"""Images are prepared as the processors of the library prepare them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.models import HuggingFaceDetector, save_student
from tests.tiny_detrs import FRAME, config

transformers = pytest.importorskip("transformers")

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def described(tmp_path: Path, stated: dict[str, Any], family: str = "detr") -> str:
    """A folder of a network, with a file that says how its images are prepared."""
    (tmp_path / "config.json").write_text(json.dumps(config(family)))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "large"),
    [
        ({"image_size": FRAME}, (500, 300)),
        ({"min_size": 64, "max_size": 128}, (300, 500)),
        ({"min_size": 64, "max_size": 90}, (500, 300)),
        ({"min_size": 160, "max_size": 320}, (99, 130)),
    ],
)
def test_the_librarys_processor_prepares_images_as_the_detector_does(
    sizes: dict[str, Any], large: tuple[int, int], tmp_path: Path
) -> None:
    model = HuggingFaceDetector(
        config("detr"), 3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), **sizes
    ).eval()
    save_student(model, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, *large), dtype=torch.uint8)
    theirs = processor(images=image, return_tensors="pt")["pixel_values"]
    ours, _ = model.transform([image / 255])
    assert ours.image_sizes == [tuple(theirs.shape[-2:])]
    height, width = ours.image_sizes[0]
    inside = ours.tensors[..., :height, :width]  # the detector pads to multiples of 32
    torch.testing.assert_close(
        inside, theirs, rtol=0, atol=1.01 / 255 / 0.4
    )  # 8 bits are rounded twice


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"size": 800, "max_size": 1333}, (None, 800, 1333)),  # as DETR's own files say it
        ({"size": 800}, (None, 800, 1333)),
        ({"size": {"shortest_edge": 480, "longest_edge": 640}}, (None, 480, 640)),
        ({"size": {"height": 320, "width": 640}}, ([320, 640], None, None)),
        ({}, ([640, 640], None, None)),
    ],
)
def test_sizes_are_those_of_the_networks_own_file(
    stated: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    found = HuggingFaceDetector(described(tmp_path, stated), 3).arguments
    assert (found["image_size"], found["min_size"], found["max_size"]) == expected


def test_a_size_that_is_not_understood_is_named_and_may_be_given(tmp_path: Path) -> None:
    network = described(tmp_path, {"size": {"max_height": 640, "max_width": 480}})
    with pytest.raises(ValueError, match=r"preprocessor_config\.json.*max_height.*Give image_size"):
        HuggingFaceDetector(network, 3)
    assert HuggingFaceDetector(network, 3, min_size=64).arguments["min_size"] == 64


@pytest.mark.parametrize(
    ("family", "stated", "mean", "std"),
    [
        ("rt_detr", {}, [0.0] * 3, [1.0] * 3),
        ("rt_detr", {"do_normalize": False, "image_mean": [0.5] * 3}, [0.0] * 3, [1.0] * 3),
        ("rt_detr", {"do_normalize": True}, *IMAGENET.values()),
        ("detr", {"image_mean": None}, *IMAGENET.values()),
        ("detr", {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, [0.5] * 3, [0.25] * 3),
        ("detr", {"do_rescale": False, "image_mean": [51.0] * 3}, [0.2] * 3, None),
        ("detr", {"rescale_factor": 2 / 255, "image_std": [0.5] * 3}, None, [0.25] * 3),
    ],
)
def test_the_network_sees_the_pixels_that_its_own_file_says(
    family: str, stated: dict[str, Any], mean: Any, std: Any, tmp_path: Path
) -> None:
    found = HuggingFaceDetector(described(tmp_path, stated, family), 3).arguments
    assert mean is None or found["mean"] == pytest.approx(mean)
    assert std is None or found["std"] == pytest.approx(std)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"size": {"height": "a", "width": 64}}, r"size is .*; expected a number of pixels, or"),
        ({"image_mean": [0.1, 0.2]}, r"image_mean is \[0\.1, 0\.2\]; expected three numbers"),
        ({"image_std": 0.5}, r"image_std is 0\.5; expected three numbers"),
        ({"rescale_factor": 0}, r"rescale_factor is 0; expected a number other than 0"),
        ({"do_rescale": "yes"}, r"do_rescale is 'yes'; expected true or false"),
    ],
)
def test_what_is_no_value_of_a_processors_is_named(
    stated: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json of the network: {said}"):
        HuggingFaceDetector(described(tmp_path, stated), 3)
