import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.commands import run
from limbeck.commands.errors import RecipeError
from limbeck.commands.recipe_files import read_recipe
from limbeck.commands.stated import stated_in
from limbeck.recipe import laid_over
from tests.commands.tiny_recipes import RUN, classifier, limbeck, plain, write

BAD: dict[str, tuple[bytes, str]] = {
    "no UTF-8": (b"model: \xd6", "no text in UTF-8: "),
    "no YAML": (b"model: {a: 1\ndata: [", "no (valid )?YAML"),
    "tabs": (b"model:\n\tstudent: 1", "no (valid )?YAML"),
    "a tag that makes objects": (
        b"model: !!python/object:os.system {}",
        "no (valid )?YAML|within each",
    ),
    "an alias of nothing": (b"model: *nothing", "no (valid )?YAML|within each"),
    "a control character": (b"model: \x00", "no (valid )?YAML|within each"),
    "a date that is none": (b"model: 2001-99-99", "no (valid )?YAML|within each"),
    "a list": (b"- model\n- data", "the recipe is a list; expected a mapping"),
    "a text": (b"a recipe", "the recipe is a str; expected a mapping"),
    "a model that is a number": (b"model: 3", "model is 3; expected a mapping"),
    "a trainer that is a list": (b"trainer: [1]", r"trainer is \[1\]; expected a mapping"),
    "an alias of itself": (b"model: &a {student: *a}", "itself"),
    "very deep": (b"model: " + b"{a: " * 300 + b"1" + b"}" * 300, "within each other"),
    "too deep": (b"model: " + b"[" * 5000, "no (valid )?YAML|within each"),
    "aliases of aliases": (
        b"a: &a [0,0,0,0,0,0,0,0,0,0]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b"*%c," % (n - 1) * 10) for n in b"bcdefg"),
        "more than [0-9,]+ values",
    ),
    "very large": (b"# " + b"x" * 5_000_000, "more than [0-9,]+ bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_recipe_is_told_with_its_name(name: str, tmp_path: Path) -> None:
    contents, message = BAD[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(contents)
    with pytest.raises(RecipeError) as said:
        read_recipe(path)
    assert str(said.value).startswith(str(path))
    assert re.search(message, str(said.value))


@pytest.mark.parametrize("name", ["nowhere.yaml", "", "x" * 300, "a\0b"])
def test_a_path_that_is_no_file_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Expected a recipe \(.yaml\)"):
        read_recipe(tmp_path / name)


def test_an_unknown_key_with_nothing_below_it_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = tmp_path / "part.yaml"
    part.write_text("modle: {}\ndata: {}\n")
    student = Path(__file__).parents[2] / "recipes/shapes/student.yaml"
    with pytest.raises(SystemExit) as ended:
        run(["fit", "--config", str(student), "--config", str(part), "--print_config"])
    assert ended.value.code == 2
    assert "'modle' is not known" in caplog.text
    assert "Nearest known: model." in caplog.text


@pytest.mark.parametrize("verb", [("fit", "--config"), ("inspect",), ("anchors",)])
@pytest.mark.parametrize("name", ["no UTF-8", "no YAML", "a list", "an alias of itself"])
def test_each_verb_that_reads_recipes_tells_so(
    verb: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    contents, message = BAD[name]
    Path("recipe.yaml").write_bytes(contents)
    with pytest.raises(SystemExit) as end:
        limbeck(*verb, "recipe.yaml")
    assert end.value.code in (1, 2)
    said = capsys.readouterr().err
    assert "recipe.yaml" in said
    assert re.search(message, said)
    assert "Traceback" not in said
    assert not RUN.exists()


def test_inspect_asks_for_a_model_in_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text("data: {batch_size: 3}")
    with pytest.raises(SystemExit):
        limbeck("inspect", "recipe.yaml")
    assert "neither model.student nor model.teacher" in capsys.readouterr().err


PARTS = ("no UTF-8", "no YAML", "an alias of itself", "aliases of aliases", "very large")


@pytest.mark.parametrize("key", ["model", "model.student", "model.teacher", "data.train"])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_a_word_names_is_read_within_the_same_bounds(
    key: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    contents, message = BAD[name]
    Path("part.yaml").write_bytes(contents)
    write(Path(), "recipe", plain())
    with pytest.raises(SystemExit) as end:
        limbeck("fit", "--config", "recipe.yaml", f"--{key}", "part.yaml")
    assert end.value.code in (1, 2)
    said = capsys.readouterr().err
    assert re.search(rf"ERROR ({key}: )?[^ ]*part\.yaml {message}|part\.yaml .*{message}", said)
    assert "Expected a part of a recipe (YAML)." in said
    assert "Parser key" not in said


@pytest.mark.parametrize("verb", [("fit", "--config"), ("anchors",)])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_a_recipe_names_is_read_within_the_same_bounds(
    verb: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    contents, message = BAD[name]
    Path("part.yaml").write_bytes(contents)
    recipe = plain()
    recipe["model"]["student"] = "part.yaml"
    write(Path(), "recipe", recipe)
    with pytest.raises(SystemExit):
        limbeck(*verb, "recipe.yaml")
    said = capsys.readouterr().err
    assert re.search(rf"model\.student: [^ ]*part\.yaml .*({message})", said)


def test_a_sound_part_is_taken() -> None:
    recipe = plain()
    write(Path(), "part", recipe["model"]["student"])
    recipe["model"]["student"] = "part.yaml"
    write(Path(), "recipe", recipe)
    assert stated_in(["recipe.yaml"]).model.student.class_path == "limbeck.models.RetinaNet"


def test_a_recipe_that_is_given_as_text_is_bounded_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        limbeck("fit", "--config", "{model: &a {student: *a}}")
    assert "ERROR --config contains itself" in capsys.readouterr().err


KD = {"class_path": "limbeck.methods.KD", "init_args": {"temperature": 2.0, "weight": 3.0}}
HINT = {"class_path": "limbeck.methods.FitNet", "init_args": {"places": {"C4": "C4"}}}
BELOW = classifier() | {
    "model": {
        "student": classifier()["model"]["student"],
        "teacher": classifier()["model"]["student"],
        "transfer": {"head": "fc"},
        "optimizer": {"lr_factors": {"trunk": 0.1}},
        "methods": {"kd": KD, "hint": HINT},
    },
}
OVERLAYS: dict[str, dict[str, Any]] = {
    "another method": {"model": {"methods": {"dkd": {"class_path": "limbeck.methods.DKD"}}}},
    "an argument": {"model": {"methods": {"kd": {"init_args": {"weight": 5.0}}}}},
    "another class": {"model": {"methods": {"kd": {"class_path": "limbeck.methods.DKD"}}}},
    "the same class, in short": {
        "model": {"methods": {"kd": {"class_path": "KD", "init_args": {"weight": 5.0}}}}
    },
    "another method in its place": {
        "model": {"methods": {"kd": None, "dkd": {"class_path": "limbeck.methods.DKD"}}}
    },
    "a class without arguments": {"model": {"methods": {"kd": "limbeck.methods.DKD"}}},
    "an argument of a class that is not named": {"data": {"augmentation": {"flip": 0.25}}},
    "a factor less": {"model": {"optimizer": {"lr_factors": {"trunk": None}}}},
    "places by name": {
        "model": {"methods": {"hint": {"init_args": {"places": {"C3": "C3"}}}}},
    },
    "another transfer": {"model": {"transfer": {"trunk": "trunk"}}},
    "another factor": {"model": {"optimizer": {"lr_factors": {"head": 2.0}, "lr": 0.5}}},
    "nothing": {"model": {"methods": None, "teacher": None, "transfer": None}},
    "a part of the data": {"data": {"train": {"init_args": {"count": 16}}}},
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_recipes_lie_over_each_other_as_in_a_comparison(name: str, tmp_path: Path) -> None:
    """The parser alone leaves out the methods below, and mixes the arguments of two classes."""
    files = [str(tmp_path / f"{file}.yaml") for file in ("below", "overlay", "whole")]
    contents = [BELOW, OVERLAYS[name], laid_over([BELOW, OVERLAYS[name]])]
    for file, content in zip(files, contents, strict=True):
        Path(file).write_text(yaml.safe_dump(content))
    found, expected = (stated_in(each).as_dict() for each in (files[:2], files[2:]))
    assert [str(path) for path in found.pop("config")] == files[:2]
    del expected["config"]
    root = found["trainer"].pop("default_root_dir")
    assert root.endswith("overlay")
    del expected["trainer"]["default_root_dir"]
    assert found == expected


def test_what_is_given_between_two_recipes_stays(tmp_path: Path) -> None:
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text(
        yaml.safe_dump(BELOW | {"model": {**BELOW["model"], "optimizer": {"lr": 2.0}}})
    )
    above.write_text("model: {optimizer: {weight_decay: 0.5}}")
    between = "{model: {optimizer: {lr: 0.125}, methods: {kd: null, dkd: limbeck.methods.DKD}}}"
    stated = stated_in([str(below), between, str(above)])
    assert (stated.model.optimizer.lr, stated.model.optimizer.weight_decay) == (0.125, 0.5)
    assert list(stated.model.methods) == ["hint", "dkd"]


@pytest.mark.parametrize("nothing", ["", ", methods: {kd: null}"])
def test_files_that_an_overlay_names_are_seen_from_it(nothing: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    below, above = tmp_path / "below.yaml", tmp_path / "sub" / "above.yaml"
    below.write_text(yaml.safe_dump(BELOW, sort_keys=False))
    student = BELOW["model"]["student"]
    part = {**student, "init_args": student["init_args"] | {"num_classes": 7}}
    (tmp_path / "sub" / "part.yaml").write_text(yaml.safe_dump(part))
    above.write_text(f"model: {{student: part.yaml{nothing}}}")
    stated = stated_in([str(below), str(above)])
    assert stated.model.student.init_args.num_classes == 7
    assert list(stated.model.methods) == (["hint"] if nothing else ["kd", "hint"])
