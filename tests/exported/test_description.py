"""What is beside a file is read back as it was written, and refused where it is damaged."""

import json
from dataclasses import replace

import pytest

from limbeck.exported import Description, ExportedModel, read_description
from limbeck.exported.description import beside, write_description
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression

DESCRIPTION = Description(
    runtime="onnx",
    task="detection",
    model="RetinaNet",
    classes=("helmet", "head"),
    batch=None,
    framing=Framing("shorter_side", (64, 96), 32, min_size=64, max_size=96),
    post_processing="inside",
    suppression=Suppression((0, 1, 2), 0.05, 0.5, 100, topk=1000, topk_of="level", levels=(8, 2)),
    half=False,
    licence=None,
    limbeck="0.1.0",
    metadata={"augmentation": {"init_args": {"size": [3, 4]}}},
    outputs=("boxes", "scores", "labels"),
)


@pytest.mark.parametrize(
    "description",
    [DESCRIPTION, replace(DESCRIPTION, framing=Framing("stretch", None), suppression=None)],
)
def test_it_is_read_as_it_was_written(description, tmp_path):
    path = tmp_path / "a.onnx"
    path.touch()
    write_description(path, description)
    assert read_description(path) == description


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, expected 1. Export the student anew"),
        ({"runtime": "tflite"}, "json.runtime is 'tflite', expected"),
        ({"framing": {"rule": "stretch"}}, "json.framing is"),
        ({"further": 1}, "json has 'further'"),
        ({"batch": "many"}, "json.batch is 'many'"),
    ],
)
def test_a_damaged_one_is_refused_by_its_key(change, message, tmp_path):
    path = tmp_path / "a.onnx"
    path.touch()
    write_description(path, DESCRIPTION)
    beside(path).write_text(json.dumps(json.loads(beside(path).read_text()) | change))
    with pytest.raises(ValueError, match=message):
        ExportedModel(path)


def test_a_file_without_its_description_says_what_is_missing(tmp_path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(FileNotFoundError, match=r"a.onnx.json does not exist; .* keep the two"):
        ExportedModel(tmp_path / "a.onnx")
