"""jsonargparse's own messages about a recipe, through the command line."""

import pytest

from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import RUN, fit

TYPES = [
    ("trainer.max_epochs=many", "trainer.max_epochs is many; expected a whole number or null."),
    ("trainer.max_epochs=1.5", "trainer.max_epochs is 1.5; expected a whole number or null."),
    ("trainer.deterministic=at times", "expected warn or true or false or null. Give"),
    (
        "seed_everything=lucky",
        "seed_everything is lucky; expected a whole number of 0 or more. Give",
    ),
    ("checkpoint_every=0", "checkpoint_every is 0; expected a whole number above 0. Give"),
    ("checkpoint_every=1.5", "checkpoint_every is 1.5; expected a whole number above 0. Give"),
    ("model.optimizer.lr=fast", "model.optimizer.lr is fast; expected a number. Give it such"),
    ("model.optimizer.name=adagrad", "optimizer.name is adagrad; expected one of sgd, adamw. Give"),
    ("model.optimizer.lr_factors=3", "model.optimizer.lr_factors is 3; expected a mapping. Give"),
    ("model.optimizer.lr_factors={a: x}", "lr_factors is x; expected a number. Give it such"),
    ("data.batch_size=2.5", "data.batch_size is 2.5; expected a whole number. Give"),
    ("data.on_bad_sample=ignore", "data.on_bad_sample is ignore; expected one of error, skip."),
    ("data.train.init_args.count=x", "data.train.init_args.count is x; expected a whole number."),
    ("model.student.init_args.num_classes=five", "student.init_args.num_classes is five; expected"),
    ("model.student.init_args.levels=[3]", "levels is [3]; expected a list of 2 values. Give"),
    ("model.student.init_args.norm=batch", "norm is batch; expected one of frozen, affine, tr"),
    (
        "model.methods={f: {class_path: limbeck.methods.FitNet, init_args: {places: [P3], "
        "weight: x}}}",
        "model.methods.f.init_args.weight is x; expected a number or the dotted path of a class",
    ),
    (
        "model.methods={f: {class_path: limbeck.methods.FitNet}}",
        "model.methods.f.init_args.places: missing; limbeck.methods.FitNet needs it.",
    ),
    (
        "model.student.init_args.backbone={depth: [1], widths: [8]}",
        "init_args.backbone: the argument 'depth' is not accepted by limbeck.models.BasicBlocks "
        "(found [1]). Expected one of depths, widths, stem_stride, shortcuts.",
    ),
    (
        "trainer.callbacks=[{class_path: lightning.pytorch.callbacks.Timerr}]",
        "trainer.callbacks names lightning.pytorch.callbacks.Timerr, which cannot be imported",
    ),
    ("model.student=os.path.join", "model.student names os.path.join. Expected the class path of"),
]


@pytest.mark.parametrize(("stated", "message"), TYPES, ids=[stated for stated, _ in TYPES])
def test_a_wrong_type_is_told_in_words(
    stated: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tiny_recipes.plain(), words=(f"--{stated}",))
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "class '" not in said
    assert "Union" not in said
    assert not RUN.exists()


@pytest.mark.parametrize(
    ("section", "key"), [("model", "student"), ("data", "val")], ids=["student", "val"]
)
def test_a_key_that_is_missing_is_named_with_what_it_has_to_be(
    section: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipes.plain()
    del recipe[section][key]
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"{section}.{key} is missing. Expected the class path of a" in said


def test_an_empty_recipe_lacks_a_student_and_validation_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        fit({})
    said = capsys.readouterr().err
    assert "model.student is missing" in said
    assert "data.val is missing" in said


def test_an_unknown_key_is_told_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), words=("--model.optimizer.learning_rate=0.1",))
    said = capsys.readouterr().err
    assert "--model.optimizer.learning_rate is not known. model.optimizer takes bias" in said
