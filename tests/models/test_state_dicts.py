from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from limbeck.models.state_dicts import load_strictly, read_tensors

TENSORS = {"weight": torch.arange(6.0).view(3, 2), "bias": torch.ones(3)}


@pytest.mark.parametrize(
    "kept",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS},
        {f"module.{name}": value for name, value in TENSORS.items()},
        {"model": {f"module.{name}": value for name, value in TENSORS.items()}},
    ],
)
def test_containers_and_prefixes_are_taken_off(kept: dict, tmp_path: Path) -> None:
    torch.save(kept, tmp_path / "kept.pth")
    read = read_tensors(tmp_path / "kept.pth")
    assert list(read) == ["weight", "bias"]
    assert torch.equal(read["weight"], TENSORS["weight"])


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "kept.safetensors")
    assert torch.equal(read_tensors(tmp_path / "kept.safetensors")["weight"], TENSORS["weight"])


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"epoch": 3, "loss": 0.5}, r"found \['epoch', 'loss'\]"),
        ({}, "holds no state dict"),
        ([1, 2], "list"),
        (nn.Linear(2, 3), "cannot be read as weights"),
    ],
)
def test_files_of_something_else_are_refused(kept, message: str, tmp_path: Path) -> None:
    torch.save(kept, tmp_path / "kept.pth")
    with pytest.raises(ValueError, match=message) as error:
        read_tensors(tmp_path / "kept.pth")
    assert "kept.pth" in str(error.value)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match=rf"{name} cannot be read as weights"):
        read_tensors(tmp_path / name)


def test_a_misfit_says_names_and_both_shapes() -> None:
    wrong = {"weight": torch.zeros(4, 2), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"file.pth does not fit") as error:
        load_strictly(nn.Linear(2, 3), wrong, "file.pth", "Do this.")
    message = str(error.value)
    assert all(word in message for word in ('"bias"', '"extra"', "[4, 2]", "[3, 2]", "Do this."))


def test_a_misfit_everywhere_is_cut_short() -> None:
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(40)))
    wrong = {name: torch.zeros(5) for name in network.state_dict()}
    with pytest.raises(ValueError, match="and 74 more") as error:
        load_strictly(network, wrong, "file.pth", "Do this.")
    assert len(str(error.value)) < 2000
