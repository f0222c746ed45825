"""The script that `limbeck completion` prints, in a real bash."""

import re
import subprocess
from pathlib import Path

import pytest
import shtab

from limbeck.commands import VERBS
from limbeck.commands.completion import all_words
from tests.commands.tiny_recipes import limbeck

ASKED = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that a user keeps it in."""
    path = tmp_path_factory.mktemp("completion") / "limbeck"
    path.write_text(shtab.complete(all_words(), "bash"))
    return path


def completed(script: Path, words: str) -> list[str]:
    """What bash proposes for the last of these words."""
    (function,) = re.findall(r"complete .*-F (\w+) limbeck", script.read_text())
    asked = ASKED.format(script=script, words=words, function=function)
    command = ["bash", "--norc", "--noprofile", "-c", asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_every_verb(script: Path) -> None:
    assert completed(script, "limbeck ''") == [verb.name for verb in VERBS]
    assert completed(script, "limbeck qu") == ["quantize", "quickstart"]


@pytest.mark.parametrize(
    ("words", "among"),
    [
        ("limbeck fit --model.optim", {"--model.optimizer.lr", "--model.optimizer.name"}),
        ("limbeck fit --trainer.max_e", {"--trainer.max_epochs"}),
        ("limbeck predict --th", {"--threshold"}),
        ("limbeck recipes ''", {"list", "show", "copy", "schema"}),
        ("limbeck export --format op", {"openvino"}),
        ("limbeck completion ''", {"bash", "zsh"}),
    ],
)
def test_bash_completes_options_and_their_words(script: Path, words: str, among: set[str]) -> None:
    proposed = completed(script, words)
    assert among <= set(proposed)
    assert not any(word.endswith(".help") or "shtab" in word for word in proposed)


def test_bash_completes_files(script: Path) -> None:
    Path("mine.yaml").touch()
    assert completed(script, "limbeck fit --config mi") == ["mine.yaml"]
    assert completed(script, "limbeck compare mi") == ["mine.yaml"]


def test_the_command_prints_a_script_for_zsh(capsys: pytest.CaptureFixture[str]) -> None:
    limbeck("completion", "zsh")
    said = capsys.readouterr().out
    assert said.startswith("#compdef limbeck\n")
    assert "--model.optimizer.lr" in said
