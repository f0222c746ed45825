"""From a student to a file, and the file in the student's place: the verbs export and predict."""

import json
import sys

import pytest
import torch

from limbeck.cli import main
from limbeck.data import ClassificationAugmentation, Shapes
from limbeck.data.augmentation import to_recipe
from limbeck.models import BasicBlocks, Classifier, save_student
from tests import tiny_models
from tests.export import tiny_exports


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    save_student(tiny_exports.detector("ssd"), folder, classes=["a", "b", "c"])
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number, path in enumerate(tiny_exports.paths()):
        (folder / f"{number}.jpg").symlink_to(path.resolve())
    return folder


def test_predict_takes_the_file_where_it_takes_the_student(
    student, photographs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    exported = ["export", str(student), "--format", "torchscript", "--output", "a.pt"]
    main([*exported, "--images", str(photographs)])
    said = " ".join(capsys.readouterr().out.split())
    assert "a.pt and a.pt.json: 1 images at once, 64 x 64 px (height x width)" in said
    assert "compared on 3 images of" in said
    assert "0 without a partner" in said
    found = {}
    with pytest.raises(SystemExit):
        main(["predict", "a.pt", str(photographs)])
    assert "a.pt is a file of torchscript, which can run code" in capsys.readouterr().err
    for name in (str(student), "a.pt"):
        words = ["predict", name, str(photographs), "--output", f"of{len(found)}"]
        main([*words, "--threshold", "0.3", "--trust", "true"])
        found[name] = json.loads((tmp_path / f"of{len(found)}" / "predictions.json").read_text())
    ours, theirs = found.values()
    assert ours.keys() == theirs.keys()
    for path, detections in ours.items():
        assert detections
        assert [each["class"] for each in detections] == [each["class"] for each in theirs[path]]
        boxes = [torch.tensor([each["box"] for each in one]) for one in (detections, theirs[path])]
        torch.testing.assert_close(*boxes, atol=0.05, rtol=0)


def test_a_classifier_is_exported_at_the_size_that_it_was_measured_at(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = Classifier(BasicBlocks(depths=(1, 1), widths=(8, 16)), num_classes=2)
    augmentation = to_recipe(ClassificationAugmentation(size=48))
    metadata = {"task": "classification", "augmentation": augmentation}
    save_student(model, "cats", classes=["cat", "dog"], metadata=metadata)
    main(["export", "cats", "--format", "torchscript", "--output", "cats.pt"])
    said = " ".join(capsys.readouterr().out.split())
    assert "48 x 48 px" in said
    assert "largest difference of probabilities" in said
    save_student(model, "plain")
    with pytest.raises(SystemExit):
        main(["export", "plain", "--format", "torchscript", "--output", "plain.pt"])
    main(
        ["export", "plain", "--format", "torchscript", "--output", "plain.pt", "--size", "32", "48"]
    )
    assert json.loads((tmp_path / "plain.pt.json").read_text())["framing"]["size"] == [32, 48]


def test_the_metric_of_both_is_shown(student, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.yaml").write_text(
        "model:\n  student:\n    class_path: limbeck.models.SSD\n"
        "    init_args: {backbone: resnet18, num_classes: 5}\n"
        "data:\n  val: {class_path: limbeck.data.Shapes, init_args: {size: 64, count: 3}}\n"
    )
    save_student(tiny_models.detector(), "five", classes=list("abcde"))
    words = ["export", "five", "--format", "torchscript", "--output", "a.pt"]
    with pytest.raises(SystemExit):
        main([*words, "--validate", "data.yaml"])  # of other classes
    assert not (tmp_path / "a.pt").exists()
    save_student(tiny_models.detector(), "five", classes=list(Shapes().classes))
    main([*words, "--validate", "data.yaml"])
    said = capsys.readouterr().out
    assert "AP" in said
    assert "+0.0000" in said
    file = ["--model.student", "limbeck.exported.ExportedModel", "--model.student.path", "a.pt"]
    file += ["--model.student.trust", "true"]
    main(["validate", "--config", "data.yaml", *file, "--trainer.accelerator", "cpu"])
    assert "AP50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "coreml", "--output", "a.mlpackage"], "--format coreml: such a file cannot"),
        (["--format", "onnx", "--output", "a.pt"], "a file of onnx ends with .onnx"),
        (["--format", "onnx", "--output", "a.onnx", "--batch", "0"], "--batch is 0"),
        (
            ["--format", "onnx", "--output", "a.onnx", "--tolerance.boxes", "-1"],
            "--tolerance.boxes is -1",
        ),
    ],
)
def test_what_cannot_be_is_refused(student, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["export", str(student), *words])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_runtime_is_named_with_its_command(student, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SystemExit):
        main(["export", str(student), "--format", "openvino", "--output", str(tmp_path / "a.xml")])
    assert "pip install 'limbeck[openvino]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
