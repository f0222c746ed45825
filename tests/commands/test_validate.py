import json
import re
from pathlib import Path

import pytest

from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.commands.tiny_recipes import RUN, fit
from tests.metrics.plain_voc import plain_ap, read_annotations, read_detection_files


def test_validate_shows_student_and_teacher_side_by_side(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads((runs.taught / "summary.json").read_text())["scores"]
    last = runs.taught / "checkpoints" / "last.ckpt"
    tiny_recipes.limbeck("validate", *runs.pair, "--ckpt_path", last)
    lines = capsys.readouterr().out.splitlines()
    (heads,) = (line for line in lines if "score" in line)
    assert heads.index("teacher") < heads.index("student")
    for name in ("AP", "AP50", "AP_small", "AP/ring"):
        (line,) = (line for line in lines if f" {name} " in line)
        cells = [cell.strip() for cell in line.split("│")]
        assert cells[2:4] == [f"{scores[side][name]:.3f}" for side in ("teacher", "student")]
    assert not any(Path().iterdir())  # it leaves nothing


def test_validate_measures_the_averaged_weights_of_a_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipes.classifier(max_epochs=3)
    recipe["model"]["moving_average"] = 0.9
    fit(recipe)
    top1 = json.loads((RUN / "summary.json").read_text())["scores"]["student"]["top1"]
    path = tiny_recipes.write(Path("recipes"), "again", recipe)
    tiny_recipes.limbeck(
        "validate", "--config", path, "--ckpt_path", RUN / "checkpoints" / "last.ckpt"
    )
    assert f"│ {top1:.3f} " in capsys.readouterr().out


def test_a_voc_devkit_is_measured_by_its_protocol_and_its_detection_files_say_the_same(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real detector's boxes on real images, some objects of which are difficult."""
    folder = shared / "data/voc_pascal"
    root, names = folder / "VOCdevkit/VOC2012", (folder / "classes.txt").read_text().split()
    known = {"root": str(root), "split": "train"}
    found = {"detections": str(folder / "detections_abs_xyx2y2")}
    recipe = {
        "model": {
            "student": {"class_path": "tests.commands.replay.Replay", "init_args": known | found},
            "metric": "voc",
        },
        "data": {"val": {"class_path": "limbeck.data.VOC", "init_args": known}, "workers": 0},
        "trainer": tiny_recipes.TRAINER,
    }
    path = tiny_recipes.write(Path("recipes"), "voc", recipe)
    tiny_recipes.limbeck("validate", "--config", path, "--detections", "kit/results")

    stems = (root / "ImageSets/Main/train.txt").read_text().split()
    gt = read_annotations(root, stems, names)
    det = read_detection_files(Path("kit/results"), stems, names)
    assert gt[:, 6].any()
    assert len(list(Path("kit/results").iterdir())) == len(names)
    shown = dict(re.findall(r"│ (\S+) +│ (\d\.\d{3}) +│", capsys.readouterr().out))
    plain = {
        f"AP/{name}": plain_ap(det[det[:, 1] == label], gt[gt[:, 1] == label])
        for label, name in enumerate(names)
    }
    plain["mAP"] = sum(plain.values()) / len(names)
    assert 0.3 < plain["mAP"] < 0.9
    assert shown == {name: f"{value:.3f}" for name, value in plain.items()}
