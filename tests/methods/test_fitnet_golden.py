"""HEAD's FitNet baseline, whole, against mmdetection and the authors' code."""

from pathlib import Path

import pytest
import torch

from limbeck import Distillation
from limbeck.methods import FitNet
from limbeck.models import RetinaNet
from tests.models.detection.head_fixtures import CONTENTS, objects
from tests.models.detection.published import file_of, golden, head_batch, head_weights, normalised

LEVELS = range(5)


def student_and_teacher(shared: Path, folder: Path) -> list[RetinaNet]:
    """RetinaNet-R18 and -R50 with weights by formula; the teacher's keys have no prefix."""
    models = []
    for depth in (18, 50):
        weights = head_weights(shared, f"retinanet_r{depth}_fpn")
        file = file_of(folder, "mmdetection", weights)
        model = RetinaNet(f"resnet{depth}", 80, weights=file)
        normalised(model, head_batch(), CONTENTS)
        models.append(model)
    return models


@pytest.mark.slow
def test_losses_are_the_authors(shared: Path, tmp_path: Path) -> None:
    expected = golden(shared / "golden/head/e2e_fitnet_r18.npz")
    student, teacher = student_and_teacher(shared, tmp_path)
    torch.nn.init.normal_(student.head.classification_head.cls_logits.weight)  # transferred over
    pair = Distillation(student, teacher, [FitNet(["fpn"])], transfer={"head": "head"})
    weights = head_weights(shared, "fitnet_retina_r18_fpn")
    adapters = {
        f"fpn_{i}.{name}": weights[f"_distiller._adapts.0.{i}.{name}"]
        for i in LEVELS
        for name in ("weight", "bias")
    }
    pair.methods["FitNet"].adapters.load_state_dict(adapters)
    losses = pair([torch.zeros(3, *size) for size in CONTENTS], objects())
    close = {"rtol": 1e-4, "atol": 1e-6}
    for part, name in (("classification", "cls"), ("bbox_regression", "bbox")):
        total = sum(expected[f"loss_{name}.{i}"] for i in LEVELS)
        torch.testing.assert_close(losses[f"student/{part}"].detach(), total, **close)
    for i in LEVELS:
        feature = losses[f"FitNet/fpn.{i}"].detach()
        torch.testing.assert_close(feature, expected[f"loss_feat.{i}"], **close)
