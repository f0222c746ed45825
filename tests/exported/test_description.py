"""What is beside a file is read back as it was written, and refused where it is damaged."""

import json
from dataclasses import replace

import pytest
import torch

from limbeck.exported import Description, ExportedModel, read_description
from limbeck.exported.description import beside, write_description
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from tests.exported.files import CLASSIFIER, DETECTOR, giving

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
    [DESCRIPTION, replace(CLASSIFIER, framing=Framing("stretch", None))],
)
def test_it_is_read_as_it_was_written(description, tmp_path):
    path = tmp_path / "a.onnx"
    path.touch()
    write_description(path, description)
    assert read_description(path) == description


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "has format 2, expected 1. Export the student anew"),
        ("runtime", "tflite", "json.runtime is 'tflite', expected"),
        ("framing", {"rule": "stretch"}, "json.framing is"),
        ("further", 1, "json has 'further'"),
        ("batch", "many", "json.batch is 'many'"),
        ("batch", -1, "json: batch is -1; expected a number: 1 or more"),
        ("batch", 100_000, "json: batch is 100000 at 64 x 96 px; expected at most 67108864 pix"),
        ("framing.size", [1_000_000, 1_000_000], "framing.size is .*; expected numbers, each 1 or"),
        ("framing.size", [0, 64], r"framing.size is \[0, 64\]"),
        ("framing.multiple", 0, "framing.multiple is 0"),
        ("framing.min_size", 10**9, "framing.min_size is 1000000000"),
        ("framing.min_size", None, "framing.min_size is null; .*the rule 'shorter_side' needs"),
        ("suppression.score_threshold", -1, "suppression.score_threshold is -1"),
        ("suppression.nms_threshold", 2, "suppression.nms_threshold is 2"),
        ("suppression.detections_per_image", 0, "suppression.detections_per_image is 0"),
        ("suppression.topk", -5, "suppression.topk is -5"),
        ("suppression.levels", [-1, 3], r"suppression.levels is \[-1, 3\]"),
        ("suppression.labels", [0, 1, 3], "labels has the label 3; expected at most 2, the numb"),
        ("suppression.levels", [1] * 20_000, "suppression.levels has 20000 values, expected at m"),
        ("suppression", None, "suppression is null; expected both"),
        ("outputs", ["logits"], r"outputs is \['logits'\]; expected \['boxes', 'scores', 'lab"),
    ],
)
def test_a_damaged_one_is_refused_by_its_key(key, value, message, tmp_path):
    path = tmp_path / "a.onnx"
    path.touch()
    write_description(path, DESCRIPTION)
    said = json.loads(beside(path).read_text())
    *above, last = key.split(".")
    (said[above[0]] if above else said)[last] = value
    beside(path).write_text(json.dumps(said))
    with pytest.raises(ValueError, match=message):
        ExportedModel(path)


def test_a_file_without_its_description_says_what_is_missing(tmp_path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(FileNotFoundError, match=r"a.onnx.json does not exist; .* keep the two"):
        ExportedModel(tmp_path / "a.onnx")


def test_a_class_without_a_name_is_refused_where_the_file_gives_it(tmp_path, monkeypatch):
    image = torch.rand(3, 4, 4)
    logits = giving([torch.rand(1, 4)], CLASSIFIER, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"a.pt gives class 4, counted from 1, and .* of 3"):
        logits([image])
    found = [torch.rand(1, 2, 4), torch.rand(1, 2), torch.tensor([[4, 1]])]
    with pytest.raises(ValueError, match=r"a.onnx gives class 4"):
        giving(found, DETECTOR, tmp_path, monkeypatch)([image])
    unnamed = replace(DETECTOR, classes=())
    (answer,) = giving(found, unnamed, tmp_path, monkeypatch)([image])
    assert answer["labels"].tolist() == [4, 1]
