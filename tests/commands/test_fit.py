import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from limbeck.data.loading import scaled
from limbeck.metrics import COCOAveragePrecision
from limbeck.models import FCOS, load_student
from limbeck.training.data import DataModule
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.commands.tiny_recipes import RUN, fit

TERMS = ("student/classification", "student/bbox_regression", "fitnet/fpn.0", "fitnet/fpn.1")


def checkpoint(folder: Path, name: str = "last") -> dict[str, object]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=False)


def student(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "student" / "student.safetensors")


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


# -- what a run leaves --------------------------------------------------------------------------


def test_a_run_is_kept_in_a_folder_named_after_its_last_recipe(runs: Runs) -> None:
    for folder, more in ((runs.teacher, set()), (runs.taught, {"balance.json"})):
        assert {path.name for path in folder.iterdir()} - {"hparams.yaml"} == more | {
            "checkpoints",
            "config.yaml",
            "metrics.csv",
            "student",
            "summary.json",
            "tensorboard",
        }
    assert {path.name for path in runs.root.iterdir()} == {"runs", "tiny"}


def test_one_recipe_is_laid_over_another(runs: Runs) -> None:
    config = yaml.safe_load((runs.taught / "config.yaml").read_text())
    assert config["model"]["student"]["init_args"]["fpn_channels"] == 16  # of the first
    assert config["model"]["methods"]["fitnet"]["init_args"]["weight"] == 5.0  # of the second
    assert config["trainer"]["max_epochs"] == 6  # of the command line


def test_csv_and_tensorboard_hold_every_term_raw_and_weighted(runs: Runs) -> None:
    logged = [row for row in tiny_recipes.rows(runs.taught) if row["train/total"]]
    assert [int(row["step"]) for row in logged] == [9, 19]
    for row in logged:
        weighted = {term: float(row[f"train/weighted/{term}"]) for term in TERMS}
        for term, value in weighted.items():
            weight = 5.0 if term.startswith("fitnet/") else 1.0
            assert value == pytest.approx(weight * float(row[f"train/raw/{term}"]), rel=1e-5)
        assert float(row["train/total"]) == pytest.approx(sum(weighted.values()), rel=1e-5)
        task = weighted[TERMS[0]] + weighted[TERMS[1]]
        assert float(row["train/task"]) == pytest.approx(task, rel=1e-5)
        assert float(row["train/distillation"]) == pytest.approx(
            weighted[TERMS[2]] + weighted[TERMS[3]], rel=1e-5
        )
    events = EventAccumulator(str(runs.taught / "tensorboard"))
    events.Reload()
    for name in (f"train/{kind}/{term}" for kind in ("raw", "weighted") for term in TERMS):
        values = [event.value for event in events.Scalars(name)]
        assert values == pytest.approx([float(row[name]) for row in logged], rel=1e-5)


def test_a_plain_run_has_no_distillation_and_no_wiring(runs: Runs) -> None:
    names = set(tiny_recipes.rows(runs.teacher)[0])
    assert not any("distillation" in name or "fitnet" in name for name in names)


def test_the_summary_says_what_the_run_came_to(runs: Runs) -> None:
    summary = json.loads((runs.taught / "summary.json").read_text())
    assert (summary["steps"], summary["headline"]) == (24, "AP")
    assert summary["scores"].keys() == {"student", "teacher"}
    assert summary["training_seconds"]["cpu"] > 0
    last = [row for row in tiny_recipes.rows(runs.taught) if row["val/AP50"]][-1]
    assert summary["scores"]["student"]["AP50"] == pytest.approx(float(last["val/AP50"]))


def test_the_teacher_s_score_is_that_of_an_independent_evaluation(runs: Runs) -> None:
    config = yaml.safe_load((runs.teacher / "config.yaml").read_text())
    scores = json.loads((runs.taught / "summary.json").read_text())["scores"]["teacher"]
    data = shapes_data()
    metric = COCOAveragePrecision(data.classes)
    model = load_student(runs.teacher / "student")
    with torch.inference_mode():
        for images, targets in data.val_dataloader():
            metric.update(model(scaled(images)), targets)
    expected = {name: float(value) for name, value in metric.compute().items()}
    assert scores == pytest.approx(expected)
    assert config["data"]["val"]["init_args"]["count"] == len(data.val)


