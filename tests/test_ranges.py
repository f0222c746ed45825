import math

import pytest

from limbeck.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, refuse_outside, written


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (COUNT, (1, 7), (0, -1, math.nan)),
        (SHARE, (0, 0.5, 1), (-0.1, 1.1, math.nan)),
        (POSITIVE, (1e-9,), (0, -1, math.inf, math.nan)),
        (NOT_NEGATIVE, (0, 3), (-1e-9, math.inf)),
        (Range(0, 1, open_above=True), (0, 0.9), (1,)),
    ],
)
def test_a_number_is_in_its_range_or_not(
    allowed: Range, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert all(number in allowed for number in inside)
    assert not any(number in allowed for number in outside)


@pytest.mark.parametrize("value", [-1, [3, -1], ((2, 2), (2, -1)), {"a": -1.0}, float("nan")])
def test_what_lies_outside_is_named_with_its_key_its_value_and_the_range(value: object) -> None:
    with pytest.raises(ValueError, match=r"trainer\.x is .*; expected .* 0 or more\. Give") as said:
        refuse_outside({"x": Range(0)}, {"x": value}, "trainer.")
    assert written(value) in str(said.value)


@pytest.mark.parametrize("value", [None, True, "-1", [], {}, [None, "a"], 0, (1, 2.5)])
def test_what_is_no_number_or_lies_inside_is_left_alone(value: object) -> None:
    refuse_outside({"x": Range(0), "y": COUNT}, {"x": value})
