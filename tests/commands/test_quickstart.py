import json
import signal
from pathlib import Path

import pytest
import torch
import yaml

from limbeck.commands import quickstart as verb
from limbeck.commands import recipes
from limbeck.models import load_student
from limbeck.training.resumption import AskedToEndError
from tests.commands import tiny_recipes

RUNS = ("teacher", "plain", "plain_equal_time", "distilled")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickstart's own recipes, with fewer and smaller images."""
    for name in ("teacher", "student", "distilled"):
        recipe = yaml.safe_load(recipes.find(f"shapes/{name}").read_text())
        if name != "distilled":
            recipe["data"] |= {"batch_size": 2, "eval_batch_size": 4, "workers": 0}
            recipe["data"]["train"]["init_args"] |= {"count": 8, "size": 64}
            recipe["data"]["val"]["init_args"] |= {"count": 4, "size": 64}
            recipe["trainer"] |= tiny_recipes.TRAINER | {"log_every_n_steps": 1}
        tiny_recipes.write(Path("own/shapes"), name, recipe)
    own = Path("own").resolve()
    monkeypatch.setattr(recipes, "folder", lambda: own)
    monkeypatch.setattr(verb, "STEPS", 4)
    monkeypatch.setattr(verb, "BATCH", 2)
    monkeypatch.setattr(verb, "SIDE", 64)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)


@pytest.mark.parametrize(("name", "steps"), [("student", verb.STEPS), ("teacher", 900)])
def test_the_constants_are_those_of_the_recipes(name: str, steps: int) -> None:
    recipe = yaml.safe_load(recipes.find(f"shapes/{name}").read_text())
    assert recipe["data"]["batch_size"] == verb.BATCH
    assert recipe["data"]["train"]["init_args"]["count"] == steps * verb.BATCH
    assert recipe["model"]["student"]["init_args"]["min_size"] == verb.SIDE
    assert recipe["data"]["val"]["init_args"] == {"count": 200, "seed": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_quickstart_compares_four_runs(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck("quickstart", "--output", "out")
    said = capsys.readouterr().out
    assert "Written to out: table.md, losses.png, detections.png" in said
    table = Path("out/table.md").read_text()
    for name in ("teacher", "plain student", "plain, equal time", "distilled student"):
        assert name in said
        assert f"| {name} " in table
    for name in ("losses.png", "detections.png"):
        assert Path("out", name).read_bytes().startswith(b"\x89PNG")

    summaries = {n: json.loads(Path("out", n, "summary.json").read_text()) for n in RUNS}
    steps = {name: summary["steps"] for name, summary in summaries.items()}
    assert steps["teacher"] == steps["plain"] == steps["distilled"] == 4
    spent = {name: summary["training_seconds"]["cpu"] for name, summary in summaries.items()}
    assert steps["plain_equal_time"] == max(4, round(4 * spent["distilled"] / spent["plain"]))
    # The distilled student learnt from this teacher, and began with its head.
    config = yaml.safe_load(Path("out/distilled/config.yaml").read_text())
    assert config["model"]["teacher"]["init_args"]["folder"] == "out/teacher/student"
    assert summaries["distilled"]["scores"].keys() == {"student", "teacher"}
    assert summaries["plain"]["scores"].keys() == {"student"}
    sizes = [
        sum(p.numel() for p in load_student(Path("out", n, "student")).parameters()) for n in RUNS
    ]
    assert sizes[1] == sizes[2] == sizes[3] < sizes[0]


def test_an_earlier_quickstart_is_moved_aside() -> None:
    Path("out").mkdir()
    Path("out/table.md").write_text("earlier")
    verb.make_room(Path("out"))
    assert not Path("out").exists()
    (aside,) = Path().glob("out-*")
    assert (aside / "table.md").read_text() == "earlier"
    verb.make_room(Path("out"))  # there is nothing to move
    assert list(Path().iterdir()) == [aside]


def test_a_folder_of_anything_else_stays_where_it_is() -> None:
    Path("photographs").mkdir()
    Path("photographs/a.jpg").touch()
    for output in (Path("photographs"), Path()):
        with pytest.raises(FileExistsError, match=r"which no quickstart has written"):
            verb.make_room(output)
    assert Path("photographs/a.jpg").exists()


@pytest.mark.usefixtures("small")
def test_a_quickstart_that_is_asked_to_end_does_so_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(_: object) -> None:
        raise AskedToEndError(signal.SIGTERM)

    monkeypatch.setattr(verb, "train", asked)
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("quickstart", "--output", "out")
    assert end.value.code == 143
    assert "WARNING Ended by SIGTERM." in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_run_that_could_not_be_kept_ends_the_quickstart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "train", lambda _: None)  # as if its disk were full
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("quickstart", "--output", "out")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "out/teacher lacks student, summary.json" in said
    assert "Free space" in said
