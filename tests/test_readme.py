import re
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models._api import WeightsEnum

from limbeck import methods, models
from limbeck.checkpoints import Checkpoint, write_checkpoint
from limbeck.commands import recipes
from limbeck.methods import Method

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
METHODS = [
    exported
    for exported in vars(methods).values()
    if isinstance(exported, type) and issubclass(exported, Method) and exported is not Method
]
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_example_of_a_loop_of_ones_own_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    published = resnet18().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: published)
    torch.save(models.RetinaNet("resnet50", num_classes=3).state_dict(), "teacher.pth")
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([2])}
    scope = {"loader": [([torch.rand(3, 64, 64)], [target])]}
    exec(BLOCKS[0], scope)
    assert scope["losses"].keys() >= {"student/classification", "FitNet/fpn.0"}
    assert scope["pair"].number == 1
    assert "conv 1x1" in capsys.readouterr().out
    head = scope["teacher"].head.classification_head.cls_logits.weight
    moved = scope["student"].head.classification_head.cls_logits.weight
    assert not torch.equal(head, moved)
    torch.testing.assert_close(head, moved, atol=0.1, rtol=0)  # transferred, then one step


def test_the_example_of_a_teacher_of_mmdetection_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = models.FasterRCNN("resnet50", num_classes=80, preset="mmdetection")
    network = {"backbone": "resnet50", "num_classes": 80, "preset": "mmdetection"}
    checkpoint = Checkpoint("", "limbeck", "FasterRCNN", trained.state_dict(), network)
    written = write_checkpoint(checkpoint, Path("teacher.pth"), "mmdetection")
    (name,) = re.findall(r'weights="mmdetection:(.*?)"', BLOCKS[1])
    written[0].rename(name)
    scope = {"models": models}
    exec(BLOCKS[1], scope)
    assert scope["teacher"].build.init_args["preset"] == "mmdetection"
    loaded = scope["teacher"].roi_heads.box_predictor.cls_score.weight
    assert torch.equal(loaded, trained.roi_heads.box_predictor.cls_score.weight)


def test_the_example_of_an_export_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = models.ShuffleDet(0.15, 3, image_size=(64, 64))
    models.save_student(student, "runs/distilled/student")
    exported = {}

    def export(module, inputs, file, dynamo):  # itself tested in models/detection/test_onnx.py
        exported[file] = module(*inputs)

    monkeypatch.setattr(torch.onnx, "export", export)
    exec(BLOCKS[2], {"models": models, "torch": torch})
    boxes, scores = exported["detector.onnx"]
    assert boxes.shape == (1, 4 * 4 * 9, 4)
    assert scores.shape == (1, 4 * 4 * 9, 3)


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
def test_links_within_the_repository_lead_somewhere(path):
    page = ROOT / path
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_recipe_that_the_readme_names_exists():
    named = re.findall(r"recipes copy (\S+)", README)
    assert named
    assert set(named) <= set(recipes.names())


def test_the_table_of_methods_has_them_all():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert sorted(rows) == sorted(method.__name__ for method in METHODS)


@pytest.mark.parametrize("needs_targets", [True, False])
def test_the_methods_that_need_labels_are_those_that_are_said_to(needs_targets):
    page = (ROOT / "docs/guides/unlabelled.md").read_text()
    said = r"by name: ([\w\s,]+)\. A" if needs_targets else r"for that: ([\w\s,]+)\. Photographs"
    (named,) = re.findall(said, page)
    expected = {m.__name__ for m in METHODS if m.needs_targets is needs_targets}
    assert set(re.split(r",\s+|\s+and\s+", named)) == expected
