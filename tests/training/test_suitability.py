"""Models, data and metrics that do not go together are refused or told of before training."""

import logging
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import nn

from limbeck.data import VOC, Concatenated, ImageFolder, Shapes, Split, VisionDataset
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.shapes import SHAPES
from limbeck.data.table import AnnotatedImage, Objects
from limbeck.methods import CWD, KD, PKD, FitNet
from limbeck.methods.base import class_difference
from limbeck.metrics import COCOAveragePrecision, KITTIAveragePrecision, VOCAveragePrecision
from limbeck.metrics.detections import DetectionMetric
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.suitability import (
    large_batches,
    missing_fields,
    other_classes_of_student,
    refuse_other_data,
    shared_images,
    unfit_training_set,
    unfit_validation_set,
)
from tests import tiny_models
from tests.training import tiny_runs

BOX = [4.0, 4, 20, 20]


def annotated(
    *boxes: list[float], name: str = "a", crowd: bool = False, training: bool = False
) -> AnnotatedImages:
    """Two images of 64 px, the second of which has boxes."""
    images = []
    for number, of_image in enumerate(([], boxes)):
        rows = torch.tensor(of_image, dtype=torch.float32).reshape(-1, 4)
        objects = Objects(
            rows,
            torch.ones(len(rows), dtype=torch.int64),
            (rows[:, 2:] - rows[:, :2]).prod(dim=1),
            torch.full((len(rows),), int(crowd)),
        )
        path = Path(f"/pictures/{name}{number}.png")
        images.append(AnnotatedImage(path, number, (64, 64), objects))
    options = {"training": training, "keep_images_without_boxes": True}
    return AnnotatedImages(SHAPES, images, source=Path("a.json"), **options)


def data_of(
    train: VisionDataset | None = None, val: VisionDataset | None = None, **options: Any
) -> DataModule:
    """Sound sets where none are given."""
    return DataModule(
        val or annotated(BOX, name="v"),
        train or annotated(BOX, training=True),
        **{"batch_size": 2} | options,
    )


# -- datasets -------------------------------------------------------------------------------------


def test_sound_data_is_not_talked_about() -> None:
    data = data_of()
    assert not unfit_training_set(data) + unfit_validation_set(data) + shared_images(data)
    assert not large_batches(data) + missing_fields(data, COCOAveragePrecision(SHAPES))


@pytest.mark.parametrize(
    ("train", "found"),
    [
        (annotated(BOX, crowd=True), "1 crowds and 0 boxes without area"),
        (annotated(BOX, [3.0, 3, 3, 9]), "0 crowds and 1 boxes without area"),
    ],
)
def test_crowds_and_empty_boxes_are_not_trained_on(train: AnnotatedImages, found: str) -> None:
    with pytest.raises(
        ValueError, match=rf"data.train has training: false, and {found}, first in .*/a1.png.*true"
    ):
        unfit_training_set(data_of(train))
    whole = Concatenated([annotated(BOX, training=True), train])
    with pytest.raises(ValueError, match=r"data.train.init_args.datasets\[1\] has training"):
        unfit_training_set(data_of(whole))


def test_a_set_that_was_opened_for_the_other_purpose_is_told_of() -> None:
    (said,) = unfit_training_set(data_of(annotated(BOX)))
    assert "data.train was opened with training: false" in said
    assert said.endswith("Set data.train.init_args.training to true.")
    (said,) = unfit_validation_set(data_of(val=annotated(BOX, training=True)))
    assert "data.val was opened with training: true" in said
    assert said.endswith("Set data.val.init_args.training to false.")


def test_sets_without_any_box_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data.train has 2 images and no box at all.*a0.png"):
        unfit_training_set(data_of(annotated()))
    with pytest.raises(ValueError, match=r"data.val has 2 images and no box at all"):
        unfit_validation_set(data_of(val=annotated()))


