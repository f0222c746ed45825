import numpy as np
import pytest
import torch
from torchvision.models.detection import faster_rcnn, retinanet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from limbeck.models import SSD, BasicBlocks, Classifier, FasterRCNN, RetinaNet, ShuffleDet, YOLOv2
from limbeck.models.detection.parts.anchors import (
    anchor_generator,
    unsuited_side,
)
from limbeck.presets import retinanet_sizes, rpn_sizes

TINY = BasicBlocks((1, 1, 1, 1), (4, 4, 4, 4))


def small(**arguments) -> RetinaNet:
    return RetinaNet(TINY, 2, fpn_channels=8, head_depth=1, **arguments)


def test_default_sizes_are_torchvisions() -> None:
    assert retinanet_sizes(range(3, 8)) == retinanet._default_anchorgen().sizes
    assert rpn_sizes(range(2, 7)) == faster_rcnn._default_anchorgen().sizes


@pytest.mark.parametrize("sizes", [((8,),), ((8,), (16, 20)), ((), ())])
def test_sizes_that_do_not_suit_the_levels_are_refused(sizes) -> None:
    with pytest.raises(ValueError, match=r"expected 2 tuples of sizes.*levels \[3, 4\]"):
        anchor_generator((3, 4), sizes, (1.0,))


def test_sides_that_are_multiples_of_the_coarsest_stride_suit() -> None:
    assert max(small(levels=(3, 5)).strides) == 32
    assert unsuited_side(small(levels=(3, 5)), 240, 320) is None  # padded to 256
    assert unsuited_side(small(), 256, 384) is None


def test_the_message_has_the_stride_that_the_generator_really_takes() -> None:
    model = small()  # P7: 128 pixels
    message = unsuited_side(model, 800, 1280)
    images = ImageList(torch.zeros(1, 3, 800, 1280), [(800, 1280)])
    grid = [torch.zeros(1, 8, -(-800 // s), 1280 // s) for s in model.strides]
    anchors = model.anchor_generator(images, grid)[0]
    rows = (anchors[:, 1::2].mean(1))[-7 * 10 * 9 :].unique()  # the 7 x 10 cells of P7
    taken = (rows.max() - rows.min()).item() / 6
    assert taken == pytest.approx(114, abs=1)
    assert "7 cells at stride 128" in message
    assert "114 pixels apart" in message
    assert f"drift by up to {6 * (128 - 114)} pixels" in message
    assert "height" in message
    assert "width" not in message


def test_the_worst_level_is_named_not_the_coarsest() -> None:
    message = unsuited_side(small(), 128, 96)  # P7 has one column, which cannot drift
    assert "padded width 96 have 2 cells at stride 64" in message
    assert "48 pixels apart, not 64, and drift by up to 16 pixels" in message
    assert message.endswith("multiple of 128, such as 128.")


def test_a_classifier_has_no_anchors() -> None:
    classifier = Classifier(TINY, 2)
    assert unsuited_side(classifier, 33, 33) is None


@pytest.mark.parametrize("preset", ["detectron2", "mmdetection"])
def test_exact_anchors_do_not_drift(preset) -> None:
    assert unsuited_side(small(preset=preset), 800, 1333) is None
    assert unsuited_side(FasterRCNN(TINY, 2, fpn_channels=8, preset=preset), 800, 1333) is None


def grid(generator, sizes) -> list[torch.Tensor]:
    """Anchors of each level of maps of these sizes."""
    maps = [torch.zeros(1, 1, *size) for size in sizes]
    anchors = generator(ImageList(torch.zeros(1, 3, 50, 70), [(50, 70)]), maps)[0]
    counts = [
        m.shape[-2] * m.shape[-1] * c
        for m, c in zip(maps, generator.num_anchors_per_location(), strict=True)
    ]
    return list(anchors.split(counts))


def test_exact_anchors_are_mmdetections(shared) -> None:
    expected = {
        k: torch.from_numpy(v) for k, v in np.load(shared / "golden/head/priors.npz").items()
    }
    ratios = (0.5, 1.0, 2.0)
    sizes = retinanet_sizes(range(3, 8), rounded=False)
    retina = anchor_generator(range(3, 8), sizes, ratios, rounded=False)
    rpn = anchor_generator(range(2, 7), rpn_sizes(range(2, 7)), ratios, rounded=False)
    for k, anchors in enumerate(grid(retina, expected["featmap_sizes"].tolist())):
        assert torch.equal(anchors, expected[f"retina.{k}"][:, :4])
        assert torch.equal(retina.cell_anchors[k], expected["retina_base"][k])
    for k, anchors in enumerate(grid(rpn, expected["rpn_featmap_sizes"].tolist())):
        assert torch.equal(anchors, expected[f"rpn.{k}"])
        assert torch.equal(rpn.cell_anchors[k], expected["rpn_base"][k])


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_anchors_are_in_full_precision_on_half_precision_maps(rounded, dtype) -> None:
    sizes, ratios = retinanet_sizes(range(3, 8), rounded=rounded), (0.5, 1.0, 2.0)
    images = ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)])
    maps = [torch.zeros(1, 1, 2**k, 2**k) for k in (4, 3, 2, 1, 0)]
    generators = [anchor_generator(range(3, 8), sizes, ratios, rounded=rounded) for _ in range(2)]
    full = generators[0](images, maps)[0]
    half = generators[1](images, [m.to(dtype) for m in maps])[0]
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


