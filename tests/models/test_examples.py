"""The examples in the docstrings of what limbeck.models makes public: each of them runs."""

import doctest
import tempfile

import pytest

from limbeck import models


@pytest.mark.parametrize("name", models.__all__)
def test_an_example_of_every_public_name_runs(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(models, name), name)
    assert found.examples
    output: list[str] = []
    failed, _ = doctest.DocTestRunner().run(found, out=output.append)
    assert not failed, "".join(output)
