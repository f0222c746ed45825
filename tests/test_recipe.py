"""Recipes as nested mappings: laid over each other, looked up, compared."""

from pathlib import Path

from limbeck.recipe import differences, laid_over, of_another_class, stating, value_at, with_parts

BELOW = {"model": {"student": {"class_path": "a", "init_args": {"x": 1, "y": 2}}, "rate": 1}}


def test_parts_in_files_of_their_own_are_read(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("class_path: limbeck.models.Classifier")
    stated = {
        "model": {
            "student": "net.yaml",
            "methods": {"a.b": "net.yaml", "kd": {"class_path": "KD"}},
        },
        "data": {"train": "gone.yaml", "val": {"root": "net.yaml"}},
    }
    read = {"class_path": "limbeck.models.Classifier"}
    assert with_parts(stated, tmp_path) == {
        "model": {"student": read, "methods": {"a.b": read, "kd": {"class_path": "KD"}}},
        "data": stated["data"],
    }
    assert stated["model"]["student"] == "net.yaml"
    assert with_parts({"model": None}, tmp_path) == {"model": None}


def test_the_later_recipe_wins_key_by_key() -> None:
    above = {"model": {"student": {"init_args": {"y": 3}}, "rate": None}, "trainer": {}}
    assert laid_over([BELOW, above]) == {
        "model": {"student": {"class_path": "a", "init_args": {"x": 1, "y": 3}}, "rate": None},
        "trainer": {},
    }
    assert BELOW["model"]["rate"] == 1  # what is laid over stays as it is


def test_arguments_of_another_class_are_taken_alone() -> None:
    other = {"model": {"student": {"class_path": "b", "init_args": {"z": 1}}}}
    assert value_at(laid_over([BELOW, other]), "model.student.init_args") == {"z": 1}
    same = {"model": {"student": {"class_path": "a", "init_args": {"z": 1}}}}
    found = value_at(laid_over([BELOW, same]), "model.student.init_args")
    assert found == {"x": 1, "y": 2, "z": 1}


def test_arguments_of_a_class_that_is_not_named_again() -> None:
    below = {"data": {"augmentation": {"class_path": "a", "init_args": {"size": 64, "flip": 0}}}}
    assert laid_over([below, {"data": {"augmentation": {"size": 32}}}]) == {
        "data": {"augmentation": {"class_path": "a", "init_args": {"size": 32, "flip": 0}}}
    }


def test_names_with_dots_lead_to_what_is_replaced() -> None:
    below = {"methods": {"a.b": {"class_path": "KD"}, "same": {"class_path": "limbeck.methods.AT"}}}
    above = {"methods": {"a.b": {"class_path": "DKD"}, "same": {"class_path": "AT"}}}
    assert list(of_another_class(below, above)) == [("methods", "a.b")]


def test_a_value_at_a_dotted_key() -> None:
    assert value_at(BELOW, "model.student.init_args.y") == 2
    assert value_at(BELOW, "model.student.class_path.y") is None
    assert value_at(BELOW, "trainer.max_epochs") is None
    assert value_at(stating("a.b.c", 5), "a.b.c") == 5


def test_differences_name_the_key_and_both_values() -> None:
    above = {"model": {"student": {"init_args": {"y": 3}}, "methods": {"kd": "K" * 100}}}
    found = dict(differences(BELOW, laid_over([BELOW, above])))
    assert found["model.student.init_args.y"] == "model.student.init_args.y was 2, is 3"
    assert found["model.methods"].startswith("model.methods was nothing, is {'kd': 'KKK")
    assert found["model.methods"].endswith("...")
