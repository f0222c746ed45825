"""A run is another one where its recipe, seed, files or limbeck are, and the same otherwise."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import limbeck
from limbeck.comparison.identity import Digests, files_named, identity
from limbeck.data.files import files_below
from tests.commands.starting.folders import yolo

RUNS = Path("runs/compared/runs")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"one")
    (folder / "a" / "2.png").write_bytes(b"two")
    return folder


def recipe(data: Path, **trainer: object) -> dict:
    return {"data": {"train": {"init_args": {"root": str(data)}}}, "trainer": trainer}


def of(stated: dict, tmp_path: Path, seed: int = 0) -> str:
    return identity(stated, seed, Digests(tmp_path / "digests.json"), RUNS)


def test_what_training_does_not_depend_on_changes_nothing(data: Path, tmp_path: Path) -> None:
    stated = recipe(data, max_epochs=3)
    known = of(stated, tmp_path)
    free = {"default_root_dir": "elsewhere", "enable_progress_bar": False}
    assert of(recipe(data, max_epochs=3, **free), tmp_path) == known
    assert of(stated | {"checkpoint_every": 5, "seed_everything": 9}, tmp_path) == known


def test_labels_that_yolos_own_file_leads_to_change_it(tmp_path: Path) -> None:
    yolo(tmp_path / "elsewhere")
    (tmp_path / "own").mkdir()
    text = (tmp_path / "elsewhere" / "data.yaml").read_text()
    (tmp_path / "own" / "data.yaml").write_text(f"path: ../elsewhere\n{text}")
    arguments = {"root": str(tmp_path / "own"), "split": "train"}
    stated = {"data": {"train": {"class_path": "limbeck.data.YOLO", "init_args": arguments}}}
    known = of(stated, tmp_path)
    label = tmp_path / "elsewhere" / "train" / "labels" / "0.txt"
    assert label.parent.resolve() in {path.resolve() for path in files_named(stated)}
    label.write_text("1 0.5 0.5 0.25 0.25")
    assert of(stated, tmp_path) != known


def test_recipe_seed_contents_and_version_change_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = recipe(data, max_epochs=3)
    seen = {of(stated, tmp_path), of(recipe(data, max_epochs=4), tmp_path)}
    seen.add(of(stated, tmp_path, seed=1))
    (data / "a" / "2.png").rename(data / "a" / "3.png")
    seen.add(of(stated, tmp_path))
    (data / "a" / "3.png").write_bytes(b"2wo")
    seen.add(of(stated, tmp_path))
    monkeypatch.setattr(limbeck, "__version__", "9")
    seen.add(of(stated, tmp_path))
    assert len(seen) == 6


def test_data_that_were_moved_are_the_same_data(data: Path, tmp_path: Path) -> None:
    known = of(recipe(data), tmp_path)
    moved = data.rename(tmp_path / "moved")
    assert of(recipe(moved), tmp_path) == known


def test_a_teacher_that_is_yet_to_be_trained_goes_by_its_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    stated = {"model": {"teacher": {"init_args": {"folder": str(runs / "teacher_0_ab/student")}}}}
    digests = Digests(tmp_path / "digests.json")
    before = identity(stated, 0, digests, runs)
    (runs / "teacher_0_ab/student").mkdir(parents=True)
    (runs / "teacher_0_ab/student/student.json").write_text("{}")
    assert identity(stated, 0, digests, runs) == before


def test_what_a_comparison_writes_is_no_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    out = Path("runs/compared")

    stated = {"data": {"root": "."}}

    def known() -> str:
        return identity(stated, 0, Digests(out / "digests.json"), out / "runs")

    before = known()
    (out / "runs").mkdir(parents=True)
    (out / "runs/summary.json").touch()
    assert known() == before
    Path("a/1.png").write_bytes(b"1ne")
    assert known() != before


def test_a_word_is_no_file_even_where_a_folder_is_called_so(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    assert files_named({"metric": "data", "root": "./data", "n": 3}) == {Path("data")}
    split = {"class_path": "limbeck.data.VOC", "init_args": {"root": "./data", "split": "data"}}
    Path("data/data").mkdir()
    assert files_named([split, {"class_path": "none.such", "init_args": {"root": "data"}}]) == {
        Path("data")
    }


def test_folders_that_are_linked_into_the_data_count(data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/1.txt").write_text("0 .5 .5 .1 .1")
    (data / "labels").symlink_to(tmp_path / "labels")
    (data / "itself").symlink_to(data)
    known = of(recipe(data), tmp_path)
    (tmp_path / "labels/1.txt").write_text("1 .5 .5 .1 .1")
    os.utime(tmp_path / "labels/1.txt", ns=(0, 0))
    assert of(recipe(data), tmp_path) != known


def test_a_word_is_a_folder_where_a_class_takes_a_path(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    recipe = {
        "data": {"train": {"class_path": "limbeck.data.ImageFolder", "init_args": {"root": "data"}}}
    }
    assert files_named(recipe) == {Path("data")}

    def known() -> str:
        return identity(recipe, 0, Digests(tmp_path / "digests.json"), tmp_path / "runs")

    before = known()
    (data / "a" / "1.png").write_bytes(b"another")
    assert known() != before


def test_contents_are_read_again_only_where_size_or_time_changed(
    data: Path, tmp_path: Path
) -> None:
    digests = Digests(tmp_path / "digests.json")
    before = digests.of(data)
    digests.save()
    path = data / "a" / "1.png"
    stat = path.stat()
    path.write_bytes(b"eno")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Digests(tmp_path / "digests.json").of(data) == before
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert Digests(tmp_path / "digests.json").of(data) != before


def test_a_folder_is_walked_through_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []

    def counted(path: Path) -> Iterator[Path]:
        walked.append(path)
        return files_below(path)

    monkeypatch.setattr("limbeck.comparison.identity.files_below", counted)
    digests = Digests(tmp_path / "digests.json")
    known = {identity(recipe(data), seed, digests, RUNS) for seed in range(3)}
    assert (len(known), walked) == (3, [data])
