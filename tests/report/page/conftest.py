"""Reports of made-up comparisons, each written once."""

from pathlib import Path

import pytest

from limbeck.report.page import write_report
from tests.report.page.examples import Example, make


@pytest.fixture(scope="session")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Example:
    return make(tmp_path_factory.mktemp("detection") / "runs", images=20, seeds=2)


@pytest.fixture(scope="session")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("classification") / "runs"
    return make(folder, "classification", images=40, seeds=2)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("hostile") / "runs"
    return make(folder, images=16, seeds=2, hostile=True)


@pytest.fixture(scope="session", params=["detection", "classification", "hostile"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with report.html, report.md and report.json."""
    example: Example = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp(f"report-{request.param}")
    write_report(example.findings, example.data, folder)
    return folder
