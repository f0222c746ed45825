"""Regions of one map, pooled in three ways, on maps whose samples are known in closed form."""

import pytest
import torch
from torch import Tensor

from limbeck.models.detection.c4.pooling import SingleMapPooling

HEIGHT, WIDTH = 8, 12
BOX = torch.tensor([[32.0, 16.0, 129.0, 81.0]])  # inclusive: the cells 2 to 8 and 1 to 5


def ramp() -> Tensor:
    """One channel counts the columns of the map, the other one the rows."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([columns, rows])[None].float()


def pooled(kind: str, size: int, features: Tensor | None = None) -> Tensor:
    maps = {"any name": ramp() if features is None else features}
    return SingleMapPooling(kind, 16, size)(maps, [BOX], [])[0]


def test_crop_samples_from_border_to_border() -> None:
    columns, rows = pooled("crop", 7)
    torch.testing.assert_close(columns, torch.arange(2.0, 9).expand(7, 7))
    torch.testing.assert_close(rows[:, 0], torch.linspace(1, 5, 7))


def test_align_takes_means_of_a_lattice_that_ends_a_cell_behind_the_region() -> None:
    columns, rows = pooled("align", 7)
    nodes = torch.linspace(2, 9, 8), torch.linspace(1, 6, 8)
    middle_x, middle_y = ((n[1:] + n[:-1]) / 2 for n in nodes)
    torch.testing.assert_close(columns, middle_x.expand(7, 7))
    torch.testing.assert_close(rows, middle_y[:, None].expand(7, 7))


def test_align_samples_zeros_outside_of_the_map() -> None:
    narrow = torch.ones(1, 1, HEIGHT, 6)
    (values,) = pooled("align", 7, narrow)
    assert values[0].tolist() == [1, 1, 1, 0.5, 0, 0, 0]  # the nodes at 6 to 9 lie outside


def test_pool_takes_the_largest_value_of_a_bin() -> None:
    columns, rows = pooled("pool", 1)
    assert (columns.item(), rows.item()) == (8, 5)


@pytest.mark.parametrize("kind", ["align", "crop", "pool"])
def test_regions_are_of_their_own_image_and_in_the_type_of_the_map(kind: str) -> None:
    maps = torch.cat([torch.zeros_like(ramp()), torch.ones_like(ramp())]).bfloat16()
    found = SingleMapPooling(kind, 16, 2)({"0": maps}, [BOX, BOX], [])
    assert found.dtype == torch.bfloat16
    assert (found.flatten(1).amax(1).tolist(), found[1].amin().item()) == ([0, 1], 1)


def test_another_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling='roi': expected one of align, crop, pool"):
        SingleMapPooling("roi", 16, 7)
