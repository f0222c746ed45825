"""Students' folders from anywhere, in every verb that reads one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from limbeck.models import save_student
from tests import tiny_models
from tests.canary import nothing_happens
from tests.commands import tiny_recipes

STUDENT = Path("student")
DOORS = ["predict", "inspect", "teacher", "weights", "convert"]
CLASSIFICATION = {"class_path": "limbeck.data.ClassificationAugmentation", "init_args": {}}


@pytest.fixture(autouse=True)
def student() -> None:
    save_student(tiny_models.detector(), STUDENT, metadata={"task": "detection"})
    Path("recipe.yaml").write_text(json.dumps(tiny_recipes.plain()))


def change(folder: Path, **values: Any) -> None:
    card = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(card | values))


def read_by(door: str) -> list[object]:
    """The words that have the student read."""
    recipe = ["validate", "--config", "recipe.yaml"]
    return {
        "predict": ["predict", STUDENT, "a.png"],
        "inspect": ["inspect", STUDENT],
        "teacher": [
            *recipe,
            *("--model.teacher", "limbeck.models.load_student"),
            *("--model.teacher.init_args.folder", STUDENT),
        ],
        "weights": [*recipe, "--model.student.init_args.weights", STUDENT],
        "convert": ["convert", STUDENT, "out.pth", "--to", "torchvision"],
    }[door]


def refused(door: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said, of which nothing is another library's traceback."""
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck(*read_by(door))
    assert end.value.code in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("door", ["predict", "inspect", "teacher"])
@pytest.mark.parametrize("trust", [True, False])
def test_an_inner_folder_runs_no_program(
    door: str, trust: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = STUDENT / "inner"
    shutil.copytree(STUDENT, inner)
    change(inner, build={"class_path": "os.system", "init_args": {"command": "touch canary"}})
    arguments = {"folder": str(inner)} | ({"trust": True} if trust else {})
    change(STUDENT, build={"class_path": "limbeck.models.load_student", "init_args": arguments})
    with nothing_happens(inner):
        said = refused(door, capsys)
    assert "student/student.json: build: class_path 'limbeck.models.load_student'" in said
    assert not Path("canary").exists()


@pytest.mark.parametrize("door", DOORS)
def test_no_weights_from_elsewhere(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bait.pth").write_bytes(b"bait")
    card = json.loads((STUDENT / "student.json").read_text())["build"]
    card["init_args"]["weights"] = "bait.pth"
    change(STUDENT, build=card)
    with nothing_happens(Path("bait.pth")):
        said = refused(door, capsys)
    assert "init_args.weights of limbeck.models.RetinaNet is 'bait.pth', expected null" in said


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", [b"[1]", b"\xff", b"{}", b"[" * 99_999])
def test_what_is_no_card_is_a_sentence(
    door: str, text: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (STUDENT / "student.json").write_bytes(text)
    assert "student/student.json" in refused(door, capsys)


@pytest.mark.parametrize("door", DOORS)
def test_a_link_out_of_the_folder_is_a_sentence(
    door: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (STUDENT / "student.safetensors").rename("elsewhere")
    (STUDENT / "student.safetensors").symlink_to(Path("elsewhere").absolute())
    said = refused(door, capsys)
    assert "student.safetensors is a link to" in said


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (CLASSIFICATION, "which is for classification: expected one for detection"),
        (CLASSIFICATION | {"init_args": {"size": 10**9}}, "has the number 1000000000"),
        (
            {"class_path": "os.system", "init_args": {"command": "touch canary"}},
            "not limbeck's own",
        ),
        ({"class_path": ["os.system"]}, "expected a mapping with a class_path"),
    ],
)
def test_an_augmentation_of_a_card_is_checked(
    augmentation: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(STUDENT, metadata={"task": "detection", "augmentation": augmentation})
    said = refused("predict", capsys)
    assert "student/student.json: metadata.augmentation: " in said
    assert message in said
    assert not Path("canary").exists()
    assert not Path("predictions").exists()


def test_old_arguments_of_an_augmentation_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    """Cards had no class paths."""
    change(STUDENT, metadata={"task": "classification", "augmentation": {"size": "many"}})
    assert "size is 'many', expected int" in refused("predict", capsys)