def shapes_data() -> DataModule:
    from limbeck.data import Shapes

    return DataModule(Shapes(size=64, count=8, seed=0), batch_size=8, workers=0)


def test_the_student_knows_its_classes_and_how_it_was_measured(runs: Runs) -> None:
    card = json.loads((runs.taught / "student" / "student.json").read_text())
    assert card["metadata"] == {"task": "detection", "augmentation": None}
    model = load_student(runs.taught / "student")
    assert model.classes == ("circle", "square", "triangle", "ring", "cross")


def test_the_artefact_is_the_student_of_the_last_checkpoint(runs: Runs) -> None:
    state = checkpoint(runs.taught)["state_dict"]
    trained = {n.removeprefix("pair.student."): v for n, v in state.items() if ".student." in n}
    assert same(student(runs.taught), trained)


def test_a_checkpoint_is_without_the_teacher(runs: Runs) -> None:
    last = checkpoint(runs.taught)
    names = last["state_dict"].keys()
    assert all(n.startswith(("pair.student.", "pair.methods.", "pair._extra")) for n in names)
    held = {id(t) for n, t in last["state_dict"].items() if isinstance(t, Tensor)}
    trained = sum(n.startswith(("pair.student.", "pair.methods.")) for n in names)
    assert len(held) == trained


# -- seeds, folders, keys -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_student_and_another_another(runs: Runs) -> None:
    fit(tiny_recipes.plain(), folder=Path("same"))
    fit(tiny_recipes.plain(), folder=Path("other"), words=("--seed_everything", 1))
    assert same(student(runs.teacher), student(Path("same")))
    assert not same(student(runs.teacher), student(Path("other")))


def test_the_folder_of_another_run_is_refused(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (runs.teacher / "student" / "student.json").read_bytes()
    elsewhere = runs.taught / "checkpoints" / "last.ckpt"
    for words in ((), ("--ckpt_path", elsewhere)):
        with pytest.raises(SystemExit) as end:
            fit(tiny_recipes.plain(), folder=runs.teacher, words=words)
        assert end.value.code == 1
        said = capsys.readouterr().err
        assert f"{runs.teacher} holds another run (config.yaml, checkpoints, student)" in said
        assert f"limbeck fit --resume {runs.teacher}" in said
    assert (runs.teacher / "student" / "student.json").read_bytes() == before


def test_a_run_that_never_began_leaves_its_folder_free(
    capsys: pytest.CaptureFixture[str],
) -> None:
    endless = tiny_recipes.plain(max_epochs=-1)
    with pytest.raises(SystemExit):
        fit(endless)
    assert "set trainer.max_epochs or trainer.max_steps" in capsys.readouterr().err
    fit(tiny_recipes.plain(max_epochs=1))
    assert (RUN / "student").exists()


UNKNOWN = [
    ("model", "studnet", "model.student"),
    ("data", "batch_siz", "data.batch_size"),
    ("trainer", "max_epoch", "trainer.max_epochs"),
]


@pytest.mark.parametrize(("section", "key", "nearest"), UNKNOWN)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    section: str, key: str, nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipes.plain()
    recipe[section] |= {key: 3}
    with pytest.raises(SystemExit) as end:
        fit(recipe)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"'{section}.{key}'" in said
    assert f"Nearest known: {nearest}" in said

    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), words=(f"--{section}.{key}", 3))
    said = capsys.readouterr().err
    assert f"--{section}.{key}" in said
    assert f"Nearest known: --{nearest}" in said
    assert not RUN.exists()


def test_an_unknown_argument_of_a_class_is_refused_with_the_nearest_known_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipes.plain()
    recipe["model"]["student"] = tiny_recipes.detector(fpn_chanels=8)
    with pytest.raises(SystemExit):
        fit(recipe)
    said = capsys.readouterr().err
    assert "'fpn_chanels' is not accepted" in said
    assert "Nearest known: fpn_channels" in said

    recipe["model"]["student"]["class_path"] = "limbeck.models.RetinNet"
    with pytest.raises(SystemExit):
        fit(recipe)
    assert "Nearest known: RetinaNet" in capsys.readouterr().err


def test_a_wrong_type_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(tiny_recipes.plain(), words=("--data.batch_size", "many"))
    said = capsys.readouterr().err
    assert "data.batch_size" in said
    assert "many" in said


