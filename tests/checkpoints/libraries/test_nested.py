"""Values in nested mappings, and what is said of those that are not as expected."""

from collections.abc import Callable

import pytest

from limbeck.checkpoints.libraries.nested import at, colours, numbers, rows

CONFIG = {
    "model": {"depth": 50, "scale": 2, "sizes": [[8, 16], [32.0]], "mean": [25.5, 51, 255]},
    "written": "(1, 2.5)",
    "words": ["a", 1],
}


def test_a_value_is_found_at_its_keys() -> None:
    assert at(CONFIG, "model.depth", int) == 50
    assert at(CONFIG, "model.scale", float) == 2.0
    assert type(at(CONFIG, "model.scale", float)) is float
    assert at(CONFIG, "model.width", int) is None
    assert at(CONFIG, "model.depth.more") is None
    assert at(None, "model") is None


def test_numbers_may_be_written_as_a_tuple() -> None:
    assert numbers(CONFIG, "written") == (1, 2.5)
    assert numbers(CONFIG, "model.mean") == (25.5, 51, 255)
    assert numbers(CONFIG, "model.none") is None


def test_rows_are_lists_of_numbers() -> None:
    assert rows(CONFIG, "model.sizes") == ((8, 16), (32.0,))
    assert rows(CONFIG, "model.none") is None


def test_colours_are_red_first_in_0_to_1() -> None:
    assert colours(CONFIG, "model.mean", bgr=False) == (0.1, 0.2, 1.0)
    assert colours(CONFIG, "model.mean", bgr=True) == (1.0, 0.2, 0.1)
    assert colours(CONFIG, "model.mean", bgr=None) is None
    assert colours({"std": [57.12] * 3}, "std", bgr=False) == (0.224,) * 3


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: at(CONFIG, "model.depth", str), "model.depth is 50, expected str"),
        (lambda: at({"flag": True}, "flag", int), "flag is True, expected int"),
        (lambda: numbers(CONFIG, "words"), r"words is \['a', 1\], expected numbers"),
        (lambda: numbers({"x": [True]}, "x"), "expected numbers"),
        (lambda: rows(CONFIG, "words"), "words is .*, expected lists of numbers"),
        (lambda: rows({"x": [[]]}, "x"), "expected lists of numbers"),
        (lambda: colours(CONFIG, "written", bgr=True), r"written is \(1, 2.5\), expected three"),
    ],
)
def test_what_is_not_as_expected_is_named(read, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read()


@pytest.mark.parametrize(
    "read",
    [
        lambda: at({"x": 10**18}, "x", int),
        lambda: at({"x": 10**400}, "x", float),
        lambda: at({"x": float("nan")}, "x", float),
        lambda: numbers({"x": [1, 1e300]}, "x"),
        lambda: numbers({"x": [1] * 101}, "x"),
        lambda: numbers({"x": "[" * 10_000}, "x"),
        lambda: numbers({"x": f"[{'1, ' * 5000}]"}, "x"),
        lambda: rows({"x": [[1]] * 101}, "x"),
        lambda: colours({"x": [10**400, 1, 1]}, "x", bgr=True),
    ],
)
def test_absurd_numbers_are_refused(read: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"^x is .*, (expected|which no detector has)") as error:
        read()
    assert len(str(error.value)) < 300
