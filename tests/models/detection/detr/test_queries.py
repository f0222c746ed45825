"""Queries are those of evaluation, and their boxes shares of the padded batch."""

import pytest
import torch

from limbeck import Taps
from limbeck.models.detection.detr.families import FAMILIES
from tests.tiny_detrs import batch, every_family, seeded

pytest.importorskip("transformers")


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.masked])
def test_of_an_image_in_a_padded_batch_boxes_are_shares_of_the_image(family: str) -> None:
    model = seeded(family)
    model.transform.fixed_size = None
    model.transform.min_size, model.transform.max_size = (64,), 128
    model.eval()
    large, small = torch.rand(3, 64, 128), torch.rand(3, 64, 64)
    seen = model([large, small])[1]["boxes"]
    assert seen[:, 2].max() <= 64
    with Taps(model, ["query_boxes"]) as taps:
        model([large, small])
    raw = model.network(
        pixel_values=model.transform([large, small])[0].tensors,
        pixel_mask=torch.cat(
            [torch.ones(2, 64, 64), torch.tensor([1.0, 0.0])[:, None, None].expand(2, 64, 64)], 2
        ).long(),
    ).pred_boxes
    shares = torch.tensor([[[1.0, 1, 1, 1]], [[0.5, 1, 0.5, 1]]])
    torch.testing.assert_close(taps["query_boxes"], raw * shares)


@every_family
def test_in_training_its_queries_are_those_of_evaluation(family: str) -> None:
    model = seeded(family).train()
    with Taps(model, ["queries", "query_logits"]) as taps:
        model(*batch())
    assert taps["queries"].shape[:2] == (2, 10)
    assert taps["query_logits"].shape == (2, 10, 3)
