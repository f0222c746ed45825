"""Which picture belongs to which method of which run."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from limbeck.comparison import running
from limbeck.comparison.job import Job
from limbeck.comparison.pictures import FOLDER, draw, drawn
from limbeck.methods.pictures import NOTHING
from limbeck.report.style import save


def job(name: str, known: str, *methods: str) -> Job:
    recipe = {"model": {"methods": {name: {} for name in methods}}}
    return Job(name, 0, recipe, Path("runs", f"mgd_kd_0_{known}"), {})


def test_each_run_and_each_method_has_its_own_picture(tmp_path: Path) -> None:
    jobs = [job("MGD + KD", "a1", "kd", "KD"), job("MGD KD", "b2", "kd"), job("c", "c3", "../x")]
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "mgd_kd_0_a1_kd.png").touch()
    (tmp_path / FOLDER / "mgd_kd_0_c3_..%2Fx.png").touch()
    assert [picture.title for picture in drawn(jobs, tmp_path)] == [
        "What kd of MGD + KD sees",
        "What ../x of c sees",
    ]
    changed = job("MGD + KD", "d4", "kd")
    assert drawn([changed], tmp_path) == [], "that is a picture of the former recipe"


class Inspecting:
    """`limbeck inspect`, which draws of trained methods alone, in this process."""

    def __init__(self, words: Sequence[str], log_path: Path, _: Mapping[str, str]) -> None:
        options = dict(pairwise(words))
        log_path.touch()
        self.code = 0 if Path(options.get("--checkpoint", "none")).is_file() else 1
        if self.code == 0:
            save(Figure(), Path(options["--picture"]), description="What is seen.")

    def wait(self) -> int:
        return self.code

    def send_signal(self, number: int) -> None:
        raise AssertionError(number)


def test_a_method_is_drawn_once_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "start", Inspecting)
    jobs = [job("trained", "a1", "mgd"), job("trained", "a2", "mgd"), job("without", "b1", "mgd")]
    checkpoint = jobs[0].folder / "checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    draw(jobs, tmp_path)
    (picture,) = drawn(jobs, tmp_path)
    assert (picture.title, picture.caption) == ("What mgd of trained sees", "What is seen.")
    written = picture.path.stat().st_mtime_ns
    draw(jobs, tmp_path)
    assert picture.path.stat().st_mtime_ns == written
    kept = {path.suffix for path in (tmp_path / FOLDER).iterdir()}
    assert kept == {".png", ".log", ".yaml"}, "nothing is left over"
    assert len(list((tmp_path / FOLDER).glob("*.part*"))) == 0


@pytest.mark.parametrize(
    ("said", "tries"), [("Killed", 2), (f"ERROR --method kd: KD {NOTHING}.", 1)]
)
def test_what_could_not_be_drawn_is_told_and_tried_again(
    said: str,
    tries: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Inspecting):
        calls = 0

        def __init__(self, words: Sequence[str], log_path: Path, _: Mapping[str, str]) -> None:
            log_path.write_text(said)
            self.code = 1
            Failing.calls += 1

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "start", Failing)
    run = job("KD", "a1", "kd")
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints/last.ckpt").touch()
    for _ in range(2):
        draw([run], tmp_path)
    assert Failing.calls == tries
    assert caplog.text.count("what kd of KD sees could not be drawn") == 2 * (tries - 1)
