"""Files of Fine-grained Feature Imitation; their outputs are compared in ``models/detection``."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.checkpoints import open_checkpoint, write_checkpoint
from limbeck.checkpoints.libraries import fgfi
from limbeck.models import FasterRCNN, FasterRCNNC4, load_weights
from tests.models.detection.c4.plain_original import original_tensors
from tests.observation import same

pytestmark = pytest.mark.usefixtures("narrow_vggs")
INPUT = {"mean": fgfi.MEAN, "std": fgfi.STD}


def file_of(folder: Path, **beside: Any) -> Path:
    """A file as the original keeps it."""
    tensors = beside.pop("model", None) or original_tensors("vgg11", 3, 32)
    held = {"session": 1, "epoch": 8, "model": tensors, "optimizer": {"state": {}}}
    path = folder / "faster_rcnn_1_7_10021.pth"
    torch.save(held | {"pooling_mode": "crop", "class_agnostic": False} | beside, path)
    return path


@pytest.mark.parametrize("prefix", ["", "fgfi:"])
def test_what_a_file_says(prefix: str, tmp_path: Path) -> None:
    found = open_checkpoint(f"{prefix}{file_of(tmp_path)}")
    assert (found.library, found.kind) == ("fgfi", "FasterRCNNC4")
    assert found.arguments == INPUT | {
        "backbone": "vgg11",
        "num_classes": 3,
        "preset": "fgfi",
        "pooling": "crop",
        "class_agnostic": False,
        "anchor_sizes": ((128, 256, 512),),
        "box_head_channels": 32,
    }


def test_a_model_follows_its_file(tmp_path: Path) -> None:
    tensors = original_tensors("vgg16", 3, 32, agnostic=True)
    path = file_of(tmp_path, model=tensors, pooling_mode="pool")
    model = FasterRCNNC4("vgg16", 3, weights=path, box_head_channels=32)
    given = model.build.init_args
    assert [given[name] for name in ("preset", "pooling", "class_agnostic")] == [
        "fgfi",
        "pool",
        True,
    ]
    assert given["mean"] == pytest.approx(fgfi.MEAN)
    first = tensors["RCNN_base.0.weight"]
    assert torch.equal(model.backbone[0].weight, first.flip(1))


def test_an_own_std_is_folded(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    given = {"weights": path, "box_head_channels": 32}
    image = torch.rand(1, 3, 32, 32)
    maps = []
    for std in (None, (0.2, 0.3, 0.4)):
        model = FasterRCNNC4("vgg11", 3, std=std, **given)
        maps.append(model.backbone(model.transform.normalize(image[0])[None]))
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-3, atol=1e-3)


def test_a_student_s_adaptation_layer_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = {"stu_feature_adap.0.weight": torch.ones(4, 4, 3, 3)}
    tensors = original_tensors("vgg11", 3, 32)
    with caplog.at_level(logging.INFO):
        found = open_checkpoint(str(file_of(tmp_path, model=tensors | adapter)))
    assert "stu_feature_adap.0.weight" in caplog.text
    assert len(found.tensors) == len(tensors)


def test_writing_is_the_inverse(tmp_path: Path) -> None:
    found = open_checkpoint(str(file_of(tmp_path)))
    written = tmp_path / "written.pth"
    write_checkpoint(found, written, "fgfi")
    held = torch.load(written)
    assert {"session", "epoch"} <= held.keys()
    assert (held["pooling_mode"], held["class_agnostic"]) == ("crop", False)
    assert same(held["model"], original_tensors("vgg11", 3, 32))


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"pooling_mode": "roi"}, "pooling_mode='roi': expected one of align, crop, pool"),
        ({"model": {"RCNN_base.0.weight": torch.zeros(1)}}, "cls_score.bias' is missing"),
        ({"model": {"RCNN_base.0.weight": torch.zeros(1), "RCNN_x.bias": torch.zeros(1)}}, "VGG16"),
    ],
)
def test_other_files_are_refused(beside: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_checkpoint(str(file_of(tmp_path, **beside)))


def test_other_models_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    with pytest.raises(ValueError, match=r"they are of a FasterRCNNC4\. Expected a FasterRCNN's"):
        load_weights(FasterRCNN("resnet18", 3), path)
    with pytest.raises(ValueError, match="backbone is vgg11 in the weights, vgg16 here"):
        FasterRCNNC4("vgg16", 3, weights=path, box_head_channels=32)


@pytest.mark.parametrize(("library", "preset"), [("fgfi", "torchvision"), ("torchvision", "fgfi")])
def test_what_a_library_has_not_is_not_written(library: Any, preset: str, tmp_path: Path) -> None:
    found = open_checkpoint(str(file_of(tmp_path)))
    found.arguments["preset"] = preset
    message = "Build and train" if library == "fgfi" else "torchvision has none"
    with pytest.raises(ValueError, match=message):
        write_checkpoint(found, tmp_path / "x.pth", library)
