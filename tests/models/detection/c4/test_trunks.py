"""Trunks that end at C4: what is frozen, and what a classifier's weights fill."""

import pytest
import torch
from torchvision.models import mobilenet_v2, resnet18, vgg11, vgg16

from limbeck.models import FasterRCNNC4
from limbeck.models.detection.c4.trunks import StageHead, VGGHead
from tests.models.detection.c4.small_c4 import TINY, narrow, small


@narrow
@pytest.mark.parametrize(
    ("backbone", "count", "last"), [("vgg16", 4, "7"), ("vgg11", 3, "6"), (TINY, 2, "layer1")]
)
def test_frozen_stages(backbone, count, last) -> None:
    trunk = small(backbone, frozen_stages=count).backbone
    names = [name for name, _ in trunk.named_children()]
    below = names[: names.index(last) + 1]
    frozen = [name for name, p in trunk.named_parameters() if not p.requires_grad]
    assert frozen == [n for n, _ in trunk.named_parameters() if n.partition(".")[0] in below]


@pytest.mark.parametrize("make", [vgg11, vgg16])
def test_a_vgg_fills_trunk_and_fully_connected_layers(make, narrow_vggs, tmp_path) -> None:
    with torch.device("meta"):
        features = make().features.state_dict()
    tensors = {f"features.{name}": torch.randn(value.shape) for name, value in features.items()}
    # A narrow classifier would be torchvision's but for its widths.
    tensors |= {"classifier.6.weight": torch.randn(7, 32), "classifier.6.bias": torch.randn(7)}
    tensors |= {f"classifier.{i}.weight": torch.randn(32, n) for i, n in ((0, 16 * 49), (3, 32))}
    tensors |= {f"classifier.{i}.bias": torch.randn(32) for i in (0, 3)}
    torch.save(tensors, tmp_path / "vgg.pth")
    model = small(make.__name__, weights=tmp_path / "vgg.pth")
    assert isinstance(model.roi_heads.box_head, VGGHead)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, tensors[f"features.{name}"])
    for name, place in (("fc6", 0), ("fc7", 3)):
        assert torch.equal(
            model.roi_heads.box_head.get_submodule(name).weight,
            tensors[f"classifier.{place}.weight"],
        )
    caffe = small(make.__name__, weights=f"fgfi:{tmp_path / 'vgg.pth'}")
    assert torch.equal(caffe.backbone[0].weight, tensors["features.0.weight"].flip(1))
    assert caffe.transform.image_std == pytest.approx([1 / 255] * 3)
    assert caffe.transform.image_mean[0] * 255 == pytest.approx(122.7717)
    assert caffe.published == (f"torchvision:{make.__name__}",)


@pytest.mark.parametrize("width", [None, 8])
def test_another_classifier_is_refused(width) -> None:
    tensors = small(box_head_channels=width).backbone.state_dict()
    for place in ("conv1.bias", "layer5.0.conv1.weight"):
        part, renamed = small(box_head_channels=width).part_for(tensors | {place: torch.ones(1)})
        with pytest.raises(RuntimeError, match=place):
            part.load_state_dict(renamed)


@narrow
@pytest.mark.parametrize("width", [None, 8])
def test_a_trunk_alone_leaves_the_box_head_as_it_is(width) -> None:
    """As torchvision publishes VGG16's features: the rest of the file is NaN."""
    model = small("vgg16", box_head_channels=width)
    head = model.roi_heads.box_head.fc6.weight.clone()
    features = model.backbone.state_dict().items()
    given = {f"features.{name}": torch.randn(value.shape) for name, value in features}
    nan = {"classifier.0.weight": torch.full(head.shape, torch.nan)}
    for tensors in (given, given | nan):
        part, renamed = model.part_for(tensors)
        part.load_state_dict(renamed)
        assert torch.equal(model.backbone[0].weight, given["features.0.weight"])
        assert torch.equal(model.roi_heads.box_head.fc6.weight, head)


@pytest.mark.parametrize("make", [resnet18, mobilenet_v2])
def test_a_classifier_fills_the_last_stages_too(make, tmp_path) -> None:
    torch.manual_seed(1)
    network = make().eval()
    torch.save(network.state_dict(), tmp_path / "classifier.pth")
    model = FasterRCNNC4(make.__name__, 3, weights=tmp_path / "classifier.pth").eval()
    assert isinstance(model.roi_heads.box_head, StageHead)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = model.roi_heads.box_head(model.backbone(image)).flatten(1)
        logits = (network.fc if make is resnet18 else network.classifier)(features)
        torch.testing.assert_close(logits, network(image), rtol=1e-3, atol=1e-4)
