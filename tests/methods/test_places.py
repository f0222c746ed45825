"""The places that methods take, and the modules that they keep for each."""

import pytest
from torch import nn

from limbeck.methods import MGD, FineGrainedImitation, FitNet
from limbeck.methods.places import PlaceModules


@pytest.mark.parametrize("method", [FitNet, FineGrainedImitation, MGD])
def test_places_that_are_one_string_are_refused(method) -> None:
    """They would be read letter by letter."""
    with pytest.raises(TypeError, match=r"places='C4' is a string; .*\['C4'\]"):
        method("C4")


def test_modules_of_places_whose_names_have_dots() -> None:
    modules = PlaceModules()
    modules["C4.pre"], modules["fpn.0"] = nn.Identity(), nn.ReLU()
    assert "C4.pre" in modules
    assert [name for name, _ in modules.named_children()] == ["C4_pre", "fpn_0"]
    assert modules.at("C4.pre") is modules["C4.pre"]
    assert modules.at("fpn") is modules["fpn.0"]
    assert modules.at("C5") is None


def test_every_place_has_a_name_that_a_module_may_have() -> None:
    """The model itself is "", and torch's ModuleDict has names such as keys for itself."""
    modules = PlaceModules()
    for place in ("", "keys", "at", "training"):
        modules[place] = nn.Linear(1, 1)
        assert place in modules
        assert modules.at(place) is modules[place]
    assert [name for name, _ in modules.named_children()] == [
        "<model>",
        "keys_",
        "at_",
        "training_",
    ]
