"""The schema by which editors know recipes takes every one of ours, and no mistake."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.commands.recipe_schema import class_paths, recipe_schema
from limbeck.commands.recipes import folder, names
from limbeck.methods import Method
from limbeck.schedules import Schedule
from tests.commands.tiny_recipes import limbeck

jsonschema = pytest.importorskip("jsonschema")
OUTSIDE = Path(__file__).parents[1] / "outside" / "own_package" / "recipe.yaml"


class Loader(yaml.SafeLoader):
    """Numbers as editors and jsonargparse read them: YAML 1.1 takes 4.0e8 for a string."""


Loader.yaml_implicit_resolvers = deepcopy(Loader.yaml_implicit_resolvers)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d.]*[eE][-+]?\d+"), list("-+0123456789")
)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(json.dumps(recipe_schema()))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def stated(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader)


def test_every_recipe_is_valid(validator: Any) -> None:
    for path in [*(folder() / f"{name}.yaml" for name in names()), OUTSIDE]:
        for error in validator.iter_errors(stated(path)):
            raise AssertionError(f"{path}: {error.json_path} {error.message}")


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("modell", {}, False),
        ("model.example", [64, 64], True),
        ("model.example", [64, 64, 3], False),
        ("model.optimizer.name", "adamm", False),
        ("model.student.init_args.num_clases", 5, False),
        ("model.student.init_args.num_classes", "five", False),
        ("model.student.class_path", "limbeck.models.RetinaNett", False),
        ("model.student", {"class_path": "mine.Model", "init_args": {"anything": 1}}, True),
        ("model.teacher", {"class_path": "limbeck.models.load_student"}, True),  # a function
        ("model.methods.mine.init_args.places", ["fpn"], True),  # of a class that is stated below
        ("model.methods.kd", {"class_path": "limbeck.methods.KD", "init_args": {"t": 4}}, False),
        ("model.methods.kd.init_args.weight", {"class_path": "limbeck.schedules.WarmUp"}, True),
        ("data.augmentation.init_args.flop", 0.5, False),
        ("data.augmentation", {"flip": 0.5}, True),  # of the usual class
        ("data.augmentation", {"flop": 0.5}, False),
        ("trainer.max_epoch", 3, False),
        ("trainer.logger", {"class_path": "WandbLogger", "init_args": {"project": "p"}}, True),
    ],
)
def test_what_is_told_of_one_key(validator: Any, key: str, value: Any, valid: bool) -> None:
    recipe = stated(folder() / "shapes" / "student.yaml")
    *outer, last = key.split(".")
    inner = recipe
    for name in outer:
        inner = inner.setdefault(name, {})
    inner[last] = value
    assert validator.is_valid(recipe) is valid


def test_what_is_proposed_is_what_limbeck_exports() -> None:
    assert "limbeck.methods.FitNet" in class_paths(Method)
    assert "limbeck.methods.Method" not in class_paths(Method)  # it has no loss
    assert class_paths(Schedule)[0].startswith("limbeck.schedules.")
    assert class_paths(dict) == []


def test_the_command_writes_it_over_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        limbeck("recipes", "schema", "recipe.schema.json")
        assert "# yaml-language-server: $schema=recipe.schema.json\n" in capsys.readouterr().out
    assert json.loads(Path("recipe.schema.json").read_text()) == recipe_schema()

    Path("mine.json").write_text("{}")
    with pytest.raises(SystemExit):
        limbeck("recipes", "schema", "mine.json")
    assert "mine.json exists already, and is no schema of recipes" in capsys.readouterr().err
    assert Path("mine.json").read_text() == "{}"
