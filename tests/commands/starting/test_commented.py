"""Recipes as texts: what is read back is what was chosen, and sentences stand above it."""

import yaml

from limbeck.commands.starting.commented import Chosen, as_text, plain

RECIPE = {
    "model": {
        "student": {
            "class_path": "a.B",
            "init_args": {"sizes": Chosen([[1, 2.5], [3, 4]], "Why.")},
        },
        "name": Chosen("a: b # c", "A sentence that is about the name. " * 5),
    },
    "data": Chosen({"root": "/täg/1e3", "on": None, "yes": "no"}, "All of it."),
    "trainer": {"max_epochs": Chosen(3, "Long enough.")},
}


def test_what_is_written_is_read_back() -> None:
    text = as_text("limbeck fit", "a purpose", RECIPE)
    assert yaml.safe_load(text) == plain(RECIPE)
    assert plain(RECIPE)["data"]["root"] == "/täg/1e3"


def test_each_sentence_stands_above_its_value_at_the_same_depth() -> None:
    lines = as_text("limbeck fit", "a purpose", RECIPE).splitlines()
    assert lines[:2] == ["# limbeck fit", "# a purpose"]
    at = lines.index("      # Why.")
    assert lines[at + 1] == "      sizes: [[1, 2.5], [3, 4]]"
    assert lines[lines.index("# All of it.") + 1] == "data:"
    assert lines[lines.index("  # Long enough.") + 1] == "  max_epochs: 3"
    assert max(map(len, lines)) <= 112
