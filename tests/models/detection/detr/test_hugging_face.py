"""Transformer detectors are what their library says they are, and called as limbeck's own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limbeck import Distillation
from limbeck.methods import PKD, FineGrainedImitation, FitNet
from limbeck.models import BasicBlocks, Classifier, HuggingFaceDetector, load_student, save_student
from limbeck.models.detection.detr.families import FAMILIES
from tests import small_models
from tests.tiny_detrs import FRAME, batch, config, detector, every_family, seeded

transformers = pytest.importorskip("transformers")


def empty_targets() -> list[dict[str, Tensor]]:
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [none, dict(none)]


@every_family
def test_every_parameter_learns_also_from_images_without_boxes(family: str) -> None:
    model = seeded(family).train()
    images, targets = batch()
    sum(model(images, targets).values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.zero_grad()
    losses = model(images, empty_targets())
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@every_family
def test_a_copy_that_has_its_state_goes_on_alike(family: str) -> None:
    """So that nothing of a run is lost where it is resumed: all is in the state, and in torch's."""
    model, copy = seeded(family).train(), detector(family).train()
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


@pytest.mark.parametrize("family", ["detr", "deformable_detr"])
def test_the_last_three_stages_of_a_resnet_are_trained(family: str) -> None:
    """Version 5 of the library freezes all four, by a misspelt name."""
    model = seeded(family)
    trained = {
        name.partition(".stages.")[2][:1] for name, p in model.named_parameters() if p.requires_grad
    }
    assert trained - {""} == {"1", "2", "3"}


@every_family
def test_in_mixed_precision_its_losses_are_of_float32(family: str) -> None:
    model = seeded(family).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


@every_family
def test_its_detections_are_those_of_the_librarys_own_processor(family: str) -> None:
    model = seeded(family).eval()
    image = batch()[0][0]
    (ours,) = model([image])
    output = model.network(pixel_values=model.transform([image])[0].tensors)
    processors = {"detr": "DetrImageProcessor", "deformable_detr": "DeformableDetrImageProcessor"}
    processor = getattr(transformers, processors.get(family, "RTDetrImageProcessor"))()
    (theirs,) = processor.post_process_object_detection(
        output, threshold=0.0, target_sizes=torch.tensor([FRAME])
    )
    if family == "detr":  # it takes the best class of each query, ours the best pairs
        best = theirs["scores"].argmax()
        assert ours["scores"][0] == theirs["scores"][best]
        assert ours["labels"][0] == theirs["labels"][best] + 1
        return
    theirs = {name: value[:10] for name, value in theirs.items()}  # Deformable DETR's has all
    torch.testing.assert_close(ours["scores"], theirs["scores"])
    assert ours["labels"].tolist() == (theirs["labels"] + 1).tolist()
    inside = theirs["boxes"].clamp(min=0).minimum(torch.tensor([128.0, 64, 128, 64]))
    torch.testing.assert_close(ours["boxes"], inside)


@every_family
def test_a_teachers_decoder_does_not_run_where_maps_alone_are_read(family: str) -> None:
    teacher, place = seeded(family), "P4" if family in ("rf_detr", "lw_detr") else "P5"
    pair = Distillation(seeded(family), teacher, [FitNet([place]), PKD([place])])
    pair.train()
    ran: list[bool] = []
    teacher.network.model.decoder.register_forward_hook(lambda *_: ran.append(True))
    losses = pair(*batch())
    assert {f"FitNet/{place}", f"PKD/{place}"} <= {*losses}
    assert not ran


@every_family
def test_a_dense_student_imitates_it_near_its_objects(family: str) -> None:
    place = "P4" if family in ("rf_detr", "lw_detr") else "P5"
    student = small_models.retinanet()
    imitation = FineGrainedImitation({"P4": place}, activation=None, resize="bilinear")
    pair = Distillation(student, seeded(family, num_classes=2), [imitation]).train()
    images, targets = batch()
    for target in targets:
        target["labels"] = target["labels"].clamp(max=2)
    losses = pair(images, targets)
    losses["FineGrainedImitation/imitation"].backward()
    assert next(student.backbone.parameters()).grad.abs().sum() > 0


