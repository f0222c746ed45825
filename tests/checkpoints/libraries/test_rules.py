"""Tables of names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.checkpoints.libraries.rules import Rule, Table, numbers, prefixed, renamed
from limbeck.checkpoints.tensors import BACKGROUND_FIRST

ONE = torch.ones(1)
TABLE = Table(
    "elsewhere",
    [
        Rule("extra.3", "last"),
        Rule("extra.{i}", "levels.{i}"),
        Rule("tower.{2i}", "tower.{i}.0"),
        Rule("res{stage}.{block}", "layer{stage-1}.{block}"),
        Rule("scores", "logits", BACKGROUND_FIRST),
    ],
    empty=("pixel_mean", "anchors.cells.{i}"),
    advice="Expected a detector.",
)


@pytest.mark.parametrize(
    ("source", "target", "name", "expected"),
    [
        ("res{stage}.{block}", "layer{stage-1}.{block}", "res5.12", "layer4.12"),
        ("layer{stage-1}.{block}", "res{stage}.{block}", "layer4.12", "res5.12"),
        ("tower.{2i}", "tower.{i}.0", "tower.6", "tower.3.0"),
        ("tower.{i}.0", "tower.{2i}", "tower.3.0", "tower.6"),
        ("tower.{3i+1}", "norm.{i}", "tower.7", "norm.2"),
        ("norm.{i}", "tower.{3i+1}", "norm.2", "tower.7"),
        ("a.{i}.b.{i}", "c{i}", "a.4.b.4", "c4"),
        ("fc{i-5}", "fc{i}", "fc1", "fc6"),
        ("stem.conv", "0", "stem.conv", "0"),
    ],
)
def test_numbers_are_computed(source: str, target: str, name: str, expected: str) -> None:
    assert renamed(name, source, target) == expected


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("tower.{2i}", "tower.{i}.0", "tower.5"),  # not a multiple
        ("tower.{3i+1}", "norm.{i}", "tower.0"),  # below the first
        ("level{k}", "blocks.{k-3}", "level2"),  # would be blocks.-1
        ("a.{i}.b.{i}", "c{i}", "a.4.b.5"),  # two numbers
        ("level{k}", "blocks.{k}", "level02"),  # would come back as level2
        ("level{k}", "blocks.{k}", "level2.conv"),
        ("level.{k}", "blocks.{k}", "level-2"),
    ],
)
def test_a_name_that_would_not_come_back_does_not_fit(source: str, target: str, name: str) -> None:
    assert renamed(name, source, target) is None


@given(factor=st.integers(1, 5), offset=st.integers(-9, 9), number=st.integers(0, 99))
def test_there_and_back(factor: int, offset: int, number: int) -> None:
    theirs = f"a{{{factor}i{offset:+d}}}.b"
    name = f"c.{number}"
    new = renamed(name, "c.{i}", theirs)
    if factor * number + offset < 0:
        assert new is None
    else:
        assert new == f"a{factor * number + offset}.b"
        assert renamed(new, theirs, "c.{i}") == name


def test_the_numbers_of_a_name() -> None:
    names = ["p3.weight", "p5.weight", "p5.bias", "q6.weight"]
    assert numbers(names, "p{k}.weight") == {3, 5}


def test_prefixes() -> None:
    assert prefixed([Rule("a.{i}", "b.{i}")], "x.", "y.z.") == [Rule("x.a.{i}", "y.z.b.{i}")]


def test_the_first_rule_counts_and_empty_names_are_left_out() -> None:
    scores = torch.arange(3.0)
    theirs = {
        "extra.2.weight": ONE,
        "extra.3.weight": ONE,
        "res3.0.running_var": ONE,
        "scores.bias": scores,
    }
    empty = {"pixel_mean": ONE, "anchors.cells.0": ONE, "anchors.cells.11": ONE}
    ours = TABLE.to_ours(theirs | empty)
    assert list(ours) == ["levels.2.weight", "last.weight", "layer2.0.running_var", "logits.bias"]
    assert ours["logits.bias"].tolist() == [2, 0, 1]
    back = TABLE.to_theirs(ours | {"loss_normaliser": ONE})
    assert list(back) == list(theirs)
    assert torch.equal(back["scores.bias"], scores)


def test_what_is_not_understood_is_listed() -> None:
    tensors = dict.fromkeys([f"tower.{i}.weight" for i in range(17)], ONE)
    with pytest.raises(ValueError, match=r"8 of 17 tensors are not among elsewhere's names") as e:
        TABLE.to_ours(tensors)
    assert "\n  tower.1.weight (nearest: tower.{2i})\n" in str(e.value)
    assert str(e.value).endswith("tower.11.weight (nearest: tower.{2i})\n  ... and 2 more\n"
                                 "Expected a detector.")  # fmt: skip


@pytest.mark.parametrize("name", ["logits.weight_g", "logits", "pixel_mean"])
def test_names_that_are_no_layers(name: str) -> None:
    with pytest.raises(ValueError, match="1 of 1 tensors are not among what elsewhere has") as e:
        TABLE.to_theirs({name: ONE})
    assert name in str(e.value)


def test_two_names_for_one_tensor() -> None:
    table = Table("elsewhere", [Rule("linear", "fc"), Rule("stem.fc", "fc")])
    with pytest.raises(ValueError, match=r"two tensors are fc\.weight, and stem\.fc\.weight is"):
        table.to_ours({"linear.weight": ONE, "stem.fc.weight": ONE})