def test_a_misspelt_teacher_folder_is_an_error_that_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        fit(tiny_recipes.plain(), tiny_recipes.taught(Path("nowhere")))
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "nowhere holds no student" in said
    assert "Traceback" not in said


# -- checkpoints --------------------------------------------------------------------------------


def steady(**trainer: object) -> tiny_recipes.Recipe:
    """40 images, 5 steps an epoch, at a learning rate that does not depend on the run's length."""
    recipe = tiny_recipes.plain(**trainer)
    recipe["data"]["train"] = tiny_recipes.shapes(40, 1)
    recipe["model"] |= {
        "learning_rate": {"shape": "constant", "warm_up": 0},
        "moving_average": 0.9,
    }
    return recipe


def test_a_run_without_a_validation_ends_with_its_student(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit(steady(max_steps=2, max_epochs=-1, limit_val_batches=0, num_sanity_val_steps=0))
    assert (RUN / "student/student.json").exists()
    assert json.loads((RUN / "summary.json").read_text())["steps"] == 2
    assert "measured as it ended" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tiny_recipes.taught(runs.teacher / "student")
    fit(steady(max_epochs=3, max_steps=12, log_every_n_steps=1), overlay, folder=Path("whole"))
    # In the middle of the second epoch, between two validations.
    capsys.readouterr()
    fit(steady(max_epochs=3, max_steps=7, log_every_n_steps=1), overlay)
    assert "measured as it ended: AP " in capsys.readouterr().err
    assert checkpoint(RUN)["global_step"] == 7
    shutil.copytree(RUN, "copy")
    resumed = ("--ckpt_path", RUN / "checkpoints" / "last.ckpt")
    fit(steady(max_epochs=3, max_steps=12, log_every_n_steps=1), overlay, words=resumed)

    whole, continued = checkpoint(Path("whole")), checkpoint(RUN)
    assert continued["global_step"] == 12
    extra = "pair._extra_state"
    assert continued["state_dict"][extra] == whole["state_dict"][extra]
    assert continued["state_dict"][extra]["number"] == 12
    assert same(student(RUN), student(Path("whole")))
    # The log goes on, and the teacher's score is known, though it was not measured again.
    steps = [int(row["step"]) for row in tiny_recipes.rows(RUN) if row["train/total"]]
    assert steps == list(range(12))
    scores = json.loads((RUN / "summary.json").read_text())["scores"]
    assert scores == json.loads(Path("whole/summary.json").read_text())["scores"]
    # Once more, with nothing left to train.
    before = student(RUN)
    fit(steady(max_epochs=3, max_steps=12, log_every_n_steps=1), overlay, words=resumed)
    assert same(student(RUN), before)
    assert [int(row["step"]) for row in tiny_recipes.rows(RUN) if row["train/total"]] == steps
    capsys.readouterr()

    other = Path("other")
    fit(tiny_recipes.plain(max_epochs=1), folder=other)
    with pytest.raises(SystemExit):
        fit(
            steady(max_epochs=3),
            tiny_recipes.taught(other / "student"),
            folder=Path("copy"),
            words=("--ckpt_path", "copy/checkpoints/last.ckpt"),
        )
    assert "this checkpoint was trained with another teacher" in capsys.readouterr().err


def test_the_last_checkpoint_is_the_last_and_the_best_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.2])  # the sanity pass, then one an epoch

    def falling(self: COCOAveragePrecision) -> dict[str, Tensor]:
        return {"AP": torch.tensor(next(scores))}

    monkeypatch.setattr(COCOAveragePrecision, "compute", falling)
    fit(tiny_recipes.plain(max_epochs=3))
    assert checkpoint(RUN, "best")["global_step"] == 4
    assert checkpoint(RUN, "last")["global_step"] == 12


def test_a_run_that_ends_between_validations_is_measured_as_it_ended() -> None:
    fit(steady(max_epochs=2, max_steps=7))
    summary = json.loads((RUN / "summary.json").read_text())
    assert summary["steps"] == 7
    assert summary["training_seconds"]["wall"] > 0
    data = shapes_data()
    metric = COCOAveragePrecision(data.classes)
    model = load_student(RUN / "student")
    with torch.inference_mode():
        for images, targets in data.val_dataloader():
            metric.update(model(scaled(images)), targets)
    expected = {name: float(value) for name, value in metric.compute().items()}
    assert summary["scores"]["student"] == pytest.approx(expected)
    validated = [int(row["step"]) for row in tiny_recipes.rows(RUN) if row["val/AP"]]
    assert validated == [4, 7]


