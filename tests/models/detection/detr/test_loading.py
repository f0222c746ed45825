"""Weights of the library's: of which classes they are, and what is no such weights."""

import json
from pathlib import Path

import pytest
import torch

from limbeck.models import HuggingFaceDetector
from tests.tiny_detrs import FRAME, config, detector

pytest.importorskip("transformers")

NAMES = ["N/A", "person", "bicycle", "N/A", "car"]  # as COCO's numbers have gaps


@pytest.fixture(scope="module", params=["rt_detr", "detr", "rf_detr"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the library's with five classes, of which three have a name."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(3)
    model = detector(request.param, num_classes=len(NAMES))
    for parameter in model.network.parameters():  # rows that are all alike could not be told apart
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.network.config.id2label = dict(enumerate(NAMES))
    model.network.save_pretrained(folder)
    return folder


def test_classes_without_a_name_are_left_out(published: Path) -> None:
    ours = HuggingFaceDetector(str(published), 3, weights=published)
    stated = HuggingFaceDetector(str(published), 3, weights=published, class_numbers=[1, 2, 4])
    for name, tensor in ours.network.state_dict().items():
        assert torch.equal(tensor, stated.network.state_dict()[name]), name


@pytest.mark.parametrize("published", ["detr"], indirect=True)  # others choose queries by class
def test_the_logits_are_those_of_the_classes_taken(published: Path) -> None:
    image = torch.rand(1, 3, *FRAME)
    whole, ours = (
        HuggingFaceDetector(str(published), count, weights=published).eval().network(image).logits
        for count in (5, 3)
    )
    torch.testing.assert_close(ours, whole[..., [1, 2, 4, 5]])  # the last one is the background


@pytest.mark.parametrize("numbers", [[4, 1], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
def test_classes_are_taken_by_their_numbers(published: Path, numbers: list[int]) -> None:
    whole = HuggingFaceDetector(str(published), 5, weights=published).network.state_dict()
    model = HuggingFaceDetector(
        str(published), len(numbers), weights=published, class_numbers=numbers
    )
    differing = 0
    for name, tensor in model.network.state_dict().items():
        if tensor.shape == whole[name].shape and torch.equal(tensor, whole[name]):
            continue
        differing += 1
        assert torch.equal(tensor[: len(numbers)], whole[name][numbers]), name
        assert torch.equal(tensor[len(numbers) :], whole[name][5:]), name
    assert (differing > 0) == (numbers != [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("count", "numbers", "said"),
    [
        (2, [1], "has 1 numbers; expected num_classes=2"),
        (2, [1, 5], "has the number 5"),
        (2, [1, -1], "has the number -1"),
    ],
)
def test_impossible_numbers_are_named(
    published: Path, count: int, numbers: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        HuggingFaceDetector(str(published), count, weights=published, class_numbers=numbers)


def test_numbers_need_names_to_count_in(published: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((published / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"no config\.json that names their classes"):
        HuggingFaceDetector(str(published), 2, weights=tmp_path, class_numbers=[1, 2])


@pytest.mark.parametrize("names", [{"0": "a", "2": "b"}, ["a", "b"], 3])
def test_names_have_to_be_of_numbers(published: Path, tmp_path: Path, names: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    with pytest.raises(ValueError, match="expected a name for each number from 0 on"):
        HuggingFaceDetector(str(published), 5, weights=tmp_path)


def test_an_adapter_is_no_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="an adapter of peft's"):
        HuggingFaceDetector(config("rt_detr"), 3, weights=tmp_path)
