"""The thresholds of KITTI's program for many draws at once; for the rest, see test_resampled.py."""

import numpy as np
import pytest
import torch

from limbeck.metrics.kitti import recall_thresholds
from limbeck.metrics.resampled.kitti import kept_ranks


@pytest.mark.parametrize("positives", [1, 3, 20, 40, 41, 79, 120, 123, 400, 1009])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_kitti_keeps_the_ranks_that_its_program_keeps(positives: int, share: float) -> None:
    right = max(1, int(share * positives))
    scores = torch.linspace(1, 0.1, right)
    expected = recall_thresholds(scores, positives)
    ranks = kept_ranks(np.array([float(positives)]))[:, 0]
    ranks = ranks[: np.searchsorted(ranks, right - 1) + 1].clip(max=right - 1)
    np.testing.assert_array_equal(scores[ranks.astype(int)], expected)
