"""Published weights by their names. That they are fetched and fit: ``test_weights.py``."""

import pytest
from timm.data import IMAGENET_DEFAULT_MEAN

from limbeck.models.published import input_of


@pytest.mark.parametrize(
    ("network", "weights", "mean"),
    [
        ("torchvision:efficientnet_v2_l", "torchvision:IMAGENET1K_V1", (0.5,) * 3),
        ("torchvision:efficientnet_v2_l", "torchvision:backbone", (0.5,) * 3),
        ("torchvision:inception_v3", "torchvision:DEFAULT", (0.5,) * 3),
        ("torchvision:vgg16", "torchvision:IMAGENET1K_FEATURES", (0.48235, 0.45882, 0.40784)),
        ("torchvision:resnet18", "torchvision:IMAGENET1K_V1", IMAGENET_DEFAULT_MEAN),
        ("timm:tf_efficientnet_b0", "timm:ap_in1k", (0.5,) * 3),
        ("timm:tf_efficientnet_b0", "timm:aa_in1k", IMAGENET_DEFAULT_MEAN),
        ("timm:vit_base_patch16_224", "timm:augreg_in21k", (0.5,) * 3),
        ("timm:vit_base_patch16_224", "timm:dino", IMAGENET_DEFAULT_MEAN),
    ],
)
def test_published_weights_say_what_their_input_is(network, weights, mean) -> None:
    assert input_of(network, weights)["mean"] == pytest.approx(mean, abs=1e-5)


def test_a_network_without_published_weights_says_what_its_own_input_is() -> None:
    assert input_of("timm:test_resnet", None)["mean"] == (0.5, 0.5, 0.5)
    assert input_of("timm:test_resnet", "a.pth")["mean"] == (0.5, 0.5, 0.5)
    assert input_of("torchvision:resnet18", None) == {}
    assert input_of("torchvision:resnet18", "torchvision:nothing") == {}


def test_a_tag_that_timm_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weights='timm:bogus'.*Give one of timm.list_pretrained"):
        input_of("timm:test_resnet", "timm:bogus")
