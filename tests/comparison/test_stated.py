"""The file of a comparison: how recipes are found, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from limbeck.comparison import read_comparison
from limbeck.comparison.comparison import Controls


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_recipes_are_files_names_and_what_they_would_state(tmp_path: Path) -> None:
    (tmp_path / "beside.yaml").write_text("trainer: {max_epochs: 3}")
    (tmp_path / "named.yaml").write_text("model: {methods: {kd: {}}}")
    text = """
plain: [beside.yaml, {trainer: {max_epochs: 4}}]
rows: {KD: real/kd}
seeds: [4, 5]
controls: {transfer: false}
scored_on: {class_path: limbeck.data.Shapes}
"""
    found = read_comparison(write(tmp_path, text), lambda name: tmp_path / "named.yaml")
    assert found.title == "mine"
    assert found.plain == ({"trainer": {"max_epochs": 3}}, {"trainer": {"max_epochs": 4}})
    assert found.rows == {"KD": ({"model": {"methods": {"kd": {}}}},)}
    assert list(found.seeds) == [4, 5]
    assert found.controls == Controls(transfer=False)
    assert found.scored_on == {"class_path": "limbeck.data.Shapes"}  # stated, and not built


def test_a_recipe_may_have_parts_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/net.yaml").write_text("class_path: Net")
    (tmp_path / "recipes/plain.yaml").write_text("model: {student: net.yaml}")
    path = tmp_path / "c.yaml"
    path.write_text("plain: recipes/plain.yaml\nrows: {KD: {model: {teacher: recipes/net.yaml}}}")
    comparison = read_comparison(path)
    assert comparison.plain == ({"model": {"student": {"class_path": "Net"}}},)
    assert comparison.rows["KD"] == ({"model": {"teacher": {"class_path": "Net"}}},)


def test_a_teacher_is_a_model_or_the_recipe_that_trains_it(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("trainer: {max_epochs: 9}")
    trained = read_comparison(
        write(tmp_path, "{plain: {a: 1}, rows: {x: {b: 2}}, teacher: {recipe: t.yaml}}")
    )
    assert trained.teacher is None
    assert trained.teacher_recipe == ({"trainer": {"max_epochs": 9}},)
    model = read_comparison(
        write(tmp_path, "{plain: {a: 1}, rows: {x: {b: 2}}, teacher: {class_path: y}}")
    )
    assert model.teacher == {"class_path": "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "mine.yaml is a list. Expected a comparison"),
        ("plain: {a: 1}", "lacks rows"),
        ("{plain: {a: 1}, rows: {x: {}}, sedes: [1]}", "no key 'sedes'.*Did you mean seeds"),
        ("{plain: {a: 1}, rows: [x]}", "rows is .*; expected a mapping"),
        ("{plain: 3, rows: {x: {}}}", "plain is 3; expected the path or the name"),
        ("{plain: [], rows: {x: {}}}", "plain is an empty list"),
        ("{plain: {a: 1}, rows: {x: no/such.yaml}}", "rows.x names no/such.yaml"),
        ("{plain: {a: 1}, rows: {x: {}}, seeds: many}", "seeds"),
        ("{plain: {a: 1}, rows: {x: {}}, seeds: []}", r"mine.yaml: seeds is \\[\\]"),
        ("{plain: {a: 1}, rows: {x: {}}, controls: {equal_tiem: true}}", "equal_tiem"),
    ],
)
def test_what_is_no_comparison_is_refused_by_its_key(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message.replace("\\\\", "\\")):
        read_comparison(write(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml is not a file.*/comparing\.html"):
        read_comparison(tmp_path / "none.yaml")


def test_the_path_of_a_recipe_that_is_not_there_is_not_taken_for_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "{plain: {a: 1}, rows: {x: ./distilled.yaml}}")
    with pytest.raises(
        FileNotFoundError, match=r"rows\.x names \./distilled\.yaml, which is not a f"
    ):
        read_comparison(path, lambda name: tmp_path / name)
