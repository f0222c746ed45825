from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.detection import MeanAveragePrecision

from limbeck.metrics import (
    COCOAveragePrecision,
    KITTIAveragePrecision,
    TopKAccuracy,
    WIDERFaceAveragePrecision,
)
from limbeck.training.module import DistillationModule
from limbeck.training.scoring import headline_of, higher_is_better, make_metric, named_scores
from tests import tiny_models
from tests.training import tiny_runs

CLASSES = ("cat", "dog")


class Given(Metric):
    """Computes what it was told to."""

    def __init__(self, classes: Sequence[str], result: Any = 0.5) -> None:
        super().__init__()
        self.classes = classes
        self.result = result

    def update(self, predictions: Any, targets: Any) -> None:
        pass

    def compute(self) -> Any:
        return self.result


class Headed(Given):
    headline = "b"


class Less(Given):
    higher_is_better = False


class OfBoxes(Given):
    task = "detection"


def test_a_name_is_one_of_a_table() -> None:
    assert type(make_metric("auto", "detection", CLASSES)) is COCOAveragePrecision
    accuracy = make_metric("auto", "classification", [str(i) for i in range(8)])
    assert type(accuracy) is TopKAccuracy
    accuracy.update(torch.eye(8), torch.arange(8))
    assert named_scores(accuracy) == {"top1": 1, "top5": 1}
    kitti = make_metric("kitti_2012", "detection", CLASSES)
    assert isinstance(kitti, KITTIAveragePrecision)
    assert (kitti.rules, kitti.points, kitti.classes) == ("2012", 11, CLASSES)
    assert type(make_metric("widerface", "detection", ["face"])) is WIDERFaceAveragePrecision


def test_a_callable_is_given_the_class_names() -> None:
    made = make_metric(Given, "classification", CLASSES)
    assert type(made) is Given
    assert made.classes == CLASSES
    assert type(make_metric(lambda _: MeanAveragePrecision(), "detection", CLASSES)) is (
        MeanAveragePrecision
    )


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("coc", "model.metric is 'coc'; expected auto, coco, voc, kitti, kitti_2012, widerface"),
        ("coco", "is for detection, but the data is for classification"),
        (OfBoxes, "makes a OfBoxes, which is for detection, but the data is for classification"),
        (MeanMetric, "makes no metric of the class names .*first argument is the list of class"),
        (lambda: Given(CLASSES), "makes no metric of the class names .*takes 0 positional"),
        (lambda _: MetricCollection([]), "makes a MetricCollection of the class names. Expected"),
        (lambda _: 0.5, "makes a float of the class names. Expected a torchmetrics.Metric"),
    ],
)
def test_what_is_no_metric_of_the_classes_is_refused(metric: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_metric(metric, "classification", CLASSES)


@pytest.mark.parametrize(
    ("metric", "result", "scores"),
    [
        (Given, torch.tensor(0.25), {"Given": 0.25}),
        (Given, 0.25, {"Given": 0.25}),
        (Given, torch.tensor([0.25]), {"Given": 0.25}),
        (Given, {"Given": 0.5, "other": 2}, {"Given": 0.5, "other": 2}),
        (Headed, 0.25, {"b": 0.25}),
        (
            Headed,
            {"a": 1.0, "b": torch.tensor(0.5), "classes": torch.arange(3)},
            {"a": 1, "b": 0.5},
        ),
    ],
)
def test_scores_are_named(metric: type[Given], result: Any, scores: dict[str, float]) -> None:
    made = metric(CLASSES, result)
    found = named_scores(made)
    assert found == scores
    assert headline_of(made) in found
    assert all(isinstance(score, Tensor) and score.dim() == 0 for score in found.values())


@pytest.mark.parametrize(
    ("metric", "result", "message"),
    [
        (
            Given,
            {"a": 1.0, "c": 2.0},
            "Given has no attribute `headline`, and computes 'a', 'c'. Set",
        ),
        (Given, torch.ones(2), "Given has no attribute `headline`, and computes no scalar. Set"),
        (Headed, {"a": 1.0}, "says that its headline is 'b', and computes 'a'. Set"),
    ],
)
def test_several_scores_without_a_headline_are_refused(
    metric: type[Given], result: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        named_scores(metric(CLASSES, result))


def test_more_is_better_unless_the_metric_denies_it() -> None:
    assert higher_is_better(Given(CLASSES))  # torchmetrics: None, not known
    assert higher_is_better(COCOAveragePrecision(CLASSES))
    assert not higher_is_better(Less(CLASSES))


def test_a_metric_without_a_headline_ends_a_run_before_its_first_step(tmp_path: Path) -> None:
    module = DistillationModule(
        tiny_models.classifier(), metric=lambda classes: Given(classes, {"a": 1.0, "c": 0.0})
    )
    with pytest.raises(ValueError, match="Given has no attribute `headline`"):
        tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    assert module.pair.number == 0


def test_torchmetrics_own_scores_are_taken(tmp_path: Path) -> None:
    class Boxes(MeanAveragePrecision):
        headline = "map_50"

        def __init__(self, classes: Sequence[str]) -> None:
            super().__init__(backend="faster_coco_eval")

    module = DistillationModule(tiny_models.detector(), metric=Boxes)
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, limit_train_batches=1)
    assert {"map", "map_50", "mar_100"} <= module.scores["student"].keys()
    assert "headline" in (tmp_path / "summary.json").read_text()


@pytest.mark.parametrize(("scores", "warned"), [((0.2, 0.1), True), ((0.2, 0.3), False)])
def test_a_student_of_a_lower_error_has_passed_its_teacher(
    scores: tuple[float, float], warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = iter(scores)  # the teacher's comes first

    class Falling(Less):
        def compute(self) -> float:
            return next(given)

    module = DistillationModule(tiny_models.classifier(), tiny_models.classifier(1), metric=Falling)
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    assert any("is weaker than the student" in line for line in caplog.messages) == warned


class OfClasses(Metric):
    """A metric with a score for each class."""

    headline = "AP"

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = classes

    def update(self) -> None:
        """Nothing is seen."""

    def compute(self) -> dict[str, Tensor]:
        return {"AP": torch.tensor(0.5)} | {f"AP/{n}": torch.tensor(1.0) for n in self.classes}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_the_names_of_scores_are_one_line_each_and_differ() -> None:
    classes = ["on/off", "[/red]", "a\nb", "a%0Ab", "\ud800", "100%"]
    assert list(named_scores(OfClasses(classes))) == [
        "AP",
        "AP/on/off",
        "AP/[/red]",
        "AP/a%0Ab",
        "AP/a%250Ab",
        "AP/%ED%A0%80",
        "AP/100%",
    ]
