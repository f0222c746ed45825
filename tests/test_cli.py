import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck
from limbeck import cli
from limbeck.commands import VERBS, quieten_libraries
from tests.commands import tiny_recipes


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck(*words)
    said = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n  {verb.name:<10}  {verb.help}\n" in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck("--version")
    assert capsys.readouterr().out == f"limbeck {limbeck.__version__}\n"


TORCHLESS = """
import contextlib, sys
from limbeck.cli import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert not {"torch", "lightning", "timm", "numpy", "scipy", "matplotlib"} & sys.modules.keys()
"""


@pytest.mark.parametrize(
    "words", ["--help", "--version", "recipes list", "recipes --help", "recipes show no", "fitt"]
)
def test_what_needs_no_torch_does_not_wait_for_it(words: str) -> None:
    command = [sys.executable, "-c", TORCHLESS, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["limbeck", "limbeck.cli"])
def test_the_command_is_a_module_too(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"limbeck {limbeck.__version__}\n"


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("fit", "--model.student_weight"),
        ("validate", "--ckpt_path"),
        ("predict", "--threshold"),
        ("convert", "--from"),
        ("new", "--teacher"),
        ("inspect", "--depth"),
        ("anchors", "--count"),
        ("recipes", "copy"),
        ("quickstart", "--seed"),
    ],
)
def test_every_verb_has_help(verb: str, argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck(verb, "--help")
    assert end.value.code == 0
    assert argument in capsys.readouterr().out


def test_an_unknown_verb_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("fitt")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said == (
        "ERROR no verb 'fitt'. There are: fit, validate, compare, report, tune, predict, "
        "benchmark, push, quantize, export, label, convert, inspect, data, new, anchors, "
        "recipes, completion, quickstart.\n"
    )


def test_an_unknown_option_of_any_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["predict", "folder", "image.png", "--thresh", "0.5"],  # an abbreviation is no option
        ["inspect", "resnet18", "--dept", "2"],
        ["quickstart", "--sed", "1"],
        ["recipes", "show", "shapes/student", "--colour", "no"],
    ):
        with pytest.raises(SystemExit) as end:
            tiny_recipes.limbeck(*words)
        assert end.value.code == 2
        assert words[-2] in capsys.readouterr().err


def test_what_is_not_limbeck_s_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.cli.run", lambda _: int("three"))
    with pytest.raises(ValueError, match="three"):
        tiny_recipes.limbeck("recipes", "list")


def test_limbeck_speaks_and_the_libraries_only_warn() -> None:
    with tiny_recipes.logging_restored():
        cli.speak()
        cli.speak()  # a second time adds nothing
        assert len(logging.getLogger("limbeck").handlers) == 1
        assert logging.getLogger("limbeck.training").isEnabledFor(logging.INFO)
    quieten_libraries()
    for library in ("lightning.pytorch", "lightning.fabric"):
        assert not logging.getLogger(library).isEnabledFor(logging.INFO)


@pytest.mark.parametrize(("variable", "rank"), [("LOCAL_RANK", "1"), ("RANK", "0")])
def test_of_several_processes_the_first_speaks(
    variable: str, rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, rank)
    with tiny_recipes.logging_restored():
        cli.speak()
        assert logging.getLogger("limbeck").isEnabledFor(logging.INFO) == (rank == "0")
        assert logging.getLogger("limbeck").isEnabledFor(logging.ERROR)


@pytest.mark.slow
def test_as_a_program_of_its_own() -> None:
    """A run in a process of its own says what matters and nothing else, and writes where it is."""
    path = tiny_recipes.write(Path("mine"), "classes", tiny_recipes.classifier())
    words = [sys.executable, "-m", "limbeck.cli", "fit", "--config", str(path)]
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=threads, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("INFO student: runs/mine/classes/student  top1 0.")
    assert done.stdout.strip() == ""
    assert {path.name for path in Path().iterdir()} == {"mine", "runs"}


def test_messages_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    cli.speak()
    logging.getLogger("limbeck").warning("class %s\nnext line", "\x1b[2J\rERROR \ud800")
    assert capsys.readouterr().err == "WARNING class \\x1b[2J\\rERROR \\ud800\nnext line\n"


@pytest.mark.parametrize("verb", ["predict", "recipes"])
def test_an_interrupt_ends_every_verb_with_a_sentence(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck(verb)
    assert end.value.code == 130
    assert capsys.readouterr().err == "WARNING Ended by SIGINT.\n"
