import pytest
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from limbeck.commands.building import said_of_building
from limbeck.commands.errors import RecipeError
from limbeck.commands.in_words import entries
from limbeck.data import Shapes
from limbeck.models import BasicBlocks, load_student

STATED = Namespace(model=Namespace(student=Namespace(init_args=Namespace(stem_stride=3))))


def test_an_argument_is_told_by_its_key() -> None:
    message = r"^model\.student\.init_args\.stem_stride=3: expected"
    with pytest.raises(RecipeError, match=message), said_of_building(STATED):
        BasicBlocks((1,), (8,), 3)  # type: ignore[arg-type]


def sets(*seeds: int) -> Namespace:
    def made(seed: int) -> Namespace:
        return Namespace(class_path="limbeck.data.Shapes", init_args=Namespace(count=2, seed=seed))

    return Namespace(data=Namespace(train=made(seeds[0]), val=made(seeds[1])))


def test_of_two_of_one_class_the_one_with_these_arguments_is_named() -> None:
    message = r"^data\.val\.init_args\.seed is -1; expected"
    with pytest.raises(RecipeError, match=message), said_of_building(sets(3, -1)):
        Shapes(count=2, seed=-1)


def test_what_is_about_no_argument_is_told_behind_the_key() -> None:
    path = "limbeck.models.load_student"
    stated = Namespace(model=Namespace(teacher=Namespace(class_path=path)))
    message = r"^model\.teacher: nowhere holds no student"
    with pytest.raises(RecipeError, match=message), said_of_building(stated):
        load_student("nowhere")


def test_the_items_of_a_list_have_numbers() -> None:
    stated = Namespace(trainer=Namespace(callbacks=[Namespace(class_path="a"), None]))
    keys = [key for key, _ in entries(stated)]
    first = "trainer.callbacks[0]"
    assert keys[-3:] == [first, f"{first}.class_path", "trainer.callbacks[1]"]


def test_lightning_s_refusal_is_told_as_one_of_the_recipe() -> None:
    message = r"trainer: Lightning does not take .*max_epochs"
    with pytest.raises(RecipeError, match=message), said_of_building(STATED):
        Trainer(max_epochs=-3)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, RuntimeError, ValueError])
def test_mistakes_stay_what_they_are(error: type[Exception]) -> None:
    with pytest.raises(error), said_of_building(STATED):
        raise error("a mistake in limbeck")
