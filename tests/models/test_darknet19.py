"""Darknet-19's layers against table 6 of the paper, and its trunk in a detector."""

import pytest
import torch
from torch import nn

from limbeck.models import Classifier, ShuffleDet, YOLOv2, load_student, save_student
from limbeck.models.darknet19 import Darknet19

# (channels, kernel) of table 6, a list for each size of the map: 224, 112, 56, 28, 14, 7.
TABLE = [
    [(32, 3)],
    [(64, 3)],
    [(128, 3), (64, 1), (128, 3)],
    [(256, 3), (128, 1), (256, 3)],
    [(512, 3), (256, 1), (512, 3), (256, 1), (512, 3)],
    [(1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3), (1000, 1)],
]


def test_layers_are_the_papers():
    found: dict[int, list[tuple[int, int]]] = {}

    def note(module, inputs, output):
        found.setdefault(output.shape[-1], []).append((output.shape[1], module.kernel_size[0]))

    with torch.device("meta"):
        network = Darknet19(1000).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network(torch.zeros(1, 3, 224, 224))
    assert list(found) == [224, 112, 56, 28, 14, 7]
    assert list(found.values()) == TABLE


def test_every_activation_is_leaky_and_follows_a_normalisation():
    kinds = [type(m) for m in Darknet19(5, 0.1).modules() if not list(m.children())]
    layer = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    pooled = [kind for kind in kinds if kind is not nn.MaxPool2d]
    assert pooled == layer * 18 + [nn.Conv2d]
    slopes = {m.negative_slope for m in Darknet19(5, 0.1).modules() if hasattr(m, "negative_slope")}
    assert slopes == {0.1}


def test_logits_are_the_mean_over_the_map():
    network = Darknet19(5, 0.05).eval()
    images = torch.rand(2, 3, 64, 96)
    by_hand = network.head(network.features(images)).mean((2, 3))
    torch.testing.assert_close(network(images), by_hand)


@pytest.mark.parametrize("width", [0.01, 0.0, -1.0])
def test_a_width_that_leaves_nothing_is_refused(width):
    with pytest.raises(ValueError, match=rf"width={width}: nothing is left of 32 channels"):
        Darknet19(5, width)


@pytest.mark.parametrize(
    ("network", "width", "detector", "stages"),
    [
        ("limbeck:darknet19", 0.05, YOLOv2, [f"stage{n}" for n in range(1, 7)]),
        (
            "limbeck:shufflenet_v1",
            0.25,
            ShuffleDet,
            ["conv1", "pool1", "group1", "group2", "group3"],
        ),
    ],
)
def test_a_classifier_fills_the_trunk_of_its_detector(network, width, detector, stages, tmp_path):
    """Base training on ImageNet, then the detector."""
    classifier = Classifier(network, 7, arguments={"width": width}, mean=(0.4, 0.5, 0.6)).eval()
    for buffer in classifier.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 1.5)
    save_student(classifier, tmp_path)
    model = detector(width, 2, weights=tmp_path)
    trained = classifier.network.features.state_dict()
    features = model.backbone.features
    assert [name for name, _ in features.named_children()][: len(stages)] == stages
    filled = {name: value for name, value in features.state_dict().items() if name in trained}
    assert filled.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in filled.items())
    assert model.transform.image_mean == [0.4, 0.5, 0.6]  # as the trunk was trained


def test_a_classifier_is_kept_and_built_again(tmp_path):
    classifier = Classifier("darknet19", 4, arguments={"width": 0.05}).eval()
    assert classifier.build.init_args["network"] == "limbeck:darknet19"
    assert classifier.without_limbeck() is None  # no library but limbeck has this network
    save_student(classifier, tmp_path)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(load_student(tmp_path)(images), classifier(images))


def test_errors_name_limbecks_own_networks():
    with pytest.raises(ValueError, match="one of limbeck:darknet19, limbeck:shufflenet_v1"):
        Classifier("limbeck:darknet18", 2)
    with pytest.raises(ValueError, match=r"do not suit limbeck:darknet19: .*'widht'"):
        Classifier("limbeck:darknet19", 2, arguments={"widht": 1.0})
