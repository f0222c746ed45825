"""Every family has the losses of its library, and places with the field's names."""

import pytest
import torch

from limbeck import Taps, landmarks
from limbeck.models import HuggingFaceDetector
from limbeck.models.detection.detr.families import FAMILIES
from tests.tiny_detrs import CONFIGS, FRAME, batch, config, every_family, seeded

pytest.importorskip("transformers")


def test_there_is_a_tiny_one_of_every_family() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@every_family
def test_its_losses_are_the_librarys(family: str) -> None:
    model = seeded(family).train()
    images, targets = batch()
    images, targets = images[:1] * 2, targets[:1] * 2  # of one size: there is no padding
    torch.manual_seed(3)
    ours = model(images, targets)
    labels = [
        {
            "class_labels": t["labels"] - 1,
            "boxes": torch.tensor([[22.5, 22.5, 35, 35], [90, 30, 60, 40]])
            / torch.tensor([128.0, 64, 128, 64]),
        }
        for t in targets
    ]
    pixels = model.transform(images)[0].tensors
    torch.manual_seed(3)
    theirs = model.network(pixel_values=pixels, labels=labels).loss
    torch.testing.assert_close(sum(ours.values()), theirs)
    assert {"bbox", "giou"} < set(ours)
    assert "cardinality_error" not in ours


@every_family
def test_its_places_have_the_fields_names(family: str) -> None:
    model = seeded(family).eval()
    names = list(landmarks(model))
    with Taps(model, names) as taps:
        model([torch.rand(3, *FRAME)])
    strides = {name: int(name[1]) for name in names if name[0] in "CP" and name[1:].isdigit()}
    assert strides
    for name, level in strides.items():
        assert taps[name].shape[-2:] == (64 >> level, 128 >> level), name
    assert [m.shape[-1] for m in taps["maps"]] == [
        128 >> level for name, level in strides.items() if name[0] == "P"
    ]
    assert taps["queries"].shape[:2] == (1, 10)
    assert taps["query_logits"].shape == (1, 10, 3)
    assert taps["query_boxes"].shape == (1, 10, 4)


def test_of_a_two_stage_deformable_detr_what_learns_nothing_is_frozen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stated = config("deformable_detr", two_stage=True, two_stage_num_proposals=10)
    model = HuggingFaceDetector(stated, 3, image_size=FRAME).train()
    assert "keep their weights" in caplog.text
    sum(model(*batch()).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