def test_an_ssd_is_trained_on_images_of_the_size_that_it_resizes_to() -> None:
    model = SSD(TINY, 2, image_size=(64, 96), levels=(3, 6))
    assert unsuited_side(model, 64, 96) is None
    message = unsuited_side(model, 96, 64)
    assert "96 x 64 pixels in training" in message
    assert "size: [64, 96]" in message


def maps_of(size: tuple[int, int], strides) -> tuple[ImageList, list[torch.Tensor]]:
    """A padded batch of two images, and the maps on which its anchors lie."""
    images = ImageList(torch.zeros(2, 3, *size), [size, (size[0], size[1] - 1)])
    return images, [torch.zeros(2, 4, -(-size[0] // s), -(-size[1] // s)) for s in strides]


@pytest.mark.parametrize(
    "detector",
    [
        pytest.param(small, id="RetinaNet"),
        pytest.param(lambda: small(preset="detectron2"), id="RetinaNet, exact"),
        pytest.param(lambda: SSD(TINY, 2, levels=(3, 6), image_size=(64, 64)), id="SSD"),
        pytest.param(lambda: ShuffleDet(0.25, 2, image_size=(64, 96)), id="ShuffleDet"),
        pytest.param(lambda: YOLOv2(0.05, 2, image_size=(64, 96)), id="YOLOv2"),
    ],
)
def test_anchors_of_a_size_are_made_once(detector) -> None:
    model = detector()
    generator = model.anchor_generator
    with torch.inference_mode():
        first = generator(*maps_of((64, 96), model.strides))
    again = generator(*maps_of((64, 96), model.strides))
    assert {id(of_image) for of_image in first + again} == {id(first[0])}
    assert not first[0].is_inference()  # a training step may save them
    other = generator(*maps_of((96, 64), model.strides))[0]
    assert other.shape == first[0].shape
    assert not torch.equal(other, first[0])
    for side in range(2, 12):
        generator(*maps_of((64, 32 * side), model.strides))
    assert len(generator.kept._kept) == 8
    assert torch.equal(generator(*maps_of((64, 96), model.strides))[0], first[0])


def test_kept_anchors_are_torchvisions() -> None:
    model = small()
    images, maps = maps_of((128, 160), model.strides)
    stock = AnchorGenerator(model.anchor_generator.sizes, model.anchor_generator.aspect_ratios)
    for found, expected in zip(
        model.anchor_generator(images, maps), stock(images, maps), strict=True
    ):
        assert torch.equal(found, expected)
