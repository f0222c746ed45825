import pytest
import timm
import torch
import torchvision
from torch import nn

from limbeck import Distillation, Taps, landmarks
from limbeck.methods import ReviewKD
from limbeck.models import Classifier
from limbeck.models.resnet import BasicBlocks


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (lambda: torchvision.models.resnet18(), "fc:input"),
        (lambda: torchvision.models.shufflenet_v2_x0_5(), "fc:input"),  # pooled by a function
        (lambda: torchvision.models.mobilenet_v2(), "classifier.0:input"),
        (lambda: torchvision.models.mobilenet_v3_small(), "classifier.2:input"),
        (lambda: timm.create_model("resnet26"), "fc:input"),
        (lambda: timm.create_model("mobilenetv1_100"), "classifier:input"),
        (lambda: timm.create_model("convnext_atto"), "head.drop:input"),
        (lambda: Classifier("limbeck:shufflenet_v1", 3), "network.fc:input"),
        (lambda: Classifier(BasicBlocks((1, 1), (8, 16)), 3), "network.fc:input"),
    ],
)
def test_pooled_is_what_the_last_linear_layer_takes_without_its_dropout(model, place):
    model = model()
    assert str(landmarks(model)["pooled"]) == place
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad(), Taps(model.eval(), ["pooled", "logits"]) as seen:
        model(torch.rand(2, 3, 64, 64))
    assert seen["pooled"].dim() == 2
    torch.testing.assert_close(last(seen["pooled"]), seen["logits"])


@pytest.mark.parametrize(
    "model",
    [
        lambda: torchvision.models.squeezenet1_1(),
        lambda: Classifier("limbeck:darknet19", 3),
        lambda: timm.create_model("resnet26", num_classes=0),
    ],
)
def test_networks_that_end_in_no_linear_layer_have_no_pooled_vector(model):
    assert {"C4", "logits"} <= landmarks(model()).keys()
    assert "pooled" not in landmarks(model())


def test_a_dropout_in_place_does_not_take_the_pooled_vector_away() -> None:
    # In training alone it overwrites what it gets; the dry pass is in evaluation mode.
    student = torchvision.models.mobilenet_v3_small(num_classes=5)
    teacher = torchvision.models.resnet18(num_classes=5)
    pair = Distillation(student, teacher, [ReviewKD(["C5", "pooled"])]).train()
    losses = pair(torch.rand(2, 3, 64, 64), torch.tensor([0, 4]))
    losses.total.backward()
    assert losses.total.isfinite()
