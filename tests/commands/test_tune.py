"""``limbeck tune``, end to end, on classifiers that train in a second."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.comparison import running
from tests.commands import processes, tiny_recipes

RUNS = Path("runs/tune/kd")


@pytest.fixture(autouse=True)
def started_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "start", processes.start)


def write(
    weight: Any = 0.5, epochs: int = 4, method: str = "KD", name: str = "m"
) -> tuple[object, ...]:
    """A student of 96 steps, and KD from a teacher that knows nothing; words that tune it."""
    student = tiny_recipes.classifier(max_epochs=epochs)
    student["data"]["batch_size"] = 1
    # A validation set that cannot be read: it chooses nothing.
    student["data"]["val"]["init_args"]["size"] = 24
    arguments = {"weight": weight} if method == "KD" else {"places": ["C2.pre"], "images": 8}
    stated: Any = {"class_path": f"limbeck.methods.{method}", "init_args": arguments}
    if method == "str":
        stated = "limbeck.methods.KD"
    overlay = {"model": {"teacher": student["model"]["student"], "methods": {name: stated}}}
    paths = [
        tiny_recipes.write(Path("recipes"), file, recipe)
        for file, recipe in (("student", student), ("kd", overlay))
    ]
    stated_words = [word for path in paths for word in ("--config", path)]
    return ("tune", *stated_words, "--method", name, "--candidates", 3, "--halvings", 1)


def chosen(path: Path = Path("kd_tuned.yaml")) -> float:
    weight: float = yaml.safe_load(path.read_text())["model"]["methods"]["m"]["init_args"]["weight"]
    return weight


@pytest.mark.slow
def test_a_weight_is_chosen_and_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*write(), "--share", 0.5)
    tiny_recipes.limbeck(*words)
    said = capsys.readouterr().out
    assert "m.init_args.weight: top1 on 6 held-out training images" in said
    lines = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:5]] for cells in lines}
    assert len(rows) == 4, "three on the grid, and the stated one"
    assert rows["0.5"][2].startswith("as stated")
    assert [bool(first) for first, *_ in rows.values()] == [True] * 4
    assert [bool(second) for _, second, _ in rows.values()].count(True) == 2
    (best,) = (float(number) for number, row in rows.items() if "chosen" in row[2])
    assert chosen() == best
    text = Path("kd_tuned.yaml").read_text()
    assert text.startswith("# limbeck fit --config recipes/student.yaml --config kd_tuned.yaml\n")
    assert "teacher" in text
    steps = [
        yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"]
        for run in (RUNS / "runs").iterdir()
    ]
    assert sorted(steps) == [26, 26, 26, 26, 52, 52]  # of 4 epochs of 26 images

    def refused(*_: object) -> None:
        raise AssertionError("what is finished is taken over")

    monkeypatch.setattr(running, "start", refused)
    tiny_recipes.limbeck(*words)  # and the overlay, which is its own, is written again
    assert capsys.readouterr().out.strip() == said.strip()


@pytest.mark.slow
def test_a_weight_with_which_losses_become_infinite_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(words: Any, log_path: Path, variables: Any) -> Any:
        stated = yaml.safe_load(Path(words[2]).read_text()) if words[0] == "fit" else {}
        if stated and stated["model"]["methods"]["m"]["init_args"]["weight"] != 0.5:
            log_path.write_text("ERROR m/logits became NaN or infinite between steps 0 and 10.\n")
            return processes.start(["no such verb"], log_path, variables)
        return processes.start(words, log_path, variables)

    monkeypatch.setattr(running, "start", diverge)
    tiny_recipes.limbeck(*write(), "--share", 0.5)
    assert capsys.readouterr().out.count("infinite losses") == 4
    assert chosen() == 0.5


@pytest.mark.slow
def test_a_schedule_that_is_too_short_for_the_balance_report_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*write(epochs=1), "--share", 0.5)
    said = capsys.readouterr().err
    assert "its 6 steps ended before the balance report" in said
    assert "--share" in said


def test_a_schedule_keeps_its_course(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained: what is written first is the recipe with which the method is built."""
    monkeypatch.setattr(running, "start", _none)
    warm_up = {"class_path": "limbeck.schedules.WarmUp", "init_args": {"value": 2.0, "steps": 9}}
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*write(warm_up))
    built = yaml.safe_load((RUNS / "logs/built.yaml").read_text())
    weight = built["model"]["methods"]["m"]["init_args"]["weight"]
    assert weight["init_args"] == {"value": 4.0, "steps": 9}


def _none(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "method", "message"),
    [
        ((), "str", "model.methods.m is 'limbeck.methods.KD'; expected a mapping"),
        (("--method", "other"), "KD", "--method other: these recipes have m. Name one"),
        (("--argument", "wieght"), "KD", "limbeck.methods.KD has no such argument"),
        (("--argument", "temperature"), "KD", "init_args.temperature changes no weight"),
        (("--argument", "logits"), "KD", "init_args.logits is ''; expected a number above 0"),
        ((), "MGD", "one of factor"),
        (("--share", "0"), "KD", "--share is 0.0; expected a number: above 0"),
        (("--halvings", "-1"), "KD", "--halvings is -1"),
        (("--output", "recipes/kd.yaml"), "KD", "no `limbeck tune` of this student has written it"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_trained(
    words: tuple[str, ...], method: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*write(method=method), *words)
    assert message in capsys.readouterr().err
    assert not (RUNS / "runs").exists()


def test_one_recipe_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = write()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*words[:3], *words[5:])
    assert "--config is given once" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("tune")
    assert "--config" in capsys.readouterr().err


def test_a_method_whose_name_has_dots_is_refused_for_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*write(name="a.b"))
    assert "model.methods has the name 'a.b'; expected one without dots" in capsys.readouterr().err
