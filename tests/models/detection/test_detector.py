import pytest

from limbeck.models import BasicBlocks
from limbeck.models.detection.detector import pyramid
from limbeck.models.detection.parts.backbones import layout_of

LAYOUT = layout_of(BasicBlocks((1, 1, 1), (4, 8, 8)))  # C2 to C4


@pytest.mark.parametrize(
    ("levels", "expected"), [((2, 4), (2, 3, 4)), ((3, 3), (3,)), ((4, 6), (4, 5, 6))]
)
def test_levels_end_at_the_trunks_or_at_the_last_extra_one(levels, expected) -> None:
    assert pyramid(LAYOUT, levels, extra=2, why="P5 and P6 come as a pair") == expected


@pytest.mark.parametrize("levels", [(1, 4), (2, 5), (2, 7), (4, 3), (5, 6)])
def test_levels_that_there_are_not_are_refused_with_those_that_there_are(levels) -> None:
    first, last = levels
    message = rf"levels=\({first}, {last}\): this backbone has C2 to C4, and P5 and P6 come .* 4 or"
    with pytest.raises(ValueError, match=message + r" lower, or at 6\."):
        pyramid(LAYOUT, levels, extra=2, why="P5 and P6 come as a pair")
