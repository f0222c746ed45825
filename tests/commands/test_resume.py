import errno
import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from limbeck.commands.resume import BEST, LAST, differences, refuse_changed
from limbeck.training.export import export
from tests.commands import processes, tiny_recipes
from tests.commands.conftest import Runs
from tests.commands.killing import limbeck
from tests.commands.tiny_recipes import RUN, fit

STEPS = 12
CALLBACKS = [{"class_path": f"tests.commands.killing.{name}"} for name in ("Means", "Kill")]


def killable(teacher: Path, **trainer: object) -> list[tiny_recipes.Recipe]:
    """24 images, 12 steps; the student draws the regions that it learns from at random."""
    recipe = tiny_recipes.plain(log_every_n_steps=1, **trainer)
    recipe["checkpoint_every"] = 2
    recipe["trainer"]["callbacks"] = CALLBACKS
    recipe["data"] |= {"train": tiny_recipes.shapes(24, 1), "batch_size": 4}
    arguments = {
        name: value
        for name, value in tiny_recipes.detector()["init_args"].items()
        if name not in ("head_depth", "topk_candidates")
    }
    recipe["model"]["student"] = {
        "class_path": "limbeck.models.FasterRCNN",
        "init_args": arguments | {"box_head_channels": 16},
    }
    recipe["model"]["moving_average"] = 0.9
    overlay = tiny_recipes.taught(teacher)
    overlay["model"]["methods"]["fitnet"]["init_args"]["places"] = ["P3", "P4"]
    del overlay["model"]["transfer"]
    return [recipe, overlay]


def losses(run: Path) -> list[dict[str, str]]:
    """What was logged at every step."""
    return [
        {name: value for name, value in row.items() if name.startswith(("step", "train/"))}
        for row in tiny_recipes.rows(run)
        if row["train/total"]
    ]


def epochs_of(run: Path) -> list[dict[str, str]]:
    """What callbacks have logged over epochs."""
    return [row for row in tiny_recipes.rows(run) if row["own/epoch"]]


# The signal, and the step that the run can go on from.
KILLS = {
    1: [("SIGKILL@1", 0), ("SIGKILL@5", 4), ("SIGKILL@6", 4), ("SIGTERM@9", 9)],
    2: [("SIGKILL@3", 2), ("SIGTERM@8", 9)],  # processes ask each other at the end of the epoch
}


ENDS = {  # exit codes
    "SIGKILL": -signal.SIGKILL,
    "SIGTERM": 128 + signal.SIGTERM,
    "SIGINT": 128 + signal.SIGINT,
}


