from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

from limbeck.data import (
    Augmentation,
    ClassificationAugmentation,
    DetectionAugmentation,
    Shapes,
    ShuffleDetAugmentation,
)
from limbeck.data.augmentation import from_recipe, to_recipe
from tests.canary import nothing_happens


class Plain(Augmentation):
    """Keeps its arguments."""

    task = "classification"

    def __init__(self, sizes: tuple[int, ...] = (3, 4), *, factor: float = 1.0) -> None:
        self.sizes = sizes
        self.factor = factor

    def training(self) -> v2.Transform:
        return v2.Identity()


class Secretive(Plain):
    def __init__(self, sizes: int) -> None:
        self._sizes = sizes


class Talking(Secretive):
    def arguments(self) -> dict[str, int]:
        return {"sizes": self._sizes}


@dataclass(frozen=True)
class Part:
    side: int = 3


@dataclass(frozen=True)
class Nested(Augmentation):
    part: Part = field(default_factory=Part)

    def training(self) -> v2.Transform:
        return v2.Identity()


def test_by_default_images_stay_as_they_are() -> None:
    plain = Plain()
    assert plain.training_batch() is None
    image, target = Shapes("classification", size=32, count=1)[0]
    seen, same = plain.evaluation()(image, target)
    assert torch.equal(seen, image)
    assert same == target
    assert torch.equal(plain.evaluation()(image), image)


@pytest.mark.parametrize(
    "augmentation",
    [
        ClassificationAugmentation(size=48, resize=60),
        DetectionAugmentation(sizes=((32, 32), (64, 64)), flip=0.0),
        ShuffleDetAugmentation(drift=(15, 10)),
    ],
)
def test_limbeck_s_own_are_built_again_without_trust(augmentation: Augmentation) -> None:
    entry = to_recipe(augmentation)
    assert entry["class_path"] == f"limbeck.data.{type(augmentation).__name__}"
    again = from_recipe(entry)
    assert type(again) is type(augmentation)
    assert to_recipe(again) == entry


def test_a_class_says_what_it_was_built_with() -> None:
    assert to_recipe(Plain((5, 6), factor=2.0)) == {
        "class_path": f"{__name__}.Plain",
        "init_args": {"sizes": [5, 6], "factor": 2.0},
    }
    assert to_recipe(Talking(7))["init_args"] == {"sizes": 7}
    assert to_recipe(Nested())["init_args"] == {"part": {"side": 3}}


def test_what_cannot_be_said_is_refused() -> None:
    with pytest.raises(ValueError, match="Secretive does not keep its argument 'sizes' as an attr"):
        to_recipe(Secretive(3))
    with pytest.raises(ValueError, match=r"the arguments of Plain cannot be written .*override"):
        to_recipe(Plain(factor=torch.ones(3)))


def test_others_are_built_on_trust_alone() -> None:
    entry = to_recipe(Plain((5, 6)))
    with pytest.raises(ValueError, match=r"Plain, which is not limbeck's own.*pass --trust"):
        from_recipe(entry)
    assert from_recipe(entry, trust=True).sizes == [5, 6]


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "limbeck.models.load_student",
        "limbeck.cli.main",
        "limbeck.data:ClassificationAugmentation",
        "limbeck.data.loading.torch.hub.load_state_dict_from_url",
        "limbeck.data._hidden",
        "limbeck.data",
        "limbeck_data.Augmentation",
        "",
    ],
)
def test_nothing_but_augmentations_of_limbeck_is_built_without_trust(
    path: str, tmp_path: Path
) -> None:
    arguments = {"folder": str(tmp_path), "command": "touch canary", "trust": True}
    message = r"which is not limbeck's own|cannot be imported|no limbeck\.data\.Augmentation"
    with nothing_happens(tmp_path), pytest.raises(ValueError, match=message):
        from_recipe({"class_path": path, "init_args": arguments})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "augmentation {}, expected a mapping with a class_path"),
        ({"class_path": ["os.system"], "init_args": {}}, "expected a mapping with a class_path"),
        ({"class_path": "limbeck.data.Augmentation"}, "expected a mapping with a class_path"),
        ({"class_path": "limbeck.data.Augmentation", "init_args": {}}, "not built: Can't instant"),
        ({"init_args": {"size": 10**9}}, r"\.size has the number 1000000000, expected"),
        ({"init_args": {"size": 9000}}, r"\.size has the number 9000, expected a number up to 819"),
        ({"init_args": {"size": "many"}}, r"\.size is 'many', expected int"),
        ({"init_args": {"scale": [0.5]}}, r"\.scale is \[0\.5\], expected tuple\[float, float\]"),
        ({"init_args": {"command": "ls"}}, "has 'command', which ClassificationAugmentation doe"),
        ({"init_args": {"flip": 3}}, "which is not built: flip is 3"),
    ],
)
def test_a_card_s_augmentation_is_not_taken_at_its_word(entry: dict, message: str) -> None:
    if entry.keys() == {"init_args"}:
        entry = {"class_path": "limbeck.data.ClassificationAugmentation"} | entry
    with pytest.raises(ValueError, match=message):
        from_recipe(entry)


def test_an_augmentation_is_for_its_task() -> None:
    entry = to_recipe(ClassificationAugmentation(size=48))
    assert to_recipe(from_recipe(entry, task="classification")) == entry
    message = "ClassificationAugmentation, which is for classification: expected one for detection"
    with pytest.raises(ValueError, match=message):
        from_recipe(entry, task="detection")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("limbeck.data.Nowhere", "limbeck.data.Nowhere, which cannot be imported .*PYTHONPATH"),
        ("nowhere.Augmentation", "nowhere.Augmentation, which cannot be imported .*PYTHONPATH"),
        ("limbeck.data.Shapes", r"limbeck.data.Shapes is no limbeck\.data\.Augmentation"),
        ("limbeck.data.cluster.torch.load", r"torch.load is no limbeck\.data\.Augmentation"),
    ],
)
def test_what_is_no_augmentation_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_recipe({"class_path": path, "init_args": {}}, trust=True)
