"""Queries are those of evaluation, and their boxes shares of the padded batch."""

import pytest
import torch

from limbeck import Taps
from limbeck.models.detection.detr.families import FAMILIES
from limbeck.models.detection.detr.queries import Queries
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


def test_log_odds_of_a_softmax_are_its_probabilities_and_always_finite() -> None:
    logits = torch.tensor([[[0.5, -1.0, 2.0], [300.0, -300.0, 0.0], [-200.0, 1.0, 500.0]]])
    logits.requires_grad_()
    boxes = torch.full((1, 3, 4), 0.5)
    output = {"last_hidden_state": boxes, "logits": logits, "pred_boxes": boxes}
    found = Queries(3, background=True)(output, torch.ones(1, 1, 4))["logits"]
    torch.testing.assert_close(found.sigmoid(), logits.softmax(-1)[..., :2], rtol=1e-5, atol=1e-5)
    assert found.isfinite().all()
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