@every_family
def test_its_folder_is_loaded_by_limbeck_and_by_the_library(family: str, tmp_path: Path) -> None:
    model = seeded(family).eval()
    save_student(model, tmp_path, classes=["cat", "dog", "hen"])
    image = batch()[0][0]
    again = load_student(tmp_path)
    assert torch.equal(again([image])[0]["boxes"], model([image])[0]["boxes"])
    alone = getattr(transformers, FAMILIES[family].network).from_pretrained(tmp_path).eval()
    pixels = model.transform([image])[0].tensors
    output, theirs = model.network(pixel_values=pixels), alone(pixel_values=pixels)
    assert torch.equal(output.logits, theirs.logits)
    assert torch.equal(output.pred_boxes, theirs.pred_boxes)
    assert alone.config.id2label == {0: "cat", 1: "dog", 2: "hen"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the library writes it, of a detector with five classes."""
    where = tmp_path / "theirs"
    torch.manual_seed(7)
    detector("rt_detr", num_classes=5).network.save_pretrained(where)
    (where / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"height": 96, "width": 64}, "do_normalize": True, "image_std": [0.5] * 3}
        )
    )
    (where / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- detection\n---\n# Model\n")
    return where


def test_a_folder_of_the_library_is_built_and_loaded(folder: Path) -> None:
    model = HuggingFaceDetector(str(folder), 5, weights=folder)
    stored = load_file(folder / "model.safetensors")
    for name, value in model.network.state_dict().items():
        if name in stored:
            assert torch.equal(value, stored[name]), name
    assert model.arguments["image_size"] == [96, 64]
    assert model.arguments["std"] == [0.5] * 3
    assert model.licence == "apache-2.0"
    save_student(model, folder / "student")
    assert json.loads((folder / "student/student.json").read_text())["licence"] == "apache-2.0"


def test_a_licence_that_nobody_states_is_asked_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    HuggingFaceDetector(str(folder), 5, weights=folder)
    assert not caplog.text
    (folder / "README.md").unlink()
    assert HuggingFaceDetector(str(folder), 5, weights=folder).licence is None
    assert f"No licence of the weights of {folder} could be read" in caplog.text


def test_a_student_of_another_kind_leaves_nothing_of_the_former(tmp_path: Path) -> None:
    """A config.json that stays would have the library build another network."""
    (tmp_path / "notes.txt").touch()
    save_student(detector("rt_detr"), tmp_path)
    assert (tmp_path / "config.json").exists()
    other = Classifier(BasicBlocks(depths=(1,), widths=(8,)), num_classes=2)
    save_student(other, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt",
        "student.json",
        "student.safetensors",
    }
    (tmp_path / "config.json").write_text("mine")
    save_student(other, tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_layers_of_other_classes_keep_their_own_weights(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = HuggingFaceDetector(str(folder), 2, weights=folder)
    stored = load_file(folder / "model.safetensors")
    name = "model.decoder.bbox_embed.0.layers.0.weight"
    assert torch.equal(model.network.state_dict()[name], stored[name])
    assert "another number of classes than num_classes=2" in caplog.text
    assert model.eval()([torch.rand(3, 96, 64)])[0]["labels"].max() <= 2


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"do not fit the network|does not load them"):
        HuggingFaceDetector(config("rt_detr", decoder_layers=3), 5, weights=folder)


def test_only_layers_of_classes_may_have_another_shape(folder: Path) -> None:
    stated = config("rt_detr", encoder_ffn_dim=24)
    with pytest.raises(ValueError, match=r"do not fit the network: .*of another shape"):
        HuggingFaceDetector(stated, 5, weights=folder)


def test_a_folder_of_weights_needs_no_configuration_and_may_have_a_dot(folder: Path) -> None:
    place = folder.rename(folder.with_name("detector.v2"))
    (place / "config.json").unlink()
    model = HuggingFaceDetector(config("rt_detr"), 5, weights=place)
    stored = load_file(place / "model.safetensors")
    name = "model.decoder.class_embed.0.weight"
    assert torch.equal(model.network.state_dict()[name], stored[name])
    assert model.licence == "apache-2.0"


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        detector(weights=tmp_path / "nowhere.pth")


def test_a_students_weights_decide_what_is_left_open(tmp_path: Path) -> None:
    student = seeded("rt_detr", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), score_threshold=0.2)
    save_student(student, tmp_path)
    other = HuggingFaceDetector(config("rt_detr"), 3, weights=tmp_path)
    assert other.arguments == student.arguments | {"score_threshold": 0.0}
    image = batch()[0][1]
    kept = student.eval()([image])[0]["scores"]
    assert torch.equal(other.eval()([image])[0]["scores"][: len(kept)], kept)
    with pytest.raises(ValueError, match=r"mean is .* in the weights"):
        HuggingFaceDetector(config("rt_detr"), 3, weights=tmp_path, mean=(0.0, 0.0, 0.0))


def test_a_students_folder_and_a_file_are_weights_too(tmp_path: Path) -> None:
    model = seeded("d_fine")
    save_student(model, tmp_path / "student")
    save_file(
        {name: value.clone() for name, value in model.network.state_dict().items()},
        tmp_path / "file.safetensors",
    )
    for source in (tmp_path / "student", tmp_path / "file.safetensors"):
        other = detector("d_fine", weights=source)
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        HuggingFaceDetector(config("rt_detr"), 3, image_size=(100, 64))
    with pytest.raises(ValueError, match="expected one of them"):
        HuggingFaceDetector(config("rt_detr"), 3, image_size=(64, 64), min_size=64)
    with pytest.raises(ValueError, match="num_classes"):
        HuggingFaceDetector(config("rt_detr"), 0)
