"""Which rows a comparison has, what is laid over what, and which controls belong to which row."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.comparison import Comparison, Controls
from limbeck.comparison.rows import Row, controls_of, measured_teacher, rows_of
from limbeck.recipe import laid_over, value_at

PLAIN = {
    "model": {"student": {"class_path": "a"}, "learning_rate": {"milestones": [4, 6]}},
    "trainer": {"max_epochs": 8, "max_steps": -1},
}
OTHERS = {"model": {"teacher": {"class_path": "theirs"}, "methods": {"kd": {}}}}
MOVED = {"model": {"teacher": {"class_path": "theirs"}, "transfer": {"head": "head"}}}
TEACHER = {"class_path": "ours", "init_args": {"weights": "file"}}


def comparison(**more: Any) -> Comparison:
    rows = {"KD": (OTHERS,), "KD + head": (OTHERS, MOVED), "assist": ({"model": {"methods": {}}},)}
    return Comparison(**{"title": "t", "plain": (PLAIN,), "rows": rows, **more})


def named(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_rows_without_times_have_no_control_at_equal_time() -> None:
    rows = rows_of(comparison(), {})
    assert [row.name for row in rows] == [
        "plain",
        "KD",
        "KD + head",
        "assist",
        "plain, twice as long",
        "transfer alone",
    ]
    assert [row.kind for row in rows[:3]] == ["plain", "distilled", "distilled"]


def test_the_plain_student_is_trained_for_as_long_as_the_row_took() -> None:
    rows = named(rows_of(comparison(), {"KD": 1.51, "KD + head": 1.7}))
    longer = laid_over(rows["plain, time of KD"].recipes)
    assert value_at(longer, "trainer.max_epochs") == 13  # 8 * 1.51, rounded up
    assert value_at(longer, "model.learning_rate.milestones") == [7, 10]
    assert value_at(longer, "trainer.max_steps") == -1
    assert "transfer alone, time of KD + head" in rows
    assert "transfer alone, time of KD" not in rows


def test_a_row_that_is_faster_than_the_plain_student_makes_it_no_shorter() -> None:
    rows = named(rows_of(comparison(), {"KD": 0.8}))
    assert value_at(laid_over(rows["plain, time of KD"].recipes), "trainer.max_epochs") == 8


def test_rows_that_take_equally_long_share_a_control() -> None:
    rows = rows_of(comparison(), {"KD": 1.5, "KD + head": 1.5})
    shared = named(rows)["plain, time of KD, KD + head"]
    assert "plain, time of KD" not in named(rows)
    assert shared in controls_of(named(rows)["KD"], rows)
    assert shared in controls_of(named(rows)["KD + head"], rows)


def test_twice_as_long() -> None:
    rows = named(rows_of(comparison(), {}))
    longer = laid_over(rows["plain, twice as long"].recipes)
    assert value_at(longer, "trainer.max_epochs") == 16
    assert value_at(longer, "model.learning_rate.milestones") == [8, 12]


def test_length_names_another_key() -> None:
    data = {"data": {"train": {"init_args": {"count": 100}}}}
    stated = comparison(plain=(PLAIN, data), length=["data.train.init_args.count"])
    longer = laid_over(named(rows_of(stated, {}))["plain, twice as long"].recipes)
    assert value_at(longer, "data.train.init_args.count") == 200
    assert value_at(longer, "trainer.max_epochs") == 8


@pytest.mark.parametrize("value", [None, "many", 0, True, 0.5])
def test_a_length_that_is_no_whole_number_is_refused(value: Any) -> None:
    stated = comparison(
        plain=(PLAIN, {"trainer": {"max_epochs": value}}), length=["trainer.max_epochs"]
    )
    with pytest.raises(ValueError, match=r"length names trainer\.max_epochs, which is"):
        rows_of(stated, {})


def test_a_recipe_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"neither trainer\.max_epochs nor trainer\.max_steps"):
        rows_of(comparison(plain=({"model": {}},)), {})


def test_the_comparisons_teacher_takes_the_place_of_a_rows_own() -> None:
    rows = named(rows_of(comparison(teacher=TEACHER), {}))
    assert value_at(laid_over(rows["KD"].recipes), "model.teacher") == TEACHER
    assert value_at(laid_over(rows["transfer alone"].recipes), "model.teacher") == TEACHER
    assert value_at(laid_over(rows["assist"].recipes), "model.teacher") is None
    assert value_at(laid_over(rows["plain"].recipes), "model.teacher") is None


def test_a_teacher_that_no_row_learns_from_is_refused() -> None:
    named_ones = {"model": {"teachers": {"x": {"class_path": "theirs"}}, "methods": {"kd": {}}}}
    with pytest.raises(ValueError, match=r"they learn from model\.teachers \(x\)\. Leave teacher"):
        rows_of(comparison(rows={"KD": (named_ones,)}, teacher=TEACHER), {})
    rows_of(comparison(rows={"KD": (named_ones,), "both": (OTHERS,)}, teacher=TEACHER), {})
    rows_of(comparison(rows={"assist": ({"model": {"methods": {}}},)}, teacher=TEACHER), {})


def test_the_first_teacher_that_predicts_is_measured() -> None:
    features = {"class_path": "limbeck.models.FeatureTeacher", "init_args": {"network": "timm:a"}}
    several = {"model": {"teachers": {"dino": features, "detector": TEACHER}}}
    assert measured_teacher([PLAIN, several, OTHERS]) == TEACHER
    assert measured_teacher([{"model": {"teacher": features}}, OTHERS])["class_path"] == "theirs"
    assert measured_teacher([PLAIN, {"model": {"teacher": features}}]) is None


def test_a_module_that_raises_anything_is_told_where_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raises_at_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    teacher = {"class_path": "raises_at_import.Teacher"}
    assert measured_teacher([{"model": {"teacher": teacher}}]) == teacher


def test_a_transfer_of_a_teacher_with_a_name_takes_all_teachers_along() -> None:
    own = {
        "model": {"teachers": {"a": TEACHER}, "transfer": {"head": "a:head"}, "methods": {"k": {}}}
    }
    stated = laid_over(named(rows_of(comparison(rows={"k": (own,)}), {}))["transfer alone"].recipes)
    assert value_at(stated, "model.teachers") == {"a": TEACHER}


def test_a_transfer_alone_distils_nothing() -> None:
    alone = laid_over(named(rows_of(comparison(), {}))["transfer alone"].recipes)
    assert value_at(alone, "model.methods") is None
    assert value_at(alone, "model.transfer") == {"head": "head"}


def test_every_row_has_its_own_controls() -> None:
    rows = rows_of(comparison(), {"KD": 2.0, "KD + head": 2.5})
    found = {
        row.name: [each.name for each in controls_of(row, rows)]
        for row in rows
        if row.kind == "distilled"
    }
    assert found == {
        "KD": ["plain", "plain, time of KD"],
        "KD + head": [
            "plain",
            "transfer alone",
            "plain, time of KD + head",
            "transfer alone, time of KD + head",
        ],
        "assist": ["plain"],
    }


def test_controls_can_be_switched_off() -> None:
    off = Controls(equal_time=False, transfer=False, twice_as_long=False)
    rows = rows_of(comparison(controls=off), {"KD": 2.0})
    assert [row.name for row in rows] == ["plain", "KD", "KD + head", "assist"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rows": {}}, "rows is empty"),
        ({"seeds": []}, r"seeds is \[\]"),
        ({"seeds": [1, 1]}, "each of them once"),
        ({"time_ratios": {"kd": 1.5}}, "time_ratios names kd; expected rows: KD"),
        ({"time_ratios": {"KD": 0}}, "KD"),
        ({"smallest_gain": -1}, "smallest_gain"),
        ({"teacher": TEACHER, "teacher_recipe": (PLAIN,)}, "both given"),
    ],
)
def test_what_makes_no_comparison_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(**more)


@pytest.mark.parametrize(
    "name", ["plain", "teacher", "plain, twice as long", "plain, time of KD", "transfer alone of a"]
)
def test_a_row_has_no_name_of_another_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"rows names '{name}'"):
        rows_of(comparison(rows={name: (OTHERS,)}), {})


def test_the_arguments_of_a_rows_own_teacher_do_not_shine_through() -> None:
    own = {"class_path": "ours", "init_args": {"weights": "another", "mean": [0.5]}}
    row = {"model": {"teacher": own, "methods": {"kd": {}}}}
    rows = rows_of(comparison(rows={"KD": (row,)}, teacher=TEACHER), {})
    assert value_at(laid_over(named(rows)["KD"].recipes), "model.teacher") == TEACHER


def test_weights_of_another_teacher_are_another_transfer() -> None:
    theirs, ours = MOVED, {"model": {**MOVED["model"], "teacher": TEACHER}}
    rows = rows_of(comparison(rows={"A": (theirs,), "B": (ours,)}), {})
    alone = laid_over(named(rows)["transfer alone of B"].recipes)
    assert value_at(alone, "model.teacher") == TEACHER
    of_b = controls_of(named(rows)["B"], rows)
    assert [row.name for row in of_b] == ["plain", "transfer alone of B"]
