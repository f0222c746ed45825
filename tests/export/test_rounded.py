"""Files of quantized students: integers inside, and compared with and without their rounding."""

import copy

import onnx
import pytest
import torch

from limbeck.export import DifferenceError, Wanted, export, rounded
from limbeck.export.check import Agreement, Found
from limbeck.export.formats import onnx as onnx_format
from limbeck.export.rounded import agreement
from limbeck.models import Classifier
from limbeck.quantization import FakeQuantize, calibrate, planned, quantize
from tests import tiny_models
from tests.export import tiny_exports


@pytest.fixture(scope="module")
def images():
    return tiny_exports.photographs()


def quantized(model, images):
    model = copy.deepcopy(model).eval()
    given = torch.stack(images) if isinstance(model, Classifier) else images
    quantize(model, planned(model, lambda: model(given)))
    calibrate(model, model, [given])
    return model


@pytest.fixture(scope="module", params=["classifier", "detector"])
def model(request, images):
    """A quantized model."""
    if request.param == "detector":
        return quantized(tiny_exports.detector("fcos"), images)
    return quantized(tiny_models.classifier(), [image[:, :48, :48] for image in images])


def test_a_quantized_student_is_exported_with_integers(model, images, tmp_path):
    size = (48, 48) if isinstance(model, Classifier) else None
    found = export(model, tmp_path / "a.onnx", Wanted("onnx", size), images)
    assert {each.name for each in tmp_path.iterdir()} == {"a.onnx", "a.onnx.json"}
    assert found.rounded.near
    assert found.rounded.found > 0
    assert all(m.rounds for m in model.modules() if isinstance(m, FakeQuantize))
    graph = onnx.load(tmp_path / "a.onnx").graph
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    dequantized = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    kinds = {each.name: each.data_type for each in graph.initializer}
    assert len(layers) >= len(model.quantization.layers)
    for layer in (each for each in layers if each.op_type == "Conv"):
        values, weight = layer.input[:2]
        assert values in dequantized
        assert kinds[dequantized[weight].input[0]] == onnx.TensorProto.INT8


def test_the_file_without_rounding_replaces_no_file_of_the_user(images, tmp_path):
    model = quantized(tiny_models.classifier(), [image[:, :48, :48] for image in images])
    own = tmp_path / "floats.pt"
    own.write_text("of the user")
    export(model, tmp_path / "f.pt", Wanted("torchscript", (48, 48)), images)
    assert own.read_text() == "of the user"
    assert {each.name for each in tmp_path.iterdir()} == {"f.pt", "f.pt.json", "floats.pt"}


def test_rounding_that_goes_wrong_is_noticed_and_not_written(images, tmp_path, monkeypatch):
    model = quantized(tiny_exports.detector("retinanet"), images)
    write = onnx_format.write

    def broken(target, program):
        for module in program.module.modules():
            if isinstance(module, FakeQuantize) and module.rounds and module.channels is None:
                module.scale *= 0.3
        write(target, program)

    monkeypatch.setattr(onnx_format, "write", broken)
    with pytest.raises(DifferenceError, match=r"a.onnx was not written: .* than rounding explains"):
        export(model, tmp_path / "a.onnx", Wanted("onnx"), images)
    assert not list(tmp_path.iterdir())


def test_half_precision_is_refused(images, tmp_path):
    model = quantized(tiny_models.classifier(), [image[:, :48, :48] for image in images])
    with pytest.raises(ValueError, match=r"--half: the student is quantized"):
        export(model, tmp_path / "a.onnx", Wanted("onnx", half=True), images)


@pytest.mark.parametrize(
    ("found", "both", "difference", "near"),
    [(10, 9, 0.05, True), (10, 8, 0.0, False), (10, 10, 0.06, False), (0, 0, 0.0, True)],
)
def test_what_is_near(found, both, difference, near):
    assert Agreement(found, both, difference).near is near


def test_detections_are_the_same_where_class_and_place_are(monkeypatch):
    def found(boxes, labels, scores):
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return Found(boxes, torch.tensor(scores), torch.tensor(labels))

    one = found([[0, 0, 10, 10], [20, 20, 40, 40]], [1, 2], [0.9, 0.5])
    near = found([[0, 0, 10, 11], [20, 20, 40, 40]], [1, 1], [0.7, 0.6])
    nothing = found([], [], [])
    model = tiny_exports.detector("retinanet")
    for ours, theirs, expected in (
        (one, near, Agreement(4, 2, pytest.approx(0.2))),
        (one, nothing, Agreement(2, 0, 0.0)),
        (nothing, nothing, Agreement(0, 0, 0.0)),
    ):
        monkeypatch.setattr(rounded, "found_by_both", lambda *_, o=ours, t=theirs: [(o, t, 100)])
        assert agreement(model, None, []) == expected
