"""What is said of the words of a command line, of every verb."""

import pytest

from limbeck.cli import main

SAID = [
    ("predict", "student is missing. Expected the student's folder with student.safetensors and"),
    ("predict", "images is missing. Expected image files, folders of them, lists of them (.txt), "),
    ("predict --treshold 0.3 a b", "--treshold is not known. There are --batch_size, --device, "),
    ("predict --treshold 0.3 a b", "Nearest known: --threshold."),
    ("predict a b --threshold x", "--threshold is x; expected a number. Give it such a value."),
    ("predict a b --batch-size x", "--batch_size is x; expected a whole number"),
    ("predict a b --output", "--output has no value. Expected one behind it. Give it, or leave"),
    ("quickstart --sed 3", "--sed is not known. There are --output, --seed. Correct it, or remove"),
    ("quickstart here", "'here' is one word too many. Expected: `limbeck quickstart [options]`."),
    (
        "recipes",
        "`limbeck recipes` lacks a word. Expected one of list, show, copy, schema. Give one.",
    ),
    (
        "recipes lst",
        "is 'lst'; expected one of list, show, copy, schema. Give one of them.\nNearest known: l",
    ),
    (
        "recipes show",
        "name is missing. Expected the recipe's name, as `limbeck recipes list` gives",
    ),
    (
        "recipes show a b",
        "'b' is one word too many. Expected: `limbeck recipes show NAME [options]",
    ),
    (
        "recipes copy a",
        "to is missing. Expected a new file, or a folder that exists. Give it: `lim",
    ),
    ("anchors a --counts 3", "--counts is not known. There are --count, --image_size. Correct it"),
    ("convert a b --to no", "--to is 'no'; expected one of torchvision, detectron2, mmdetection, "),
    ("inspect a --method", "--method has no value. Expected one behind it. Give it, or leave"),
    ("fit here", "'here' is one word too many. Expected: `limbeck fit [options]`. Remove it, or"),
    (
        "fit --resume",
        "--resume has no value. Expected one behind it. Give it, or leave --resume out",
    ),
    ("fit --model.techer.class_path=x", "--model.techer is not known. model takes channels_last, "),
    ("fit --model.techer.class_path=x", "Nearest known: --model.teacher, --model.teachers."),
]


@pytest.mark.parametrize(("words", "message"), SAID, ids=[f"{w}: {m[:9]}" for w, m in SAID])
def test_every_verb_speaks_in_one_voice(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "usage:" not in said
