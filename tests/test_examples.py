"""The examples in the docstrings of what ``limbeck`` exports run, and give what they say."""

import doctest
import sys

import pytest
import rich.console

from limbeck import Distillation, Taps, landmarks, register_family
from limbeck.balancing import balance
from limbeck.methods import Method
from limbeck.pair import Pair
from limbeck.wiring import check

DOCUMENTED = [Distillation, Method, Pair.run, Taps, balance, check, landmarks, register_family]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.__qualname__)
def test_examples(documented, monkeypatch):
    # What an example registers is forgotten after it. The module is hidden by its function.
    module = sys.modules["limbeck.landmarks"]
    monkeypatch.setattr(module, "_families", list(module._families))
    monkeypatch.setattr(rich, "get_console", lambda: rich.console.Console(color_system=None))
    example = doctest.DocTestFinder(recurse=False).find(documented, globs={})[0]
    assert example.examples, f"{documented.__qualname__} has no example"
    told = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=options).run(example, out=told.append)
    assert not told, "".join(told)
