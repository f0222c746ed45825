from dataclasses import dataclass, field

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


def test_by_default_images_only_become_floats() -> None:
    plain = Plain()
    assert plain.training_batch() is None
    image, target = Shapes("classification", size=32, count=1)[0]
    seen, same = plain.evaluation()(image, target)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(
        seen.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor) / 255
    )
    assert same == target
    assert torch.equal(plain.evaluation()(image), seen)


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