@pytest.mark.slow
@pytest.mark.parametrize("processes", KILLS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(runs: Runs, processes: int) -> None:
    epochs = STEPS * processes * 4 // 24
    together = {"devices": processes, "strategy": "ddp"} if processes > 1 else {}
    recipes = killable(runs.teacher / "student", max_epochs=epochs, **together)
    begin = ["fit"]
    for number, recipe in enumerate(recipes):
        begin += ["--config", tiny_recipes.write(Path("recipes"), str(number), recipe)]
    begin.append("--trainer.default_root_dir")
    assert limbeck(*begin, "whole", processes=processes) == [0] * processes

    for number, (kill, reached) in enumerate(KILLS[processes]):
        words = ["fit", "--resume", RUN] if number else [*begin, RUN]
        assert (
            limbeck(*words, processes=processes, kill=kill)
            == [ENDS[kill.partition("@")[0]]] * processes
        )
        assert step_of(RUN) == reached
        assert not (RUN / "student").exists()
    assert limbeck("fit", "--resume", RUN, processes=processes) == [0] * processes

    steps = losses(RUN)
    assert [int(row["step"]) for row in steps] == list(range(STEPS))
    assert steps == losses(Path("whole"))
    assert epochs_of(RUN) == epochs_of(Path("whole"))
    assert epochs_of(RUN)
    assert not list(RUN.rglob("*.part"))
    ours, theirs = (
        load_file(run / "student" / "student.safetensors") for run in (RUN, Path("whole"))
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def step_of(run: Path) -> int:
    last = run / "checkpoints" / "last.ckpt"
    return int(torch.load(last, weights_only=False)["global_step"]) if last.exists() else 0


# Where a run of 12 steps is killed, validated every 3 steps, with a checkpoint every 2.
WINDOWS = (
    "SIGKILL@3 validation",
    "SIGKILL@3 best.ckpt",
    "SIGKILL@3 last.ckpt",
    "SIGKILL@4 last.ckpt",  # the row of that step follows
    "SIGKILL@5",
    "SIGKILL@6 last.ckpt",  # the end of an epoch, too
    "SIGTERM@9",
    "SIGINT@10",
)
AT_THE_END = ("last.ckpt", "metrics.csv", "student.safetensors", "student.json", "summary.json")


def often_validated(steps: int = 12) -> list[object]:
    """Words that begin a run of 24 images; validation and checkpoints fall on the same steps."""
    recipe = tiny_recipes.plain(
        log_every_n_steps=1, val_check_interval=3, max_epochs=-1, max_steps=steps
    )
    recipe["trainer"]["callbacks"] = CALLBACKS
    recipe["checkpoint_every"] = 2
    recipe["data"] |= {"train": tiny_recipes.shapes(24, 1), "batch_size": 4}
    recipe["model"]["moving_average"] = 0.9
    path = tiny_recipes.write(Path("recipes"), "often", recipe)
    return ["fit", "--config", path, "--trainer.default_root_dir"]


def left_by(run: Path) -> dict[str, object]:
    """What a run leaves that no kill may change."""
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=False)
    (state,) = (s for name, s in best["callbacks"].items() if "BestCheckpoint" in name)
    summary = json.loads((run / "summary.json").read_text())
    del summary["training_seconds"], summary["peak_memory_mib"]
    weights = {n: v.tolist() for n, v in best["state_dict"].items() if isinstance(v, torch.Tensor)}
    return {
        "rows": (run / "metrics.csv").read_bytes(),
        "best": (best["global_step"], float(state["best_model_score"]), weights),
        "summary": summary,
        "student": [path.read_bytes() for path in sorted((run / "student").iterdir())],
        "files": sorted(path.name for path in run.rglob("*") if "events" not in path.name),
    }


@pytest.mark.slow
@pytest.mark.parametrize("steps", [12, 11])  # 11: the run ends between two validations
def test_a_run_that_is_killed_in_every_window_leaves_what_it_leaves_else(steps: int) -> None:
    begin = often_validated(steps)
    assert limbeck(*begin, "whole") == [0]
    words: list[object] = [*begin, RUN]
    last = [f"SIGKILL@{steps} {window}" for window in AT_THE_END]
    measured = f"SIGKILL@{steps} validation"  # before the last checkpoint, or after the export
    for kill in (*WINDOWS, *([measured, *last] if steps == 12 else [*last, measured])):
        assert limbeck(*words, kill=kill) == [ENDS[kill.partition("@")[0]]], kill
        words = ["fit", "--resume", RUN]
    for _ in range(2):  # the second time it is finished
        assert limbeck(*words) == [0]
        assert left_by(RUN) == left_by(Path("whole"))


def test_the_random_numbers_of_a_step_do_not_depend_on_the_steps_before(runs: Runs) -> None:
    """Without that the test above would pass for a student that draws nothing."""
    [recipe, overlay] = killable(runs.teacher / "student", max_steps=1)
    del recipe["trainer"]["callbacks"]
    first, again = Path("first"), Path("again")
    fit(recipe, overlay, folder=first)
    recipe["seed_everything"] = 0
    fit(recipe, overlay, folder=again)
    assert losses(first) == losses(again)


# -- what is refused ----------------------------------------------------------------------------


def test_a_run_goes_on_in_its_own_folder(copied: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(
            "fit", "--resume", copied.teacher, "--trainer.default_root_dir", "elsewhere"
        )
    assert "--resume goes on in the run's own folder" in capsys.readouterr().err
    assert not Path("elsewhere").exists()


def test_a_finished_run_without_a_checkpoint_is_not_trained_again(
    copied: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied.teacher / "checkpoints")
    student = copied.teacher / "student/student.safetensors"
    before = student.read_bytes()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("fit", "--resume", copied.teacher)
    assert "is finished, and has no" in capsys.readouterr().err
    assert student.read_bytes() == before


def test_the_best_checkpoint_is_that_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("fit", "--from_best")
    assert "--from_best is given without --resume RUN" in capsys.readouterr().err


def test_a_changed_recipe_is_refused_with_the_differences(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    before = (RUN / "config.yaml").read_bytes()
    changed = ("--model.optimizer.lr", "0.5", "--data.workers", "1", "--trainer.max_epochs", "3")
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("fit", "--resume", RUN, *changed)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "run was begun with another recipe" in said
    assert "model.optimizer.lr was 0.002, is 0.5" in said
    assert "trainer.max_epochs was 1, is 3" in said
    assert "workers" not in said  # what is trained does not depend on them
    assert (RUN / "config.yaml").read_bytes() == before


def test_another_recipe_is_refused_and_the_same_one_is_not(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    same = tiny_recipes.write(Path("recipes"), "same", tiny_recipes.plain(max_epochs=1))
    tiny_recipes.limbeck("fit", "--resume", RUN, "--config", same)
    other = tiny_recipes.write(
        Path("recipes"), "other", tiny_recipes.taught(runs.teacher / "student")
    )
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("fit", "--resume", RUN, "--config", other)
    assert "model.transfer was None, is {'head': 'head'}" in capsys.readouterr().err


def test_a_finished_run_is_resumed_without_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    before = {path: path.read_bytes() for path in RUN.glob("student/*")}
    recipe = yaml.safe_load((RUN / "config.yaml").read_text())
    tiny_recipes.limbeck("fit", "--resume", RUN)
    assert {path: path.read_bytes() for path in RUN.glob("student/*")} == before
    assert yaml.safe_load((RUN / "config.yaml").read_text())["model"] == recipe["model"]


def test_a_run_that_stopped_early_is_resumed_without_a_step() -> None:
    never_better = {"monitor": "val/AP", "mode": "max", "patience": 1, "min_delta": 1.0}
    stops = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": never_better}
    fit(tiny_recipes.plain(max_epochs=9, callbacks=[stops]))
    before = {path: path.read_bytes() for path in RUN.glob("student/*")}
    stopped = step_of(RUN)
    for _ in range(2):
        tiny_recipes.limbeck("fit", "--resume", RUN)
        assert step_of(RUN) == stopped
    assert {path: path.read_bytes() for path in RUN.glob("student/*")} == before
    begun = ("--ckpt_path", RUN / LAST, "--trainer.max_epochs", 9)
    fit(tiny_recipes.plain(), folder=Path("longer"), words=begun)
    assert step_of(Path("longer")) > stopped, "another run may begin from there"


def test_a_run_whose_time_was_over_goes_on_with_more() -> None:
    fit(tiny_recipes.plain(max_epochs=9999, max_time="00:00:00:01"))
    stopped = step_of(RUN)
    tiny_recipes.limbeck("fit", "--resume", RUN, "--trainer.max_time", "00:00:00:03")
    assert step_of(RUN) > stopped > 0


def test_a_folder_without_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("fit", "--resume", "nowhere")
    assert end.value.code == 1
    assert "nowhere holds no run to resume: there is no config.yaml" in capsys.readouterr().err


def test_differences_are_found_at_any_depth() -> None:
    begun = {"a": 1, "b": {"c": [1, 2], "d": None}, "e": {"f": 1}}
    now = {"a": 1, "b": {"c": [1, 3], "d": {"x": 2}}, "g": 2}
    assert dict(differences(begun, now)) == {
        "b.c": "b.c was [1, 2], is [1, 3]",
        "b.d": "b.d was None, is {'x': 2}",
        "e": "e was {'f': 1}, is nothing",
        "g": "g was nothing, is 2",
    }
    assert not list(differences(begun, begun))


def test_a_resumed_run_keeps_its_recipe_and_its_rows_even_if_it_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit(tiny_recipes.plain(max_epochs=1, log_every_n_steps=1))
    recipe, rows = (RUN / "config.yaml").read_bytes(), (RUN / "metrics.csv").read_bytes()
    tiny_recipes.limbeck("fit", "--resume", RUN, "--data.workers", "1")
    assert (RUN / "config.yaml").read_bytes() == recipe
    last = RUN / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises((SystemExit, RuntimeError)):
        tiny_recipes.limbeck("fit", "--resume", RUN)
    assert (RUN / "config.yaml").read_bytes() == recipe
    assert (RUN / "metrics.csv").read_text().split() == rows.decode().split()


def damaged(path: Path) -> None:
    """Cut off, in a byte that is no text."""
    path.write_bytes(path.read_bytes()[:300] + b"\xff")


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is said where the command ends with 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("fit", "--resume", RUN, *words)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_best_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit(tiny_recipes.plain(max_epochs=3, log_every_n_steps=1))
    last = RUN / "checkpoints" / "last.ckpt"
    student = (RUN / "student" / "student.safetensors").read_bytes()
    rows = (RUN / "metrics.csv").read_bytes()
    damaged(last)
    assert "last.ckpt is damaged" in refused(capsys)
    assert "--from_best` goes on from there" in refused(capsys)
    tiny_recipes.limbeck("fit", "--resume", RUN, "--from_best")
    assert step_of(RUN) == 12
    assert (RUN / "student" / "student.safetensors").read_bytes() == student
    assert (RUN / "metrics.csv").read_bytes() == rows
    damaged(RUN / "checkpoints" / "best.ckpt")
    damaged(last)
    assert "No other checkpoint of that run is sound" in refused(capsys, "--from_best")


def test_a_damaged_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    path = RUN / "config.yaml"
    text = path.read_bytes()
    for other in (text[:300], text[:-20], text.replace(b"lr: 0.002", b"lr: 0.003"), b"\xff", b""):
        assert other != text
        path.write_bytes(other)
        said = refused(capsys)
        assert f"{path} is not as limbeck wrote it" in said
        assert f"--ckpt_path {RUN}/checkpoints/last.ckpt" in said
    path.write_bytes(text.partition(b"\n")[2])  # as earlier versions wrote it
    tiny_recipes.limbeck("fit", "--resume", RUN)


def test_rows_that_are_no_text_do_not_keep_a_run_from_going_on() -> None:
    fit(tiny_recipes.plain(max_epochs=2, log_every_n_steps=1))
    path = RUN / "metrics.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\xff" + lines[1], *lines[2:]]))
    tiny_recipes.limbeck("fit", "--resume", RUN)
    assert path.read_bytes().splitlines(keepends=True) == [lines[0], *lines[2:]]


def test_a_student_that_does_not_fit_is_exported_once_there_is_space(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    student = RUN / "student"

    def full(module: Any, folder: Path) -> None:
        if folder == student:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        export(module, folder)

    with monkeypatch.context() as patched:
        patched.setattr("limbeck.training.export.export", full)
        with pytest.raises(SystemExit) as end:
            fit(tiny_recipes.plain(max_epochs=1))
    assert end.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{student} could not be written (No space left on device). Training goes on." in said
    assert f"Then `limbeck fit --resume {RUN}` writes the student, without training a step" in said
    (elsewhere,) = re.findall(r"the student is in (\S+) instead", said)
    kept = Path(elsewhere, "student.safetensors").read_bytes()
    shutil.rmtree(elsewhere)

    last = (RUN / LAST).read_bytes()
    tiny_recipes.limbeck("fit", "--resume", RUN)
    assert (student / "student.safetensors").read_bytes() == kept
    assert (RUN / LAST).read_bytes() == last


def test_a_run_outlives_a_disk_that_has_no_room_for_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(SystemExit) as end:
            fit(tiny_recipes.plain(max_epochs=1, log_every_n_steps=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert end.value.code == 1
    told = capsys.readouterr().err.partition("Trained to the end, but not all could be written")[2]
    for name in ("config.yaml", "metrics.csv", "tensorboard", "student", *map(str, (LAST, BEST))):
        assert str(RUN / name) in told
    assert "There is nothing to resume from" in told


def test_of_two_resumes_at_once_the_second_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    with processes.holder_of(RUN) as first:
        assert f"run is being trained in by process {first}" in refused(capsys)
    tiny_recipes.limbeck("fit", "--resume", RUN)


def test_a_row_that_was_cut_off_is_dropped() -> None:
    fit(tiny_recipes.plain(max_epochs=2, log_every_n_steps=1))
    path = RUN / "metrics.csv"
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole) + "\n1,2")
    tiny_recipes.limbeck("fit", "--resume", RUN)
    assert path.read_text().splitlines() == whole


def test_the_recipe_names_no_checkpoint() -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    longer = ("--ckpt_path", RUN / "checkpoints" / "last.ckpt")
    recipe = tiny_recipes.plain(max_epochs=2)
    recipe["model"]["learning_rate"] = {"shape": "constant"}
    with pytest.raises(SystemExit):  # another course of the learning rate: refused, as ever
        fit(tiny_recipes.plain(max_epochs=2), words=longer)
    assert yaml.safe_load((RUN / "config.yaml").read_text())["ckpt_path"] is None


def test_other_batches_are_refused_at_an_epoch_s_end_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tiny_recipes.plain(max_epochs=1)
    recipe["model"]["learning_rate"] = {"shape": "constant", "warm_up": 0}
    fit(recipe)
    last = ("--ckpt_path", RUN / "checkpoints" / "last.ckpt", "--data.batch_size", "4")
    recipe["trainer"]["max_epochs"] = 2
    with pytest.raises(SystemExit):
        fit(recipe, words=last)
    assert "the order of the images is another one" in capsys.readouterr().err


def test_only_training_is_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_recipes.plain(max_epochs=1))
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("validate", "--resume", RUN)
    assert "--resume continues training" in capsys.readouterr().err


def test_a_moved_run_knows_its_best_score() -> None:
    recipe = tiny_recipes.plain(max_epochs=2, max_steps=6)
    recipe["model"]["learning_rate"] = {"shape": "constant", "warm_up": 0}
    fit(recipe)
    last = RUN / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=False)
    (key,) = (name for name in saved["callbacks"] if "BestCheckpoint" in name)
    saved["callbacks"][key]["best_model_score"] = torch.tensor(0.99)
    torch.save(saved, last)
    RUN.rename("moved")
    best = Path("moved/checkpoints/best.ckpt").read_bytes()
    recipe["trainer"]["max_steps"] = 8
    words = ("--ckpt_path", "moved/checkpoints/last.ckpt")
    fit(recipe, folder=Path("moved"), words=words)
    assert Path("moved/checkpoints/best.ckpt").read_bytes() == best
    recipe["trainer"] |= {"max_epochs": 3, "max_steps": 12}
    fit(recipe, folder=Path("anew"), words=words)
    assert Path("anew/checkpoints/best.ckpt").exists(), "its own best, however good another's was"


def test_a_teacher_of_other_classes_may_be_taken_where_a_run_goes_on() -> None:
    begun = {"model": {"methods": {"kd": {"init_args": {"other_classes": False, "weight": 1.0}}}}}
    now = {"model": {"methods": {"kd": {"init_args": {"other_classes": True, "weight": 1.0}}}}}
    refuse_changed(Path("run"), begun, now)
    now["model"]["methods"]["kd"]["init_args"]["weight"] = 2.0
    with pytest.raises(ValueError, match=r"weight was 1\.0, is 2\.0\nResume"):
        refuse_changed(Path("run"), begun, now)
