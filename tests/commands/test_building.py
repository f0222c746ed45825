import pytest
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from limbeck.commands.building import said_of_building
from limbeck.commands.recipe_files import RecipeError
from limbeck.models import BasicBlocks

STATED = Namespace(model=Namespace(student=Namespace(init_args=Namespace(stem_stride=3))))


def test_an_argument_is_told_by_its_key() -> None:
    message = r"^model\.student\.init_args\.stem_stride=3: expected"
    with pytest.raises(RecipeError, match=message), said_of_building(STATED):
        BasicBlocks((1,), (8,), 3)  # type: ignore[arg-type]


def test_lightning_s_refusal_is_told_as_one_of_the_recipe() -> None:
    message = r"trainer: Lightning does not take .*max_epochs"
    with pytest.raises(RecipeError, match=message), said_of_building(STATED):
        Trainer(max_epochs=-3)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, RuntimeError, ValueError])
def test_mistakes_stay_what_they_are(error: type[Exception]) -> None:
    with pytest.raises(error), said_of_building(STATED):
        raise error("a mistake in limbeck")
