"""Files of weights of LibreYOLO, and of those whose detectors it has, are read and fit."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limbeck.models import LibreYOLODetector, save_student
from limbeck.models.detection.libreyolo import weights
from tests import small_models
from tests.tiny_libreyolos import detector, every_network, seeded

libreyolo = pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")


def state_of(model: LibreYOLODetector) -> dict[str, Tensor]:
    return dict(model.network.state_dict())


def equal(ours: LibreYOLODetector, theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, theirs[name]) for name, value in state_of(ours).items())


@every_network
def test_a_state_dict_and_a_students_folder_are_weights(name: str, tmp_path: Path) -> None:
    model = seeded(name)
    torch.save(state_of(model), tmp_path / "file.pth")
    save_student(model, tmp_path / "student")
    for source in ("file.pth", "student", "student/libreyolo.pt", "student/student.safetensors"):
        assert equal(detector(name, weights=tmp_path / source), state_of(model)), source


@every_network
def test_layers_of_another_number_of_classes_keep_their_own_weights(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = seeded(name)
    torch.save(state_of(theirs), tmp_path / "file.pth")
    model = detector(name, num_classes=2, weights=tmp_path / "file.pth")
    own = state_of(theirs)
    kept = {n for n, v in state_of(model).items() if not torch.equal(v, own[n])}
    paths = [path for path, _ in model.last_layers.layers["cls_maps"]]
    assert kept == {f"{path}.{kind}" for path in paths for kind in ("weight", "bias")}
    assert "another number of classes than num_classes=2" in caplog.text


def test_names_of_the_originals_are_known(tmp_path: Path) -> None:
    theirs = state_of(seeded("rtmdet-t"))
    renamed = {
        f"bbox_{name}" if name.startswith("head.") else name: value
        for name, value in theirs.items()
        if not re.match(r"head\.(cls|reg)_convs\.[12].*\.conv\.weight", name)  # of level 0, too
    }
    torch.save({"state_dict": renamed}, tmp_path / "rtmdet.pth")
    assert equal(detector("rtmdet-t", weights=tmp_path / "rtmdet.pth"), theirs)
    theirs = state_of(seeded("ppyoloe-s"))
    average = {f"module.{name}": value for name, value in theirs.items()}
    others = {name: value * 0 for name, value in average.items()}
    torch.save({"net": others, "ema_net": average}, tmp_path / "ppyoloe.pth")
    assert equal(detector("ppyoloe-s", weights=tmp_path / "ppyoloe.pth"), theirs)


def test_class_towers_are_as_wide_as_in_the_weights(tmp_path: Path) -> None:
    theirs = detector("yolo9-t", num_classes=80)
    save_student(theirs, tmp_path)
    model = detector("yolo9-t", weights=tmp_path / "libreyolo.pt")
    assert (theirs.arguments["class_channels"], model.arguments["class_channels"]) == (80, 80)
    place = "head.cv3.0.1.conv.weight"
    assert torch.equal(state_of(model)[place], state_of(theirs)[place])
    save_student(model, tmp_path / "again")
    own = model.family.own_class(
        str(tmp_path / "again/libreyolo.pt"), size="t", nb_classes=3, device="cpu"
    )
    assert torch.equal(own.model.state_dict()[place], state_of(theirs)[place])


def test_branches_that_only_help_in_training_are_left_out(tmp_path: Path) -> None:
    theirs = seeded("yolo9-t")
    kept = {**state_of(theirs), "aux.spp.cv1.conv.weight": torch.zeros(1)}
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9).state_dict()
    torch.save({"model": kept, "optimizer": optimizer, "epoch": 3}, tmp_path / "file.pt")
    assert equal(detector("yolo9-t", weights=tmp_path / "file.pt"), state_of(theirs))


def test_what_the_file_says_of_images_counts_and_is_not_contradicted(tmp_path: Path) -> None:
    theirs = detector("yolo9-t", image_size=(64, 96), letterbox="center")
    save_student(theirs, tmp_path)
    model = LibreYOLODetector("yolo9-t", 3, weights=tmp_path / "libreyolo.pt")
    assert model.arguments == theirs.arguments
    for source in (tmp_path, tmp_path / "libreyolo.pt"):
        with pytest.raises(ValueError, match=r"letterbox is 'topleft'; the weights .* 'center'"):
            LibreYOLODetector("yolo9-t", 3, weights=source, letterbox="topleft")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_student(seeded("yolox-n"), tmp_path)
    torch.save(state_of(seeded("yolox-n")), tmp_path / "plain.pt")
    torch.save(small_models.retinanet().state_dict(), tmp_path / "retinanet.pt")
    for source, message in (
        ("libreyolo.pt", r"model_family is 'yolox' in the file; expected 'rtmdet'"),
        ("plain.pt", r"they are of no such detector; expected rtmdet-t"),
        ("retinanet.pt", r"they are of no such detector; expected rtmdet-t"),
    ):
        with pytest.raises(ValueError, match=message):
            detector("rtmdet-t", weights=tmp_path / source)
    with pytest.raises(ValueError, match=r"they are of size n; expected yolox-t"):
        detector("yolox-t", weights=tmp_path / "plain.pt")
    torch.save({**state_of(seeded("yolox-n")), "head.more": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match=r"does not fit:\n.*head\.more"):
        detector("yolox-n", weights=tmp_path / "more.pt")


def test_published_weights_are_downloaded_where_they_are_named_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = seeded("yolox-n")
    torch.save({"model": state_of(theirs)}, tmp_path / "file.pt")
    asked: list[str] = []

    def fetched(address: str) -> Path:
        asked.append(address)
        return tmp_path / "file.pt"

    monkeypatch.setattr(weights, "fetch", fetched)
    model = detector("yolox-n", weights="LibreYOLOXn.pt")
    address = "https://huggingface.co/LibreYOLO/LibreYOLOXn/resolve/main/LibreYOLOXn.pt"
    assert asked == [address]
    assert equal(model, state_of(theirs))
    assert model.licence == "Apache-2.0"
    assert "its licence is Apache-2.0" in caplog.text
    with pytest.raises(ValueError, match="no such detector"):  # of the file that stands for it
        detector("ppyoloe-s", weights="LibrePPYOLOEs.pt")
    assert "ppyoloe_s_coco.pth#sha256=f58a1a44" in asked[1]
    assert "its licence is not known: ask who publishes it" in caplog.text
    for name in ("LibreYOLOXs.pt", "nowhere.pt"):
        with pytest.raises(FileNotFoundError, match=r"no such file.*LibreYOLOXn\.pt, which the"):
            detector("yolox-n", weights=name)
