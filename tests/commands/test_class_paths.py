"""A class path of a recipe that is wrong, as the user is told."""

import pytest

from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import RUN, fit

WRONG = [
    (
        "model.metric=limbeck.metrics.VOCAverage",
        "model.metric names limbeck.metrics.VOCAverage, which cannot be imported (module "
        "'limbeck.metrics' has no attribute 'VOCAverage'). Expected auto, coco, voc, ",
    ),
    ("model.metric=coc", "model.metric names coc. Expected auto, coco, voc, "),
    ("model.metric=limbeck.data.Shapes", "names limbeck.data.Shapes. Expected auto, coco, voc, "),
    (
        "model.learning_rate.shape=nowhere.shape",
        "model.learning_rate.shape names nowhere.shape, which cannot be imported (No module named "
        "'nowhere'). Expected constant, step, cosine, one_cycle, or the path of a function",
    ),
    (
        "data.augmentation=limbeck.data.Shapes",
        "data.augmentation names limbeck.data.Shapes. Expected the class path of a limbeck.data.Au",
    ),
    ("data.val=limbeck.data.Nowhere", "Expected the class path of a limbeck.data.VisionDataset."),
    (
        "data.val={class_path: limbeck.data.Concatenated, init_args: {datasets: "
        "[{class_path: nowhere.Set}]}}",
        "data.val names nowhere.Set, which cannot be imported (No module named 'nowhere').",
    ),
    (
        "model.methods={mine: {class_path: limbeck.methods.KDs}}",
        "model.methods names limbeck.methods.KDs, which cannot be imported (module "
        "'limbeck.methods' has no attribute 'KDs'). Expected names of the user's choice, each",
    ),
    ("model.student=nowhere.Net", "Expected the class path of a torch.nn.Module, or of a function"),
]


@pytest.mark.parametrize(("stated", "message"), WRONG)
def test_a_wrong_class_path_is_refused_with_what_was_expected(
    stated: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tiny_recipes.plain(), words=(f"--{stated}",))
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Union" not in said


def test_the_nearest_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(
            tiny_recipes.plain(), words=("--data.augmentation=limbeck.data.DetectionAugmentations",)
        )
    assert "Nearest known: DetectionAugmentation" in capsys.readouterr().err


def test_what_is_wrong_within_a_class_is_told_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argument = "{class_path: limbeck.data.DetectionAugmentation, init_args: {fip: 3}}"
    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), words=(f"--data.augmentation={argument}",))
    said = capsys.readouterr().err
    assert "'fip' is not accepted" in said
    assert "Nearest known: flip." in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--model.metric=torchmetrics.MeanMetric",),
            "makes no metric of the class names (Arg `nan_strategy` should",
        ),
        (
            ("--model.metric=limbeck.metrics.TopKAccuracy",),
            "is for classification, but the data is for detection. Give a metric for detection",
        ),
        (
            ("--data.augmentation=limbeck.data.ClassificationAugmentation",),
            "which is for classification, but the datasets are for detection. Give",
        ),
    ],
)
def test_what_is_for_something_else_is_refused_before_training(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tiny_recipes.plain(), words=words)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not RUN.exists()
