"""Every recipe parses and says how it is run; neither data nor weights are needed for that."""

import functools
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from lightning.pytorch import Trainer

from limbeck.commands.recipes import folder, names
from limbeck.data import Augmentation
from limbeck.data.shapes import SHAPES
from limbeck.methods import Method
from limbeck.models import FasterRCNN
from limbeck.models.detection.parts.anchors import unsuited_side
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule

CHECKOUT = Path(__file__).parents[1]


def command(name: str) -> list[str]:
    """The words of the command in a recipe's first line."""
    first = (folder() / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    return shlex.split(first[2:])


@functools.cache
def run_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--seed_everything", type=int)
    parser.add_class_arguments(DistillationModule, "model")
    parser.add_class_arguments(DataModule, "data")
    parser.add_class_arguments(Trainer, "trainer")
    return parser


@functools.cache  # several tests look at one recipe, and at what it is laid over
def parse(*words: str) -> Namespace:
    return run_parser().parse_args(list(words))


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)


@pytest.mark.parametrize("name", names())
def test_a_recipe_begins_with_the_command_that_runs_it(name: str) -> None:
    program, verb, *words = command(name)
    assert (program, verb) == ("limbeck", "fit")
    stated = [word for flag, word in pairwise(words) if flag == "--config"]
    assert stated[-1] == f"recipes/{name}.yaml"
    assert all(Path(path).is_file() for path in stated)


@pytest.mark.parametrize("name", names())
def test_a_recipe_parses(name: str) -> None:
    config = parse(*command(name)[2:])
    val, train = config.data.val, config.data.train
    trains = train.init_args.get("datasets") or [train]
    assert all(part.class_path == val.class_path for part in trains)
    assert all(part.init_args != val.init_args for part in trains)  # other images
    classes = SHAPES if val.class_path == "limbeck.data.Shapes" else val.init_args.get("classes")
    student = config.model.student
    if classes is not None and student.class_path != "limbeck.models.load_student":
        assert student.init_args.num_classes == len(classes)


@pytest.mark.parametrize("name", names())
def test_methods_and_augmentation_of_a_recipe_can_be_built(name: str) -> None:
    config = parse(*command(name)[2:])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--methods", type=dict[str, Method] | None)
    parser.add_argument("--augmentation", type=Augmentation | None)
    stated = {"methods": config.model.methods, "augmentation": config.data.augmentation}
    parsed = parser.parse_object(stated)
    assert parser.parse_string(parser.dump(parsed, skip_unset=False)) == parsed  # as config.yaml
    built = parser.instantiate(parsed)
    for method in (built.methods or {}).values():
        assert all(weight >= 0 for weight in method.weights_at(0).values())


@pytest.mark.parametrize("name", ["fgfi/voc07_fpn_resnet50", "fgfi/voc07_fpn_resnet101"])
def test_anchors_lie_on_their_cells(name: str) -> None:
    """The padded 608 pixels of a shorter side of 600 are no multiple of P6's stride."""
    config = parse(*command(name)[2:])
    stated = config.model.student.init_args.as_dict()
    student = FasterRCNN(**stated | {"backbone": "resnet18", "weights": None})
    augmentation = config.data.augmentation.init_args
    assert unsuited_side(student, augmentation.short_sides[0], augmentation.long_side) is None


def teaches(name: str) -> bool:
    return "\n  teacher:\n" in (folder() / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", [name for name in names() if teaches(name)])
def test_a_taught_student_is_the_plain_one(name: str) -> None:
    """A comparison is of methods: a recipe with a teacher changes nothing else of what it is over.

    What is left of its command without its own file is the command of its baseline.
    """
    words = command(name)[2:]
    plain, over = parse(*words[:-2]), parse(*words)
    assert over.data == plain.data
    assert over.trainer == plain.trainer
    assert over.model.student == plain.model.student
    assert over.model.optimizer == plain.model.optimizer
    assert over.model.learning_rate == plain.model.learning_rate
    assert over.model.teacher != plain.model.teacher
