import pytest
import torch
from torch import nn

from limbeck.models.state_dicts import load_strictly


def test_a_misfit_says_names_and_both_shapes() -> None:
    wrong = {"weight": torch.zeros(4, 2), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"file.pth does not fit") as error:
        load_strictly(nn.Linear(2, 3), wrong, "file.pth", "Do this.")
    message = str(error.value)
    assert all(word in message for word in ('"bias"', '"extra"', "[4, 2]", "[3, 2]", "Do this."))


def test_what_is_missing_is_named_with_what_is_left_over_and_like_it() -> None:
    network = nn.ModuleDict({"conv1": nn.Linear(2, 2), "bn1": nn.BatchNorm1d(2)})
    tensors = {name.replace("conv1", "conv_1"): v for name, v in network.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit") as error:
        load_strictly(network, tensors, "file.pth", "")
    assert 'nearest to "conv1.weight" is "conv_1.weight"' in str(error.value)
    assert 'nearest to "conv1.bias" is "conv_1.bias"' in str(error.value)
    assert "bn1" not in str(error.value)


def test_nothing_is_called_near_that_is_not() -> None:
    with pytest.raises(ValueError, match="does not fit") as error:
        load_strictly(nn.Linear(2, 3), {"features.0": torch.zeros(1)}, "file.pth", "")
    assert "nearest" not in str(error.value)


def test_a_misfit_everywhere_is_cut_short() -> None:
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
    wrong = {name: torch.zeros(5) for name in network.state_dict()}
    with pytest.raises(ValueError, match="and 74 more") as error:
        load_strictly(network, wrong, "file.pth", "Do this.")
    assert len(str(error.value)) < 2000
