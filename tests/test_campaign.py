"""The campaign's own logic: that it would see what it looks for."""

import os
import random
import signal
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from campaign import bad_recipes, cases, cuts, kills, pickles, recipes
from campaign.results import Result, table, worklist
from campaign.sandbox import GIB, Child, Limits, Outcome, writes


def run(tmp_path: Path, what: object, **limits: object) -> Outcome:
    """A function in a child."""
    folder = tmp_path / "child"
    folder.mkdir(exist_ok=True)
    return Child((), folder, Limits(**limits), what).wait(60)  # type: ignore[arg-type]


def test_a_child_that_does_nothing_has_no_faults(tmp_path: Path) -> None:
    outcome = run(tmp_path, lambda: sys.stdout.write("done\n"))
    assert (outcome.code, outcome.faults, outcome.said) == (0, [], "done")


def test_exit_codes_and_tracebacks_are_told_apart(tmp_path: Path) -> None:
    assert run(tmp_path, lambda: sys.exit(2)).code == 2
    outcome = run(tmp_path, lambda: 1 // 0)
    assert outcome.code == 1
    assert outcome.faults == ["traceback"]


def test_a_crash_is_seen(tmp_path: Path) -> None:
    outcome = run(tmp_path, lambda: os.kill(os.getpid(), signal.SIGSEGV))
    assert outcome.code is None
    assert outcome.faults == ["crash"]


def test_other_programs_and_addresses_are_seen(tmp_path: Path) -> None:
    def elsewhere() -> None:
        import socket

        os.system("true")
        with socket.socket() as other:
            other.settimeout(0.1)
            other.connect_ex(("192.0.2.1", 9))  # an address for documentation

    outcome = run(tmp_path, elsewhere)
    assert outcome.faults == ["network", "programs"]
    assert "os.system" in outcome.started[0]
    assert "192.0.2.1" in outcome.connected[0]


def test_a_file_that_is_bait_is_seen(tmp_path: Path) -> None:
    (tmp_path / "bait").write_text("")
    outcome = run(tmp_path, lambda: (tmp_path / "bait").read_text(), bait="bait")
    assert outcome.faults == ["outside"]


def test_memory_is_bounded_and_told_of(tmp_path: Path) -> None:
    outcome = run(tmp_path, lambda: bytes(3 * GIB), room=GIB)
    assert outcome.faults == ["above 2 GB", "traceback"]


def test_a_child_that_does_not_end_is_ended(tmp_path: Path) -> None:
    def forever() -> None:
        while True:
            pass

    outcome = run(tmp_path, forever, seconds=0)
    assert outcome.hung
    assert outcome.faults == ["above 30 s"]


def test_writes_are_those_under_the_folder(tmp_path: Path) -> None:
    root = f"{tmp_path}/run/"
    flags = os.O_WRONLY | os.O_CREAT
    assert writes("open", (f"{root}a.csv", "w", flags), root) == "open a.csv"
    assert writes("open", (f"{root}a.csv", "r", os.O_RDONLY), root) == ""
    assert writes("open", (f"{tmp_path}/a.csv", "w", flags), root) == ""
    assert writes("os.rename", (f"{root}a.part", f"{root}a", -1, -1), root) == "os.rename a.part"
    assert writes("import", ("os",), root) == ""


def test_a_window_kills_before_the_write(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()

    def two_files() -> None:
        (root / "first").write_text("1")
        (root / "second").write_text("2")

    hook = kills.Window(root, 1, tmp_path / "log")
    outcome = run(tmp_path, two_files, hook=hook)
    assert outcome.signal == "SIGKILL"
    assert [path.name for path in root.iterdir()] == ["first"]
    assert (tmp_path / "log").read_text() == "open first\n"


def test_mutations_are_seeded_cuts_and_flips_of_one_byte() -> None:
    content = bytes(range(200)) * 10
    first = list(cuts.mutations(content, 9, random.Random(1)))
    assert first == list(cuts.mutations(content, 9, random.Random(1)))
    assert len(first) == 18
    for what, mutated in first:
        if what.startswith("cut"):
            assert content.startswith(mutated)
            assert len(mutated) < len(content)
        else:
            assert sum(a != b for a, b in zip(content, mutated, strict=True)) == 1


@pytest.mark.parametrize("way", pickles.WAYS)
def test_a_pickle_by_hand_would_run_its_function(way: str, tmp_path: Path) -> None:
    """Without that a hostile file would be harmless whatever reads it."""
    import pickle

    program = pickles.WAYS[way]("os", "mkdir", str(tmp_path / "canary"))
    path = pickles.in_zip(program, tmp_path / "evil.pth")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/data.pkl") == program
    if way == "BUILD":  # an object whose state is set by the function
        return
    pickle.loads(program)
    assert (tmp_path / "canary").is_dir()


def outcome(output: str, code: int = 1) -> Outcome:
    return Outcome(code=code, signal="", seconds=0, memory=0, output=output)


def test_a_recipe_s_message_has_to_name_key_found_expected_and_advice() -> None:
    bad = bad_recipes.Bad("", {}, "batch_size", "17")
    good = "ERROR data.batch_size is 17; expected at most 16. Lower it."
    assert recipes.judged(bad, outcome(good), "") == []
    assert recipes.judged(bad, outcome(good), "begun 0") == ["after training began"]
    assert recipes.judged(bad, outcome("ERROR it is wrong"), "") == [
        "key",
        "found",
        "expected",
        "what to do",
    ]
    assert recipes.judged(bad, outcome("", 0), "begun 0") == ["accepted"]


def test_there_are_at_least_85_bad_recipes_each_with_a_name_of_its_own(tmp_path: Path) -> None:
    names = [bad.name for bad in bad_recipes.everything(tmp_path)]
    assert len(names) >= 85
    assert len(set(names)) == len(names)


def test_runs_are_compared_by_their_rows(tmp_path: Path) -> None:
    for name, rows in (("run", "step,loss\n0,1.0\n0,1.0\n"), ("whole", "step,loss\n0,1.0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(rows)
    found = kills.differences(tmp_path / "run", tmp_path / "whole")
    assert "rows of metrics.csv (0 lost or other, 1 more)" in found
    assert "best.ckpt is missing" in found


def test_the_worklist_is_grouped_by_point_and_the_table_counts() -> None:
    result = Result("hostile files", tried=3, counts={"code": 1}, point=7)
    result.failed = {"a bomb": "above 2 GB", "a door": "[1] code"}
    assert table([result]).splitlines()[-1] == "| hostile files | 1 of 3 | code 1 |"
    written = worklist([result])
    assert written.index("## Point 1") < written.index("a door") < written.index("## Point 7")
    assert written.index("## Point 7") < written.index("a bomb")


def test_every_case_that_there_is_has_a_check() -> None:
    folder = cases.find()
    if folder is None:
        pytest.skip("needs ../shared/cases, which this clone lacks")
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= cases.CHECKS.keys()


def test_a_part_whose_neighbour_was_killed_ends_with_a_sentence() -> None:
    trace = "Traceback (most recent call last)\n  File {!r}\n"
    assert kills.ending(1, "ERROR another process of this run has ended") == ""
    assert kills.ending(1, "ERROR ...\n" + trace.format("torch/distributed/run.py")) == ""
    assert kills.ending(1, trace.format("src/limbeck/cli.py")).startswith("a traceback")
    assert kills.ending(1, "").endswith("without a sentence")
    assert "hangs" in kills.ending(None, "")
