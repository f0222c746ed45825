import argparse

import pytest

from limbeck.commands.parsing import explain, known_keys


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    outer = argparse.ArgumentParser(add_help=False)
    fit = outer.add_subparsers().add_parser("fit", add_help=False)
    for key in ("model.student", "model.student.help", "model.optimizer.lr", "data.train", "seed"):
        fit.add_argument(f"--{key}")
    return outer


def test_known_keys_are_those_of_the_subcommands_less_the_help(
    parser: argparse.ArgumentParser,
) -> None:
    assert known_keys(parser) == {"model.student", "model.optimizer.lr", "data.train", "seed"}


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model.optimzer.lr", "model.optimizer"),  # the part that is wrong, not all behind it
        ("model.optimizer.rl", "model.optimizer.lr"),
        ("dta.train.init_args.count", "data"),
        ("sed", "seed"),
    ],
)
def test_the_nearest_key_is_that_of_the_first_unknown_part(
    key: str, nearest: str, parser: argparse.ArgumentParser
) -> None:
    for message in (
        f"Subcommand 'fit' does not accept option '{key}'",
        f"unrecognized arguments: --{key} 3",
    ):
        said = explain(message, parser)
        assert said.partition(" is not known")[0].strip("-'") in key  # up to what is unknown
        dashes = "--" if "--" in message else ""
        assert said.endswith(f"\nNearest known: {dashes}{nearest}.")


def test_no_nearest_key_is_told_where_nothing_is_near(parser: argparse.ArgumentParser) -> None:
    said = explain("Subcommand 'fit' does not accept option 'zzz'", parser)
    assert said == "'zzz' is not known. There are data, model, seed. Correct it, or remove it."
    assert explain("something else", parser) == "something else"


def test_an_argument_of_a_function_is_compared_with_the_function_s(
    parser: argparse.ArgumentParser,
) -> None:
    message = (
        "Problem with given class_path 'limbeck.models.load_student':\n"
        "  Option 'foldr' is not accepted"
    )
    assert explain(message, parser).endswith("\nNearest known: folder.")
