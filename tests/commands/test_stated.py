from collections.abc import Callable
from pathlib import Path

import pytest

from limbeck.commands.stated import parts_of, stated_in
from limbeck.models import RetinaNet
from tests.commands import tiny_recipes

OVER = {"trainer": {"max_epochs": 7}}


def test_nothing_is_built_of_what_is_stated(tmp_path: Path) -> None:
    student = tiny_recipes.detector(weights="a file that is not there")
    recipe = tiny_recipes.plain()
    recipe["model"]["student"] = student
    first = tiny_recipes.write(tmp_path, "first", recipe)
    over = tiny_recipes.write(tmp_path, "over", OVER)
    stated = stated_in([str(first), str(over)])
    assert stated.model.student.init_args.weights == "a file that is not there"
    assert stated.trainer.max_epochs == 7
    assert stated.checkpoint_every == 1000  # what no recipe states has its default


def test_parts_are_built_of_recipes_laid_over_one_another(tmp_path: Path) -> None:
    first = tiny_recipes.write(tmp_path, "first", tiny_recipes.plain())
    over = tiny_recipes.write(tmp_path, "over", {"data": {"batch_size": 4}})
    module, data = parts_of([str(first), str(over)])
    assert isinstance(module.pair.student, RetinaNet)
    images, _ = next(iter(data.train_dataloader()))
    assert len(images) == 4


@pytest.mark.parametrize("read", [stated_in, parts_of])
def test_an_unknown_key_is_refused_by_name(
    tmp_path: Path, read: Callable[[list[str]], object], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tiny_recipes.plain()
    recipe["model"]["studnt"] = None
    with pytest.raises(SystemExit):
        read([str(tiny_recipes.write(tmp_path, "wrong", recipe))])
    assert "studnt" in caplog.text