def test_images_that_are_trained_on_and_validated_with_are_told_of(tmp_path: Path) -> None:
    (said,) = shared_images(data_of(annotated(BOX, training=True), annotated(BOX)))
    assert "2 of the 2 for validation are trained on, such as /pictures/a0.png" in said
    for split, name in (("train", "x"), ("val", "y")):
        for kind in ("cat", "dog"):
            (tmp_path / split / kind).mkdir(parents=True)
            PIL.Image.new("RGB", (8, 8)).save(tmp_path / split / kind / f"{name}.png")
    train, val = ImageFolder(tmp_path / "train"), ImageFolder(tmp_path / "val")
    assert not shared_images(DataModule(val, train))
    (tmp_path / "again").symlink_to(tmp_path / "train")
    (said,) = shared_images(DataModule(ImageFolder(tmp_path / "again"), train))
    assert "2 of the 2 for validation" in said
    (said,) = shared_images(DataModule(Shapes(count=3, seed=1), Shapes(count=8, seed=1)))
    assert "3 of the 3 for validation" in said
    assert not shared_images(DataModule(Shapes(count=3, seed=0), Shapes(count=8, seed=1)))


def test_both_sides_of_a_split_share_nothing() -> None:
    several = Concatenated([Shapes(count=6, seed=1), Shapes(count=6, seed=2)])
    sides = {side: Split(several, side, share=0.5) for side in ("training", "held_out")}
    assert not shared_images(DataModule(sides["held_out"], sides["training"]))
    (said,) = shared_images(DataModule(sides["held_out"], several))
    assert "6 of the 6 for validation" in said
    inside = annotated(BOX, crowd=True)
    with pytest.raises(ValueError, match=r"data.train.init_args.dataset has training: false"):
        unfit_training_set(data_of(Split(inside)))


def test_a_batch_above_the_set_is_told_of() -> None:
    (said,) = large_batches(data_of(batch_size=3))
    assert "data.batch_size is 3, and data.train has 2 images" in said
    assert not large_batches(data_of(batch_size=2))


class Weather(DetectionMetric):
    required_fields = {"rain": torch.float}  # noqa: RUF012 - as a user writes it
    remedy = "; ask the clouds"

    def compute(self) -> dict[str, torch.Tensor]:
        return {}


@pytest.mark.parametrize("val", [annotated(BOX), Shapes(count=2, size=32)])
def test_a_metric_needs_its_fields(val: VisionDataset) -> None:
    data = DataModule(val)
    with pytest.raises(ValueError, match=r"Weather, which needs rain .*data.val has .*the clouds"):
        missing_fields(data, Weather(SHAPES))
    (said,) = missing_fields(data, VOCAveragePrecision(SHAPES))
    assert "VOCAveragePrecision, which reads difficult" in said
    (said,) = missing_fields(data, KITTIAveragePrecision(["Car", *SHAPES[1:]]))
    assert "reads occlusion, truncation" in said
    assert not missing_fields(data, COCOAveragePrecision(SHAPES))


# -- models ---------------------------------------------------------------------------------------


def test_models_for_the_other_task_are_refused() -> None:
    module = DistillationModule(tiny_models.classifier(), tiny_models.detector())
    with pytest.raises(ValueError, match=r"is for classification, model.teacher is a RetinaNet"):
        refuse_other_data(module.pair, tiny_runs.shapes("classification"))
    with pytest.raises(ValueError, match=r"is for detection, model.student is a Classifier"):
        refuse_other_data(module.pair, tiny_runs.shapes())


def test_own_data_in_vocs_layout_are_told_where_pascals_classes_come_from(tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name, kind in (("train", "dog"), ("val", "car")):
        (tmp_path / "ImageSets/Main" / f"{name}.txt").write_text(name)
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        corners = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
        one = f"<object><name>{kind}</name><bndbox>{corners}</bndbox></object>"
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"<annotation>{one}</annotation>")
    data = DataModule(VOC(tmp_path, "val"), VOC(tmp_path, "train", training=True))
    pair = DistillationModule(tiny_models.detector()).pair
    with pytest.raises(ValueError, match="PASCAL VOC's, which this layout has where") as told:
        refuse_other_data(pair, data)
    assert "data.train.init_args.classes and data.val.init_args.classes" in str(told.value)
    assert "(classes: [car, dog])" in str(told.value)


def test_a_student_of_another_number_of_classes_is_refused() -> None:
    pair = DistillationModule(tiny_models.classifier(classes=20)).pair
    with pytest.raises(ValueError, match=r"Set model.student.init_args.num_classes to 5\."):
        refuse_other_data(pair, tiny_runs.shapes("classification"))


