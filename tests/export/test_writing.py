"""A file is put in its place only if it finds what PyTorch finds; formats, half precision."""

import copy

import onnx
import pytest
import torch

from limbeck.export import DifferenceError, Said, Tolerance, Wanted, export
from limbeck.export.formats import torchscript
from limbeck.exported import load
from limbeck.exported.description import beside
from tests.export import tiny_exports


@pytest.fixture(scope="module")
def images():
    return tiny_exports.photographs()


def test_a_graph_that_is_broken_on_purpose_is_noticed_and_not_written(
    images, tmp_path, monkeypatch
):
    model, path = tiny_exports.detector("fcos"), tmp_path / "student.pt"
    write = torchscript.write

    def broken(target, program):
        head = program.module.dense.model.head.classification_head
        with torch.no_grad():
            head.cls_logits.bias += 0.1
        write(target, program)

    monkeypatch.setattr(torchscript, "write", broken)
    with pytest.raises(DifferenceError, match=r"student.pt was not written: .* without a partner"):
        export(model, path, Wanted("torchscript"), images)
    assert not list(tmp_path.iterdir())
    path.write_text("an earlier one")
    with pytest.raises(DifferenceError):
        export(model, path, Wanted("torchscript"), images)
    assert path.read_text() == "an earlier one"
    tolerance = Tolerance(boxes=1000.0, scores=1.0)
    found = export(model, path, Wanted("torchscript", tolerance=tolerance), images)
    assert found.scores > 1e-3


def test_where_nothing_is_found_what_comes_before_suppression_is_compared(
    images, tmp_path, monkeypatch, caplog
):
    model = copy.deepcopy(tiny_exports.detector("ssd"))
    model.score_thresh = 1.0
    checked = export(model, tmp_path / "a.pt", Wanted("torchscript"), images)
    assert (checked.detections, checked.dense) == (0, 300)
    assert "finds nothing on the 3 images" in caplog.text
    assert {each.name for each in tmp_path.iterdir()} == {"a.pt", "a.pt.json"}
    export(model, tmp_path / "dense.pt", Wanted("torchscript"), images)
    exported = load(tmp_path / "dense.pt", trust=True)  # which is the one that was asked for
    assert exported.description.post_processing == "inside"
    assert exported.outputs(torch.rand(1, 3, 64, 64)).keys() == {"boxes", "scores", "labels"}
    write = torchscript.write

    def broken(target, program):
        dense = getattr(program.module, "dense", program.module)
        dense.anchors += 3
        write(target, program)

    monkeypatch.setattr(torchscript, "write", broken)
    with pytest.raises(DifferenceError, match="300 boxes before suppression; largest difference"):
        export(model, tmp_path / "b.pt", Wanted("torchscript"), images)


@pytest.mark.parametrize("runtime", ["torch_export", "torchscript"])
def test_dense_boxes_and_scores_are_suppressed_behind_the_file(runtime, images, tmp_path):
    model = tiny_exports.detector("faster_rcnn" if runtime == "torchscript" else "yolov2")
    path = tmp_path / {"torch_export": "a.pt2", "torchscript": "a.pt"}[runtime]
    checked = export(model, path, Wanted(runtime, post_processing="dense", batch=2), images)
    assert (checked.unmatched, checked.dense) == (
        0,
        {"torch_export": 36, "torchscript": 300}[runtime],
    )
    exported = load(path, trust=True)
    outputs = exported.outputs(torch.rand(3, 3, *exported.description.framing.size))
    assert list(outputs) == ["boxes", "scores"]
    assert len(outputs["boxes"]) == 3  # a batch of 2, and one that is filled up


@pytest.mark.slow
def test_any_batch_any_size_and_metadata_in_onnx(images, tmp_path):
    path, said = tmp_path / "a.onnx", Said(("a", "b", "c"), "MIT", {"epochs": 3})
    wanted = Wanted("onnx", dynamic=("batch", "size"))
    checked = export(tiny_exports.detector("retinanet"), path, wanted, images, said)
    assert checked.images == 3
    exported = load(path)
    shapes = {tuple(exported.framed([image])[0].shape) for image in images}
    assert len(shapes) > 1
    assert exported.outputs(torch.rand(5, 3, 96, 64))["boxes"].shape[0] == 5
    (kept,) = (each.value for each in onnx.load(path).metadata_props if each.key == "limbeck")
    assert kept == beside(path).read_text()
    described = exported.description
    assert (described.classes, described.licence) == (("a", "b", "c"), "MIT")
    assert described.metadata == {"epochs": 3}
    assert described.suppression.score_threshold == 0.02
    with torch.no_grad():
        found, expected = exported(list(images)), tiny_exports.detector("retinanet")(list(images))
    counts = [
        (len(a["boxes"]), int((b["labels"] > 0).sum()))
        for a, b in zip(found, expected, strict=True)
    ]
    assert all(abs(ours - theirs) <= 0.05 * theirs for ours, theirs in counts)


def test_half_precision_is_that_of_the_network_alone(images, tmp_path):
    path, model = tmp_path / "a.pt", tiny_exports.detector("ssdlite")
    checked = export(model, path, Wanted("torchscript", half=True), images)
    assert 0 < checked.scores < 0.02
    exported = load(path, trust=True)
    kinds = {each.dtype for each in exported.runtime.module.parameters()}
    assert torch.float16 in kinds
    assert exported.outputs(torch.rand(1, 3, 64, 64))["boxes"].dtype == torch.float32
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def test_a_file_goes_by_the_suffix_of_its_format(images, tmp_path):
    with pytest.raises(ValueError, match=r"a file of onnx ends with .onnx. Call it a.onnx"):
        export(tiny_exports.detector("ssd"), tmp_path / "a.pt", Wanted("onnx"), images)
