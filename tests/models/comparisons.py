"""What detectors of several families are asked for in the same words."""

import torch
from torch import Tensor, nn

from tests.batches import targets


def same_detections(first: nn.Module, second: nn.Module, images: list[Tensor]) -> int:
    """Assert that both find the same; how many detections there are."""
    with torch.no_grad():
        ours, theirs = first.eval()(images), second.eval()(images)
    for a, b in zip(ours, theirs, strict=True):
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-4)
    return sum(len(found["boxes"]) for found in ours)


def assert_learns_one_image(student: nn.Module) -> None:
    """It finds the one object of an image of 64 pixels, whose label of two is 2, in 60 steps."""
    image, target = torch.zeros(3, 64, 64), targets(1)[0] | {"labels": torch.tensor([2])}
    image[:, 8:48, 8:40] = 1
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    for _ in range(60):
        sum(student.train()([image] * 2, [target] * 2).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    found = student.eval()([image])[0]
    assert found["labels"][0] == 2
    torch.testing.assert_close(found["boxes"][0], target["boxes"][0], atol=4, rtol=0)


def assert_same_losses(ours: nn.Module, stock: nn.Module, batch: tuple) -> None:
    """Bit for bit, with the same draws of samples."""
    losses: list[dict[str, Tensor]] = []
    for model in (ours, stock):
        torch.manual_seed(0)  # of the samples
        losses.append(model(*batch))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(loss, losses[1][name]) for name, loss in losses[0].items())
