"""Which teacher channels guide which student channel: costs over images, and the assignment."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def channel_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distances between channels of length 1, summed over images.

    Args:
        student: The student's map, (B, S, H, W).
        teacher: The teacher's map, (B, T, H, W).

    Returns:
        (S, T): for each image from 0 to 4, and 2 where a channel is all zero.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = (F.normalize(x.float().flatten(2), dim=2) for x in (student, teacher))  # (B, C, HW)
        twice = s.new_tensor(2.0 * len(s))
        # Sums over the batch as it goes, so there never is a (B, S, T).
        return torch.addbmm(twice, s, t.transpose(1, 2), alpha=-2)


def cheapest_columns(cost: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The assignment of least cost that gives each row ``count`` columns of its own.

    Args:
        cost: The cost of each pair, (S, T) with T >= S * count.
        count: The number k of columns of each row.

    Returns:
        The columns of each row in ascending order, (S, k).
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second to import

    # As rows, students are fewer than teachers, as the solver wants it; on features of networks
    # that was mostly the faster way round where they are as many, too.
    _, teachers = linear_sum_assignment(np.tile(cost, (count, 1)))
    return np.sort(teachers.reshape(count, len(cost)).T, axis=1)
