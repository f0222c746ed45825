"""Predictions come back from their file as they were, and give a metric what it would have seen."""

from pathlib import Path

import torch

from limbeck.metrics import COCOAveragePrecision, TopKAccuracy
from limbeck.metrics.predictions import Predictions


def test_classification(tmp_path: Path) -> None:
    logits, truth = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    made = Predictions(
        "classification", ("a", "b/[x]", "c"), torch.ones(5, 2, dtype=torch.long), logits, truth
    )
    made.save(tmp_path / "p.safetensors")
    read = Predictions.load(tmp_path / "p.safetensors")
    assert read.classes == made.classes
    assert torch.equal(torch.stack(list(read.found)), logits)
    top1 = read.measured(TopKAccuracy(3)).compute()["top1"]
    assert top1 == (logits.argmax(1) == truth).float().mean()


def test_detection_with_images_without_boxes(tmp_path: Path) -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    full = {"boxes": box, "labels": torch.tensor([2])}
    none = {"boxes": box[:0], "labels": torch.tensor([], dtype=torch.long)}
    found = [full | {"scores": torch.tensor([0.5])}, none | {"scores": torch.tensor([])}]
    truth = [
        item | {"iscrowd": torch.zeros(len(item["labels"]), dtype=torch.long), "image_id": one}
        for item, one in zip((full, none), torch.tensor([7, 8]), strict=True)
    ]
    made = Predictions("detection", ("a", "b"), torch.full((2, 2), 16), found, truth)
    made.save(tmp_path / "p.safetensors")
    read = Predictions.load(tmp_path / "p.safetensors")
    assert [len(item["labels"]) for item in read.truth] == [1, 0]
    assert torch.equal(read.found[0]["boxes"], box)
    scores = read.measured(COCOAveragePrecision(["a", "b"])).compute()
    assert round(scores["AP"].item(), 3) == 1.0


def test_what_has_no_row_for_each_object_is_left_out(tmp_path: Path) -> None:
    found, truth = [], []
    for count, size in ((2, 8), (3, 9)):
        of_all = {"boxes": torch.rand(count, 4), "labels": torch.ones(count, dtype=torch.long)}
        found.append(of_all | {"scores": torch.rand(count)})
        own = {"image_id": torch.tensor([count]), "masks": torch.zeros(count, size, size)}
        truth.append(of_all | own | ({"weather": torch.zeros(2)} if count == 2 else {}))
    sizes = torch.full((2, 2), 16)
    Predictions("detection", ("a",), sizes, found, truth).save(tmp_path / "p.safetensors")
    read = Predictions.load(tmp_path / "p.safetensors")
    assert read.truth[0].keys() == {"boxes", "labels"}
    assert torch.equal(read.truth[1]["boxes"], truth[1]["boxes"])
