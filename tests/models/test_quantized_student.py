"""Quantized students in folders."""

import json
from pathlib import Path

import pytest
import torch

from limbeck.models import Classifier, load_student, load_weights, save_student
from limbeck.models.card import read_card
from limbeck.quantization import calibrate, planned, quantize
from tests import batches, tiny_models


@pytest.fixture(scope="module", params=["classifier", "detector"])
def saved(request, tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    """A quantized model and its folder."""
    model = getattr(tiny_models, request.param)().eval()
    images = batches.pictures()
    given = images if isinstance(model, Classifier) else list(images)
    quantize(model, planned(model, lambda: model(given)))
    calibrate(model, model, [given])
    folder = tmp_path_factory.mktemp(request.param)
    save_student(model, folder)
    return model, folder


def test_it_is_loaded_as_it_was_saved(saved):
    model, folder = saved
    again = load_student(folder)
    assert again.quantization == model.quantization == read_card(folder).quantization
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    images = list(batches.pictures())
    given = torch.stack(images) if isinstance(model, Classifier) else images
    torch.testing.assert_close(again(given), model(given), rtol=0, atol=0)


def test_it_does_not_say_that_others_can_load_it(saved):
    assert json.loads((saved[1] / "student.json").read_text())["without_limbeck"] is None


def test_floats_do_not_take_its_weights(saved):
    model, folder = saved
    fresh = getattr(tiny_models, "classifier" if isinstance(model, Classifier) else "detector")()
    with pytest.raises(ValueError, match=r"are those of a quantized student; expected floats"):
        load_weights(fresh, folder)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (3, r"quantization is 3, expected a mapping"),
        ({"layers": [], "folded": {}}, r"quantization\.layers is \[\], expected a mapping"),
        ({"layers": {"network.fc": 1}, "folded": {}}, r"is 1, expected true or false"),
        ({"layers": {}, "folded": {"a": 1}}, r"quantization\.folded\['a'\] is 1"),
        ({"layers": {"fc": True}, "folded": {}}, r"'fc', which in .* is no module"),
    ],
)
def test_a_card_that_says_anything_else_is_refused(said, expected, tmp_path):
    save_student(tiny_models.classifier(), tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    (tmp_path / "student.json").write_text(json.dumps(card | {"quantization": said}))
    with pytest.raises(ValueError, match=expected) as caught:
        load_student(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "student.json"))


def test_the_licence_of_its_first_weights_stays(tmp_path):
    model = tiny_models.classifier()
    model.licence = "AGPL-3.0"
    save_student(model, tmp_path / "a")
    save_student(load_student(tmp_path / "a"), tmp_path / "b")
    assert read_card(tmp_path / "b").licence == "AGPL-3.0"
