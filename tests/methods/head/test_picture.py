"""Where the cells lie that a batch's regions come from."""

import torch

from limbeck.frame import Frame
from limbeck.methods.head.picture import cells_over_images, regions_picture


def test_cells_lie_where_their_level_has_them():
    maps = [torch.zeros(2, 5, 4, 4), torch.zeros(2, 5, 2, 2)]
    frame = Frame((32, 32), ((32, 32), (24, 32)), None)
    # image, level, y, x, anchor; a level of -1 was proposed by no cell
    positions = [[0, 0, 1, 2, 0], [0, 1, 0, 1, 3], [1, 1, 1, 0, 0], [1, -1, -1, -1, 0]]
    first, second = cells_over_images(maps, torch.tensor(positions), frame)
    expected = torch.zeros(32, 32)
    expected[:16, 16:] = 0.5
    expected[8:16, 16:24] = 0.75  # both levels
    assert torch.equal(first, expected)
    assert second.shape == (24, 32)
    assert torch.equal(second.nonzero()[0], torch.tensor([16, 0]))


def test_regions_of_objects_and_of_the_background_are_told_apart():
    boxes = [torch.eye(4)[:3], torch.empty(0, 4), torch.eye(4)[3:]]
    shown = regions_picture("What is seen.", boxes, torch.tensor([2, 0, 1, 0]))
    objects, others = shown.columns.values()
    assert [each["labels"].tolist() for each in objects] == [[2, 1], [], []]
    assert [len(each["boxes"]) for each in others] == [1, 0, 1]
    assert torch.equal(others[0]["boxes"], torch.eye(4)[1:2])
