"""ShuffleDet on KITTI's frames and YOLOv2 on WIDER FACE's, imitated, through the command line."""

import json
import math
from pathlib import Path

import pytest
import torch

from limbeck.models import load_student
from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import Recipe, fit

IMITATION = "limbeck.methods.FineGrainedImitation"


def shuffledet(width: float) -> Recipe:
    """On images of 64 x 208, a sixth of the published sides."""
    shapes = [[6, 6], [61, 29], [19, 10], [13, 28]]
    given = {"width": width, "num_classes": 3, "image_size": [64, 208], "anchor_shapes": shapes}
    return {"class_path": "limbeck.models.ShuffleDet", "init_args": given}


def kitti(shared: Path, student: Recipe) -> Recipe:
    root = {"root": str(shared / "data/kitti")}
    dataset = "limbeck.data.KITTI"
    return {
        "model": {
            "student": student,
            "metric": "kitti_2012",
            "optimizer": {
                "name": "sgd",
                "lr": 0.002,
                "weight_decay": 0.0,
                "weight_decays": {"head": 5e-4, "methods": 5e-4},
                "clip_each": 1.0,
            },
            "learning_rate": {"shape": "cosine", "warm_up": 0, "end_factor": 1e-7},
        },
        "data": {
            "train": {
                "class_path": dataset,
                "init_args": root | {"split": "train", "training": True},
            },
            "val": {"class_path": dataset, "init_args": root | {"split": "val"}},
            "augmentation": {
                "class_path": "limbeck.data.ShuffleDetAugmentation",
                "init_args": {"size": [64, 208]},
            },
            "batch_size": 3,
            "workers": 0,
        },
        "trainer": {"max_epochs": 1} | tiny_recipes.TRAINER,
    }


def yolov2(width: float) -> Recipe:
    given = {"width": width, "num_classes": 1, "image_size": [128, 128]}
    shapes = {"anchor_shapes": [[1, 2], [3, 5], [8, 12]]}
    return {"class_path": "limbeck.models.YOLOv2", "init_args": given | shapes}


def widerface(shared: Path, student: Recipe) -> Recipe:
    root = shared / "data/widerface"
    given, dataset = {"root": str(root), "split": "val"}, "limbeck.data.WIDERFace"
    train = given | {"training": True, "events": ["7--Cheering", "12--Group"]}
    val = given | {
        "events": ["10--People_Marching", "49--Greeting"],
        "ground_truth": str(root / "eval_tools/ground_truth"),
    }
    return {
        "model": {"student": student, "metric": "widerface", "optimizer": {"lr": 1e-3}},
        "data": {
            "train": {"class_path": dataset, "init_args": train},
            "val": {"class_path": dataset, "init_args": val},
            "augmentation": {
                "class_path": "limbeck.data.DetectionAugmentation",
                "init_args": {"sizes": [[96, 96], [128, 128]]},
            },
            "batch_size": 2,
            "workers": 0,
        },
        "trainer": {"max_epochs": 2} | tiny_recipes.TRAINER,
    }


def imitation(teacher: Path, **arguments: object) -> Recipe:
    folder = {"folder": str(teacher / "student")}
    loaded = {"class_path": "limbeck.models.load_student", "init_args": folder}
    method = {"class_path": IMITATION, "init_args": arguments}
    return {"model": {"teacher": loaded, "methods": {"imitation": method}}}


def assert_distilled(headline: str, scores: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A run in ``imitated`` that learnt something, whose student gives what was measured."""
    summary = json.loads(Path("imitated/summary.json").read_text())
    assert summary["headline"] == headline
    assert summary["scores"].keys() == {"student", "teacher"}
    for of_side in summary["scores"].values():
        assert scores <= of_side.keys()
        assert all(0 <= value <= 1 for value in of_side.values())
    logged = [row for row in tiny_recipes.rows(Path("imitated")) if row.get("train/total")]
    losses = [float(row["train/raw/imitation/imitation"]) for row in logged]
    assert losses
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    capsys.readouterr()


@pytest.mark.slow
def test_shuffledet_imitates_on_kitti(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, student = kitti(shared, shuffledet(0.25)), kitti(shared, shuffledet(0.15))
    fit(teacher, folder=Path("teacher"))
    fit(
        student,
        imitation(Path("teacher"), weight=0.5),
        folder=Path("imitated"),
        words=("--trainer.log_every_n_steps", 1),
    )
    scores = {"mAP", *(f"AP/{name}/moderate" for name in ("Car", "Pedestrian", "Cyclist"))}
    assert_distilled("mAP", scores, capsys)
    detector = load_student("imitated/student")
    assert detector.classes == ("Car", "Pedestrian", "Cyclist")
    (found,) = detector([torch.rand(3, 375, 1242)])
    assert found["boxes"].shape[1] == 4


@pytest.mark.slow
def test_yolov2_imitates_on_wider_face(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, student = widerface(shared, yolov2(0.1)), widerface(shared, yolov2(0.05))
    fit(teacher, folder=Path("teacher"))
    fit(
        student,
        imitation(Path("teacher"), weight=0.1, activation="leaky_relu"),
        folder=Path("imitated"),
        words=("--trainer.log_every_n_steps", 1),
    )
    assert_distilled("AP", {"AP/easy", "AP/medium", "AP/hard"}, capsys)
    assert load_student("imitated/student").seen == 4  # two images, two epochs
    drawn = ["inspect", "recipes/0.yaml", "recipes/1.yaml", "--method", "imitation"]
    tiny_recipes.limbeck(*drawn, "--picture", "mask.png")
    assert Path("mask.png").stat().st_size > 10_000


def test_wider_face_without_its_lists_says_what_is_missing(
    shared: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = widerface(shared, yolov2(0.05))
    del recipe["data"]["val"]["init_args"]["ground_truth"]
    with pytest.raises(SystemExit):
        fit(recipe)
    assert "give the dataset `ground_truth`" in capsys.readouterr().err
