"""Which picture belongs to which method of which run."""

from pathlib import Path

from limbeck.comparison.job import Job
from limbeck.comparison.pictures import FOLDER, drawn


def job(name: str, known: str, *methods: str) -> Job:
    recipe = {"model": {"methods": {name: {} for name in methods}}}
    return Job(name, 0, recipe, Path("runs", f"mgd_kd_0_{known}"), {})


def test_each_run_and_each_method_has_its_own_picture(tmp_path: Path) -> None:
    jobs = [job("MGD + KD", "a1", "kd", "KD"), job("MGD KD", "b2", "kd"), job("c", "c3", "../x")]
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "mgd_kd_0_a1_kd.png").touch()
    (tmp_path / FOLDER / "mgd_kd_0_c3_..%2Fx.png").touch()
    assert list(drawn(jobs, tmp_path)) == [
        "What kd of MGD + KD sees in training images",
        "What ../x of c sees in training images",
    ]
    changed = job("MGD + KD", "d4", "kd")
    assert drawn([changed], tmp_path) == {}, "that is a picture of the former recipe"