# -- options ------------------------------------------------------------------------------------


def test_logs_checkpoints_and_bar_can_be_turned_off() -> None:
    fit(tiny_recipes.plain(max_epochs=1, logger=False, enable_checkpointing=False))
    assert {path.name for path in RUN.iterdir()} == {"config.yaml", "student", "summary.json"}


def test_a_dry_run_leaves_nothing() -> None:
    fit(tiny_recipes.plain(fast_dev_run=True))
    assert not RUN.exists()


def test_a_dry_run_beside_a_run_changes_nothing(copied: Runs) -> None:
    before = {p: p.read_bytes() for p in copied.teacher.rglob("*") if p.is_file()}
    folder = ("--trainer.default_root_dir", str(copied.teacher))
    fit(tiny_recipes.plain(fast_dev_run=True), words=folder)
    assert {p: p.read_bytes() for p in copied.teacher.rglob("*") if p.is_file()} == before


def test_the_bar_shows_task_and_distillation_loss(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipes.plain(max_epochs=1, enable_progress_bar=True)
    fit(recipe, tiny_recipes.taught(runs.teacher / "student"))
    said = capsys.readouterr().out
    assert "Epoch 0/0" in said
    assert "task: " in said
    assert "distillation: " in said


@pytest.mark.parametrize("foreign", ["classifier", "detector"])
def test_a_foreign_student_is_trained_exported_and_loaded_back(foreign: str) -> None:
    if foreign == "classifier":
        recipe = tiny_recipes.classifier(max_steps=2)
        path, arguments = "torchvision.models.resnet18", {"num_classes": 5}
    else:
        recipe = tiny_recipes.plain(max_steps=2)
        recipe["data"] |= {
            "train": tiny_recipes.shapes(4, 1),
            "val": tiny_recipes.shapes(2, 0),
            "batch_size": 2,
        }
        path = "torchvision.models.detection.ssdlite320_mobilenet_v3_large"
        arguments = {"num_classes": 6, "weights": None, "weights_backbone": None}
    recipe["trainer"]["max_epochs"] = -1
    recipe["model"]["student"] = {"class_path": path, "init_args": arguments}
    fit(recipe)
    loaded = load_student(RUN / "student")
    assert type(loaded).__module__.startswith("torchvision.models.")
    assert same(dict(loaded.state_dict()), student(RUN))
    state = checkpoint(RUN)["state_dict"]
    assert all(torch.equal(state[f"pair.student.{n}"], v) for n, v in student(RUN).items())


def test_an_fcos_is_trained_and_teaches_the_next_one_through_its_head() -> None:
    recipe = tiny_recipes.plain(max_epochs=1)
    small = {"backbone": tiny_models.BLOCKS, "levels": [3, 4], "fpn_channels": 32, "head_depth": 2}
    arguments = small | {"num_classes": 5, "norm": "trained", "min_size": 64, "max_size": 64}
    recipe["model"]["student"] = {"class_path": "limbeck.models.FCOS", "init_args": arguments}
    fit(recipe)
    learnt = load_student(RUN / "student")
    assert isinstance(learnt, FCOS)
    assert (learnt.num_classes, len(learnt.classes)) == (5, 5)
    taught = tiny_recipes.taught(RUN / "student")
    crosskd = {"class_path": "limbeck.methods.CrossKD", "init_args": {"held": 1}}
    taught["model"] |= {"methods": {"crosskd": crosskd}}
    recipe["model"] |= taught["model"]
    fit(recipe, folder=Path("next"), words=("--trainer.log_every_n_steps", 1))
    logged = [row for row in tiny_recipes.rows(Path("next")) if row["train/total"]]
    assert all(float(row["train/raw/crosskd/boxes"]) > 0 for row in logged)
    assert len(logged) == 4
    (found,) = load_student(Path("next/student"))([torch.rand(3, 64, 96)])
    assert set(found) == {"boxes", "scores", "labels"}


def test_a_classifier_s_run_is_judged_by_top_1() -> None:
    fit(tiny_recipes.classifier())
    summary = json.loads((RUN / "summary.json").read_text())
    assert summary["headline"] == "top1"
    share = summary["scores"]["student"]["top1"] * 16  # of 16 images
    assert math.isclose(share, round(share), abs_tol=1e-4)
