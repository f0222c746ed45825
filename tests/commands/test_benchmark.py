"""``limbeck benchmark``: contestants in processes of their own, in turns."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

from limbeck.commands import benchmark as verb
from limbeck.commands.benchmark import Measured, _named, _points
from limbeck.commands.benchmark_process import BenchmarkError, Contestant, Variant, _Timed
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs


@pytest.mark.slow
def test_students_are_timed_in_turns_measured_and_drawn(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rounds", 2, "--size", "[64,64]", "--batch", "[1,2]", "--device", "cpu"]
    files = ["--labelled", runs.recipe("plain"), "--plot", "a.svg", "--output", "a.json"]
    tiny_recipes.limbeck("benchmark", f"ours={runs.taught}", *words, *files)
    told = json.loads(Path("a.json").read_text())
    assert [row["variant"]["batch"] for row in told["measured"]] == [1, 2]
    for row in told["measured"]:
        assert row["variant"]["name"] == "ours"
        assert row["runtime"] == "PyTorch, eager"
        assert len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
        assert row["peak_memory"] > 50
        assert 0 <= row["score"] <= 1
    printed = capsys.readouterr().out
    same = "runtime: PyTorch, eager, precision: float32, size, px: 64 x 64"
    assert same in " ".join(printed.split())
    assert "images at once" in printed
    assert Path("a.svg").read_text().count("ours")


class Pretended(Contestant):
    """A contestant without a process: a tenth of a second for each image."""

    asked: ClassVar[list[str]] = []

    def __init__(self, variant: Variant) -> None:
        if variant.precision == "float16":
            raise BenchmarkError("RuntimeError: no half")
        self.variant, self.runtime = variant, f"PyTorch, {variant.mode}"
        self.size = (480, 640)

    def __exit__(self, *_: object) -> None:
        pass

    def seconds(self) -> float:
        Pretended.asked.append(f"{self.variant.name} {self.variant.batch}")
        return 0.1 * self.variant.batch

    def peak_memory(self) -> float:
        return 12.0


def test_each_runs_once_a_round_and_what_cannot_run_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "Contestant", Pretended)
    Pretended.asked = []
    words = ["--rounds", 5, "--batch", "[1,4]", "--precision", "[float32,float16]"]
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(
            "benchmark", f"a={runs.taught}", f"b={runs.teacher}", *words, "--device", "cpu"
        )
    names = {"a 1", "a 4", "b 1", "b 4"}
    rounds = [Pretended.asked[i : i + 4] for i in range(0, len(Pretended.asked), 4)]
    assert len(rounds) == 8  # three are not counted
    assert all(set(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    printed = capsys.readouterr()
    assert "400.0" in printed.out
    assert "10.0" in printed.out
    assert "4 of 8 could not be run: a (eager, float16, 1 at once, on " in printed.err
    assert "threads): RuntimeError: no half" in printed.err


def test_one_that_fails_in_a_round_leaves_the_others(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(Pretended):
        def seconds(self) -> float:
            if self.variant.batch == 4:
                raise BenchmarkError("its process ended with exit code -9")
            return super().seconds()

    monkeypatch.setattr(verb, "Contestant", Failing)
    words = ["--rounds", 2, "--batch", "[1,4]", "--device", "cpu", "--output", "a.json"]
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("benchmark", f"a={runs.taught}", *words)
    measured = json.loads(Path("a.json").read_text())["measured"]
    assert [row["variant"]["batch"] for row in measured] == [1]
    assert "1 of 2 could not be run: a (eager, float32, 4 at once, on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["a=images", "a=images"], "two students are called 'a'"),
        (["images", "--plot", "a.png"], "--plot is given without --labelled"),
        (["images", "--rounds", "0"], "--rounds"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("benchmark", *words)
    assert said in capsys.readouterr().err


def test_images_of_other_classes_are_refused_before_the_first_round(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("limbeck.commands.benchmark.Contestant", None)
    for labelled, said in (
        ("nowhere", "nowhere does not exist"),
        (tiny_recipes.write(Path(), "other", tiny_recipes.classifier()), "classification"),
    ):
        with pytest.raises(SystemExit):
            tiny_recipes.limbeck("benchmark", runs.taught, "--labelled", labelled)
        assert said in capsys.readouterr().err


def test_times_are_kept_where_a_score_cannot_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unmeasured(Pretended):
        def score(self, labelled: str) -> tuple[str, float]:
            raise BenchmarkError("no image can be read")

    Path("images").mkdir()
    monkeypatch.setattr("limbeck.commands.benchmark.Contestant", Unmeasured)
    monkeypatch.setattr("limbeck.commands.benchmark._refuse_other_images", lambda *_: None)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("benchmark", "images", "--labelled", "x", "--output", "a.json")
    assert "no image can be read" in capsys.readouterr().err
    (row,) = json.loads(Path("a.json").read_text())["measured"]
    assert row["score"] is None
    assert row["seconds"]


def test_a_path_may_have_an_equals_sign() -> None:
    folder = Path("runs/lr=0.1/student")
    folder.mkdir(parents=True)
    assert _named([str(folder), f"b={folder.parent}"]) == {"lr=0.1": folder, "b": folder.parent}


def test_what_differs_is_told_in_the_plot() -> None:
    fast, slow = (
        Measured(
            Variant("a", Path("a"), "eager", precision, 1, (64, 64), 1, "cpu"),
            "PyTorch",
            (64, 64),
            (0.1,),
            1.0,
            0.5,
        )
        for precision in ("bfloat16", "float32")
    )
    assert [point.how for point in _points([fast, slow])] == [
        "PyTorch, bfloat16, 1 at once",
        "PyTorch, float32, 1 at once",
    ]
    assert [point.how for point in _points([fast])] == ["PyTorch, 1 at once"]


def test_a_model_is_timed_and_scored_in_its_precision(runs: Runs) -> None:
    variant = Variant("a", runs.taught, "eager", "bfloat16", 2, (64, 64), 1, "cpu")
    timed = _Timed(variant)
    assert timed.time() > 0
    name, score = timed.score(str(runs.recipe("plain")))
    assert name == "AP"
    assert 0 <= score <= 1
    assert timed.memory() > 50


def test_a_process_that_cannot_load_says_why() -> None:
    variant = Variant("a", Path("nowhere"), "eager", "float32", 1, (64, 64), 1, "cpu")
    with pytest.raises(BenchmarkError, match="FileNotFoundError: nowhere"):
        Contestant(variant)


def test_a_process_that_is_killed_is_told(runs: Runs) -> None:
    with Contestant(Variant("a", runs.taught, "eager", "float32", 1, (64, 64), 1, "cpu")) as each:
        each._process.kill()
        each._process.join()
        with pytest.raises(BenchmarkError, match="its process ended with exit code -9"):
            each.seconds()