# -- classes of the teacher -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "difference"),
    [
        (SHAPES, None),
        (
            ("ring", *SHAPES[1:]),
            "class 1 is 'ring' there and 'circle' here (there are 5 classes there, and 5 here).",
        ),
        (
            (*SHAPES, "star"),
            "class 6 is 'star' there and missing here (there are 6 classes there, and 5 here).",
        ),
        (
            SHAPES[:4],
            "class 5 is missing there and 'cross' here (there are 4 classes there, and 5 here).",
        ),
    ],
)
@pytest.mark.parametrize("sanity", [None, 0])
def test_other_classes_are_warned_of_before_the_first_step(
    theirs: tuple[str, ...],
    difference: str | None,
    sanity: int | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    teacher = tiny_models.detector(1)
    teacher.classes = theirs
    module = DistillationModule(tiny_models.detector(), teacher, {"hints": FitNet(["fpn"])})
    known: list[list[str]] = []
    watch = tiny_runs.Watch(lambda _: known.append(list(caplog.messages)))
    options = {"max_steps": 1, "num_sanity_val_steps": sanity, "limit_val_batches": 1}
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, watch, **options)
    warned = [line for line in known[0] if "has other classes than the data" in line]
    assert all(f"than the data: {difference} Its score counts" in line for line in warned)
    assert len(warned) == (difference is not None)


def test_a_student_that_is_measured_on_other_classes_is_told_of() -> None:
    student, data = tiny_models.classifier(), tiny_runs.shapes("classification")
    assert other_classes_of_student(student, data) == []  # it knows no names
    student.classes = list(SHAPES)
    assert other_classes_of_student(student, data) == []
    student.classes = ["ball", *SHAPES[1:]]
    (said,) = other_classes_of_student(student, data)
    assert f"class 1 is 'ball' there and {SHAPES[0]!r} here" in said
    student.classes = list(SHAPES[::-1])
    with pytest.raises(ValueError, match="in another order: class 1 is 'cross' there"):
        other_classes_of_student(student, data)


def test_a_method_that_compares_classes_refuses_others(tmp_path: Path) -> None:
    teacher = tiny_models.classifier(1)
    teacher.classes = SHAPES[::-1]

    def run(method: KD) -> None:
        module = DistillationModule(tiny_models.classifier(), teacher, {"soft": method})
        data = tiny_runs.shapes("classification")
        tiny_runs.fit(module, data, tmp_path, num_sanity_val_steps=0, max_steps=1)

    with pytest.raises(
        ValueError, match=r"class 1 is 'cross' there.*model.methods.soft.init_args.other_classes"
    ):
        run(KD())
    run(KD(other_classes=True))


def test_maps_of_classes_are_compared_class_by_class(tmp_path: Path) -> None:
    teacher = tiny_models.detector(1)
    teacher.classes = SHAPES[::-1]
    for method, way_out in (
        (CWD(["cls_maps"]), "choose a place before the heads, such as fpn"),
        (PKD(["cls_maps"]), "choose a place before the heads, such as fpn"),
        (FitNet(["cls_maps"], adapter="none"), "choose a place before the heads, such as fpn"),
    ):
        module = DistillationModule(tiny_models.detector(), teacher, {"maps": method})
        with pytest.raises(ValueError, match=f"class 1 is 'cross' there.*{way_out}"):
            tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, max_steps=1)
    assert not CWD(["fpn"]).compares_classes
    assert not FitNet(["cls_maps"]).compares_classes, "an adapter may exchange classes"


def test_a_teacher_without_names_is_compared_by_number() -> None:
    assert class_difference(tiny_models.classifier(), SHAPES) is None
    assert class_difference(nn.Identity(), SHAPES) is None
    found = class_difference(tiny_models.classifier(classes=9), SHAPES)
    assert found == "it has 9 of them, and 5 are expected."


def test_a_teacher_of_whom_nothing_is_learnt_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    module = DistillationModule(tiny_models.classifier(), tiny_models.classifier(1))
    data = tiny_runs.shapes("classification")
    trainer = tiny_runs.fit(module, data, tmp_path, max_steps=1)
    trainer.validate(module, data, verbose=False)
    assert len([line for line in caplog.messages if "but model.methods is empty" in line]) == 1
