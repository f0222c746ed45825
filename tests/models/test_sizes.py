"""Networks are bounded while they are built."""

import threading

import pytest
from torch import nn

from limbeck.models.sizes import bounded_size


class TooLargeError(Exception):
    """What the tests raise."""


@pytest.mark.parametrize(("values", "tensors"), [(14, 100), (100, 2)])
def test_what_is_larger_is_stopped_before_the_rest_is_built(values: int, tensors: int) -> None:
    built: list[nn.Module] = []
    with pytest.raises(TooLargeError), bounded_size(values, tensors, TooLargeError()):
        built.extend(nn.Linear(2, 4) for _ in range(3))  # 8 values and 4 each
    assert len(built) == 1
    nn.Linear(10, 10)  # the bound ends with its block


def test_what_fits_and_what_other_threads_build_is_left_alone() -> None:
    made: list[nn.Module] = []
    with bounded_size(12, 2, TooLargeError()):
        made.append(nn.Linear(2, 4))
        thread = threading.Thread(target=lambda: made.append(nn.Linear(100, 100)))
        thread.start()
        thread.join()
    assert len(made) == 2
