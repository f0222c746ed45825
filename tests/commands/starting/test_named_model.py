"""What is known of a model without its weights."""

from limbeck.commands.starting.commented import Chosen
from limbeck.commands.starting.named_model import Model
from tests import tiny_models


def test_it_is_counted_without_its_weights() -> None:
    arguments = {**tiny_models.DETECTOR, "weights": Chosen("nowhere.pth", "It is not there.")}
    model = Model("word", "limbeck.models.RetinaNet", arguments, "pyramid")
    assert model.built is not None
    assert {p.device.type for p in model.built.parameters()} == {"meta"}
    assert model.count == sum(p.numel() for p in model.built.parameters()) > 10_000
    assert model.parameters == f"{model.count / 1e6:.2f} M parameters"
    assert model.kind == "RetinaNet"
    assert model.stated["init_args"]["weights"].value == "nowhere.pth"


def test_of_one_on_the_hub_nothing_is_known() -> None:
    model = Model("a/b", "limbeck.models.HuggingFaceDetector", {}, "transformer", hub=True)
    assert model.built is None
    assert model.count is None
    assert model.parameters == "as many parameters as the hub says"
