"""LibreYOLO's detectors are what their library says they are, and called as limbeck's own."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from limbeck import Distillation, Taps
from limbeck.frame import network_frame
from limbeck.landmarks import landmarks
from limbeck.methods import CWD, FGD, PKD, FeatureCosine, FineGrainedImitation, FitNet
from limbeck.models import (
    FeatureTeacher,
    LibreYOLODetector,
    RetinaNet,
    load_student,
    save_student,
)
from tests import small_models, tiny_vits
from tests.tiny_libreyolos import SIDE, batch, detector, every_network, seeded, without_boxes

libreyolo = pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")

THRESHOLDS = {"score_threshold": 0.2, "nms_threshold": 0.5, "detections_per_image": 20}


def librarys(model: LibreYOLODetector) -> Any:
    """The library's own detector with the weights of one of limbeck's."""
    given = {"size": model.size, "nb_classes": model.num_classes, "device": "cpu"}
    return model.family.own_class(dict(model.network.state_dict()), **given)


def own_targets(targets: list[dict[str, Tensor]], family: str) -> Tensor:
    """Targets as the library's data pipeline writes them: rows of zeros after the objects."""
    rows = torch.zeros(len(targets), 5, 5)
    for place, target in zip(rows, targets, strict=True):
        pairs = zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
        for row, ((x1, y1, x2, y2), label) in zip(place, pairs, strict=False):
            written = [label - 1, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            if family == "yolo9":
                written = [label - 1, x1 / SIDE, y1 / SIDE, x2 / SIDE, y2 / SIDE]
            row.copy_(torch.tensor(written))
    return rows


def own_losses(
    model: LibreYOLODetector, network: Any, pixels: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """What the library's trainer gets for a batch."""
    family = model.family.name
    if family in ("yolox", "yolo9"):
        return network(pixels, targets)
    if family == "ppyoloe":
        from libreyolo.models.yolonas.loss import PPYoloELoss

        total, parts = PPYoloELoss(model.num_classes)(network(pixels), targets)
        return {"total_loss": total} | dict(zip(("cls", "iou", "dfl"), parts, strict=False))
    if family == "rtmdet":
        from libreyolo.models.rtmdet.loss import RTMDetLoss as Loss
        from libreyolo.models.rtmdet.trainer import RTMDetTrainer as Trainer
    else:
        from libreyolo.models.picodet.loss import PICODETLoss as Loss
        from libreyolo.models.picodet.trainer import PICODETTrainer as Trainer
    trainer = SimpleNamespace(_loss_fn=Loss(model.num_classes))
    return Trainer._loss_from_head(trainer, *network(pixels), targets)


@every_network
def test_its_losses_and_gradients_are_the_librarys_own(name: str) -> None:
    model = seeded(name).train()
    images, targets = batch()
    losses = model(images, targets)
    pixels = model.transform(images)[0].tensors
    network = librarys(model).model.train()
    theirs = own_losses(model, network, pixels, own_targets(targets, model.family.name))
    for part in set(losses) - {"boxes"}:  # of PicoDet, what the library gives in two parts
        own = theirs.get(f"{part}_loss", theirs.get(f"loss_{part}", theirs.get(part)))
        assert torch.equal(losses[part], torch.as_tensor(own)), part
    torch.testing.assert_close(sum(losses.values()), theirs["total_loss"], rtol=1e-6, atol=0)
    sum(losses.values()).backward()
    theirs["total_loss"].backward()
    for (path, ours), own in zip(
        model.network.named_parameters(), network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, own.grad, rtol=1e-3, atol=1e-5, msg=path)


@every_network
def test_every_parameter_learns_also_from_images_without_boxes(name: str) -> None:
    model = seeded(name).train()
    losses = model(batch()[0], without_boxes())
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@every_network
def test_a_copy_that_has_its_state_goes_on_alike(name: str) -> None:
    """So that nothing of a run is lost where it is resumed: all is in the state, and in torch's."""
    model, copy = seeded(name).train(), detector(name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        sum(model(*batch()).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    copy.load_state_dict(model.state_dict())
    losses = []
    for each in (model, copy):
        given = batch()
        torch.manual_seed(3)
        losses.append(each(*given))
    assert all(torch.equal(losses[0][part], losses[1][part]) for part in losses[0])


@every_network
def test_in_mixed_precision_all_after_the_last_layers_is_of_float32(name: str) -> None:
    model = seeded(name, **THRESHOLDS).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch())
        found = model.eval()(batch()[0])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    boxes = torch.cat([each["boxes"] for each in found])
    assert len(boxes)
    assert not torch.equal(boxes, boxes.bfloat16().float())


@every_network
def test_it_finds_what_the_librarys_own_prediction_finds(name: str) -> None:
    model = seeded(name, **THRESHOLDS).eval()
    width = 40 if model.family.preprocessing.letterboxed else SIDE  # so that nothing is resized
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, width, 3), dtype=np.uint8)
    (ours,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    own = librarys(model)
    theirs = own(PIL.Image.fromarray(pixels), conf=0.2, iou=0.5, max_det=20, imgsz=SIDE).boxes
    assert 0 < len(ours["boxes"]) <= 20
    assert ours["labels"].tolist() == (theirs.cls + 1).tolist()
    torch.testing.assert_close(ours["scores"], theirs.conf, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours["boxes"], theirs.xyxy, rtol=1e-5, atol=1e-3)


@every_network
def test_images_of_any_size_are_prepared_and_boxes_brought_back_as_the_library_does_it(
    name: str,
) -> None:
    model = seeded(name, **THRESHOLDS).eval()
    own = librarys(model)
    for extent in ((50, 96), (30, 21)):  # one is made smaller, and one larger
        pixels = np.random.default_rng(3).integers(0, 256, (*extent, 3), dtype=np.uint8)
        image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        batched, _ = model.transform([image])
        given, _, size, *_ = own._preprocess(PIL.Image.fromarray(pixels), input_size=SIDE)
        grey_level = 1 / (255 * min(model.family.preprocessing.std))
        assert (batched.tensors - given).abs().max() < 1.01 * grey_level
        with torch.no_grad():
            output = model.family.decoded(model.network(given))
            (ours,) = model.decode(output, batched, [extent])
            theirs = own._postprocess(own._forward(given), 0.2, 0.5, size, 20, input_size=SIDE)
        assert len(ours["boxes"]) == theirs["num_detections"] > 0
        assert torch.equal(ours["boxes"], torch.tensor(theirs["boxes"]))
        assert torch.equal(ours["scores"], torch.tensor(theirs["scores"]))


def test_an_image_lies_in_the_centre_where_the_weights_were_trained_so() -> None:
    model = seeded("yolo9-t", letterbox="center", **THRESHOLDS).eval()
    pixels = np.random.default_rng(3).integers(0, 256, (SIDE, 40, 3), dtype=np.uint8)
    (ours,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    own = librarys(model)
    own.letterbox_pad = "center"
    theirs = own(PIL.Image.fromarray(pixels), conf=0.2, iou=0.5, max_det=20, imgsz=SIDE).boxes
    assert len(ours["boxes"])
    torch.testing.assert_close(ours["boxes"], theirs.xyxy, rtol=1e-5, atol=1e-3)
    with pytest.raises(ValueError, match=r"letterbox is 'center'; images of yolox"):
        detector("yolox-n", letterbox="center")


@every_network
def test_in_the_networks_frame_nothing_is_resized_and_boxes_stay(name: str) -> None:
    model = seeded(name, **THRESHOLDS).eval()
    image = batch()[0][1]
    with network_frame(model), Taps(model, ["frame"]) as seen:
        (found,) = model([image])
    assert seen["frame"].size == (32, 64)
    assert seen["frame"].image_sizes == ((32, 64),)
    assert len(found["boxes"])
    assert found["boxes"].amax(0).le(torch.tensor([64.0, 32, 64, 32])).all()


@every_network
def test_landmarks_have_the_strides_that_they_are_named_by(name: str) -> None:
    model = seeded(name).eval()
    places = [p for p in landmarks(model) if p[0] in "CP"]
    with Taps(model, [*places, "maps", "fpn", "cls_maps", "box_maps"]) as seen:
        model([torch.rand(3, SIDE, SIDE)])
    for place in places:
        assert seen[place].shape[-1] == SIDE // 2 ** int(place[1]), place
    pyramid = [seen[place] for place in places if place[0] == "P"]
    for kind, channels in (("maps", None), ("fpn", None), ("cls_maps", 3), ("box_maps", None)):
        sizes = [each.shape[-2:] for each in seen[kind]]
        assert sizes == [each.shape[-2:] for each in pyramid], kind
        assert channels in (None, *{each.shape[1] for each in seen[kind]})
    assert all(a is b or torch.equal(a, b) for a, b in zip(pyramid, seen["maps"], strict=True))


@pytest.mark.parametrize("name", ["yolox-n", "yolo9-t"])
def test_the_pyramid_is_where_the_library_distils(name: str) -> None:
    model = seeded(name).eval()
    said = librarys(model).get_distill_config()
    theirs = [f"network.{path}" for path in said["tap_points"]]
    assert said["strides"] == [8, 16, 32]
    with Taps(model, ["P3", "P4", "P5", *theirs]) as seen:
        model([torch.rand(3, SIDE, SIDE)])
    for own, path, channels in zip(("P3", "P4", "P5"), theirs, said["channels"], strict=True):
        assert torch.equal(seen[own], seen[path])
        assert seen[own].shape[1] == channels


@every_network
def test_the_maps_of_classes_are_the_logits_of_the_scores(name: str) -> None:
    model = seeded(name).eval()
    image = batch()[0][0]
    with Taps(model, ["cls_maps"]) as seen:
        model([image])
    output = model.family.decoded(model.network(model.transform([image])[0].tensors))
    scores = {
        "yolox": lambda: flat([each[:, 5:] for each in output]),
        "yolo9": lambda: output["predictions"][0, 4:].T,
        "rtmdet": lambda: flat(output[0]).sigmoid(),
        "picodet": lambda: flat(output[0]).sigmoid(),
        "ppyoloe": lambda: torch.cat(output[1][0].split([4, 16, 64])[::-1]),
    }
    torch.testing.assert_close(flat(seen["cls_maps"]).sigmoid(), scores[model.family.name]())


def flat(maps: list[Tensor]) -> Tensor:
    """The rows of all positions of one image, the finest level first."""
    return torch.cat([each.flatten(2) for each in maps], dim=2)[0].T


@every_network
def test_a_teachers_head_does_not_run_where_maps_alone_are_read(name: str) -> None:
    teacher = seeded(name)
    pair = Distillation(seeded(name), teacher, [FitNet(["P4"]), PKD(["P4"])])
    pair.train()
    ran: list[bool] = []
    teacher.network.head.register_forward_hook(lambda *_: ran.append(True))
    losses = pair(*batch())
    assert {"FitNet/P4", "PKD/P4"} <= {*losses}
    assert not ran


@every_network
def test_methods_of_maps_of_boxes_and_of_classes_learn_from_it(name: str) -> None:
    methods = [FGD(["P3"]), CWD(["cls_maps"])]
    pair = Distillation(detector(name), seeded(name), methods).train()
    losses = pair(*batch())
    distilled = [loss for term, loss in losses.items() if term.startswith(("FGD", "CWD"))]
    assert len(distilled) >= 5
    assert all(loss.isfinite() for loss in losses.values())
    sum(distilled).backward()
    assert next(pair.student.network.parameters()).grad.abs().sum() > 0


def test_it_teaches_and_learns_from_other_detectors() -> None:
    for student, teacher in (
        (small_models.retinanet(), seeded("rtmdet-t")),
        (detector("yolox-n", num_classes=2), small_models.retinanet()),
    ):
        methods = [FitNet(["P4"])]
        if isinstance(student, RetinaNet):  # which has the anchors that it is about
            methods.append(FineGrainedImitation(["P4"], activation=None))
        pair = Distillation(student, teacher, methods).train()
        images, targets = batch()
        for target in targets:
            target["labels"] = target["labels"].clamp(max=2)
        losses = pair(images, targets)
        distilled = [n for n in losses if n.startswith(("FitNet/", "FineGrainedImitation/"))]
        assert len(distilled) == len(methods)
        assert all(losses[name] > 0 for name in distilled)


def test_it_learns_from_a_vision_transformer_as_a_recipe_of_yolox_does() -> None:
    """At the place of the recipe ``yolo/coco_yolox_s_dinov3``."""
    teacher, methods = FeatureTeacher(tiny_vits.of_timm()), [FeatureCosine({"P5": "grid"})]
    pair = Distillation(detector("yolox-n"), teacher, methods).train()
    losses = pair(*batch())
    losses["FeatureCosine/P5"].backward()
    assert next(pair.student.network.parameters()).grad.abs().sum() > 0


@every_network
def test_its_folder_is_loaded_by_limbeck_and_by_the_library(name: str, tmp_path: Path) -> None:
    model = seeded(name, **THRESHOLDS).eval()
    save_student(model, tmp_path, classes=["cat", "dog", "hen"])
    image = batch()[0][0]
    again = load_student(tmp_path)
    assert torch.equal(again([image])[0]["boxes"], model([image])[0]["boxes"])
    alone = model.family.own_class(str(tmp_path / "libreyolo.pt"), size=model.size, device="cpu")
    pixels = model.transform([image])[0].tensors
    ours, theirs = (each.eval()(pixels) for each in (model.network, alone.model))
    ours, theirs = model.family.decoded(ours), model.family.decoded(theirs)
    flat = [torch.utils._pytree.tree_leaves(each) for each in (ours, theirs)]
    assert all(torch.equal(a, b) for a, b in zip(*flat, strict=True))
    assert alone.names == {0: "cat", 1: "dog", 2: "hen"}
    assert json.loads((tmp_path / "student.json").read_text())["build"]["init_args"][
        "image_size"
    ] == [SIDE, SIDE]


def test_the_librarys_file_says_the_shape_of_the_frame_and_the_letterbox(tmp_path: Path) -> None:
    model = detector("yolo9-t", image_size=(32, 64), letterbox="center")
    save_student(model, tmp_path)
    alone = model.family.own_class(str(tmp_path / "libreyolo.pt"), size="t", device="cpu")
    assert alone.input_size == (32, 64)
    assert alone.letterbox_pad == "center"
    again = LibreYOLODetector("yolo9-t", 3, weights=tmp_path / "libreyolo.pt")
    assert again.arguments == model.arguments


def test_without_the_library_an_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "libreyolo", None)
    for name in [n for n in sys.modules if n.startswith("libreyolo.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[libreyolo\]'"):
        LibreYOLODetector("yolox-n", 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": "yolonas-s"}, r"'yolonas-s'; expected one of .*yolox, yolo9, rtmdet, ppyoloe"),
        ({"network": "yolox-h"}, r"'yolox-h'; yolox has the sizes n, t, s, m, l, x"),
        ({"network": "yolox-n", "image_size": (100, 64)}, "multiples of 32"),
        ({"network": "yolox-n", "num_classes": 0}, "num_classes is 0"),
        ({"network": "yolox-n", "nms_threshold": 3.0}, "nms_threshold is 3"),
        ({"network": "yolox-n", "class_channels": 64}, "yolox has no such width"),
    ],
)
def test_what_there_is_not_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LibreYOLODetector(**{"num_classes": 3} | given)
