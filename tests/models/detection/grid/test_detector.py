"""What YOLOv2, ShuffleDet and SqueezeDet share."""

import pytest

from limbeck.models.detection.grid.detector import fixed_size_transform
from tests.batches import photographs


def test_images_get_their_size_in_evaluation_alone() -> None:
    transform = fixed_size_transform((64, 96), 32, [0.0] * 3, [1.0] * 3)
    assert transform.eval()(photographs((50, 40)))[0].tensors.shape == (1, 3, 64, 96)
    assert transform.train()(photographs((50, 40)))[0].tensors.shape == (1, 3, 64, 64)


def test_a_size_that_is_no_multiple_of_the_stride_is_refused_with_one_that_is() -> None:
    with pytest.raises(ValueError, match=r"multiples of 32, such as \(64, 32\)"):
        fixed_size_transform((70, 8), 32, [0.0] * 3, [1.0] * 3)
