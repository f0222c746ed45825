"""What the models of ``limbeck new`` are chosen for: data with boxes, and classified ones."""

import pytest

from limbeck.commands.starting.measured import Measured, measured
from tests.commands.starting.folders import image_folder, yolo


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("boxes")
    yolo(folder)
    return measured(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("pictures")
    image_folder(folder)
    return measured(folder)
