from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torchvision

from limbeck.arguments import (
    importable_name,
    imported,
    items,
    plain_value,
    refuse_absurd,
    refuse_misfits,
    shown,
    suits,
)
from limbeck.models import BasicBlocks, Classifier


@dataclass
class Shape:
    depths: tuple[int, ...]
    stride: int = 4


def made(shape: str | Shape, count: int, *, mean: tuple[float, float] | None = None) -> None:
    """Anything with a signature."""


class Kept:
    """A class, whose constructor is asked."""

    def __init__(self, count: int, **others: Any) -> None:
        self.count = count


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, int),
        (3, float),
        (True, bool),
        (None, int | None),
        ([1, 2.5], tuple[float, float]),
        ([1, 2, 3], tuple[int, ...]),
        ([[1], [2.0]], Sequence[Sequence[float]]),
        ("a", Literal["a", "b"]),
        ({"a": [1]}, Mapping[str, Any]),
        ({"depths": [1, 2]}, str | Shape),
        ("resnet18", str | Shape),
        ([object], Any),
    ],
)
def test_plain_values_suit(value: Any, hint: Any) -> None:
    assert suits(value, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("3", int),
        (True, int),
        (3.0, int),
        (float("nan"), float),
        (1, bool),
        (None, int),
        ([1.0], tuple[float, float]),
        ("ab", Sequence[str]),
        ([["a"]], Sequence[Sequence[float]]),
        ("c", Literal["a", "b"]),
        (True, Literal[1, 2]),
        ([], Mapping[str, Any]),
        ({"stride": 4}, str | Shape),
        ({"depths": [1], "trust": True}, str | Shape),
        ({"depths": "11"}, Shape),
    ],
)
def test_other_values_do_not(value: Any, hint: Any) -> None:
    assert not suits(value, hint)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": "a"}, "^args has no count, which made needs"),
        ({"shape": "a", "count": 1, "spine": 3}, "args has 'spine', which made does not take. It"),
        ({"shape": 18, "count": 1}, r"args\.shape is 18, expected str or Shape\."),
        (
            {"shape": "a", "count": 1, "mean": [1]},
            r"args\.mean is \[1\], expected tuple\[float, float\] or null\.",
        ),
    ],
)
def test_a_misfit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_misfits(made, arguments, "args")


def test_what_suits_is_taken() -> None:
    refuse_misfits(made, {"shape": {"depths": [1]}, "count": 1, "mean": [0, 1]}, "args")
    refuse_misfits(Kept, {"count": 1, "anything": "else"}, "args")
    with pytest.raises(ValueError, match=r"args\.count is 'one', expected int"):
        refuse_misfits(Kept, {"count": "one"}, "args")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 10**30}, r"args\.count has the number 1000"),
        ({"a": {"depths": [1, -(10**8)]}}, r"args\.depths has the number -100000000"),
        ({"std": [float("nan")]}, r"args\.std has the number nan"),
        ({"std": float("inf")}, "the number inf, expected a number up to 10000000"),
        ({"min_size": 100_000}, r"args\.min_size has the number 100000, .* up to 8192"),
        ({"sizes": [[1] * 10_001]}, r"args\.sizes has 10001 values, expected at most 10000"),
    ],
)
def test_an_absurd_number_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_absurd(arguments, "args")


def test_usual_numbers_are_taken() -> None:
    refuse_absurd({"num_classes": 21_841, "min_size": 800, "mean": [-0.5, 0], "name": "9" * 99}, "")


def test_values_come_with_the_nearest_key() -> None:
    assert list(items({"a": [1, {"b": 2}]})) == [
        ("a", [1, {"b": 2}]),
        ("a", 1),
        ("a", {"b": 2}),
        ("b", 2),
    ]


def test_what_is_shown_is_short() -> None:
    assert len(shown({"a": ["b" * 10_000] * 1000})) < 1000
    assert shown("limbeck.models.RetinaNet") == "'limbeck.models.RetinaNet'"


def test_a_class_goes_by_the_shortest_name_that_means_it() -> None:
    class Local:
        pass

    assert importable_name(Classifier) == "limbeck.models.Classifier"
    assert importable_name(Kept) == f"{__name__}.Kept"
    assert importable_name(Local) is None


def test_a_name_that_a_module_and_its_function_share_is_the_functions() -> None:
    assert imported("torchvision.models.alexnet") is torchvision.models.alexnet
    assert imported("torchvision.models.alexnet.AlexNet") is torchvision.models.AlexNet
    assert imported("limbeck.models.Classifier") is Classifier
    assert imported("limbeck.models:Classifier") is Classifier
    assert imported("torchvision") is torchvision
    assert imported("builtins.dict.fromkeys") == dict.fromkeys
    with pytest.raises(ImportError):
        imported("nowhere.Net")


def test_plain_values_are_those_that_json_gives_back() -> None:
    blocks = BasicBlocks((1, 2), (8, 16))
    assert plain_value({"network": blocks, "mean": (0.5, None)}) == {
        "network": {
            "depths": [1, 2],
            "widths": [8, 16],
            "stem_stride": 4,
            "shortcuts": "projected",
        },
        "mean": [0.5, None],
    }
    with pytest.raises(TypeError):
        plain_value({1, 2})
