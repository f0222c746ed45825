"""``limbeck anchors`` in a detector's own arguments: pasted, they cover what was said of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from limbeck.commands.anchor_arguments import anchor_arguments, objects_seen
from limbeck.commands.anchors import levels_of_fcos
from limbeck.data import Shapes
from limbeck.data.cluster import object_boxes
from limbeck.data.coverage import Objects
from limbeck.models import (
    FCOS,
    SSD,
    BasicBlocks,
    FasterRCNN,
    FasterRCNNC4,
    RetinaNet,
    save_student,
)
from limbeck.models.detection.parts.locations import match_locations
from tests.commands import tiny_recipes

BLOCKS = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8]}
SEEN = {"min_size": 64, "max_size": 64}
PYRAMID = {"backbone": BLOCKS, "num_classes": 5, "fpn_channels": 32, "norm": "trained"} | SEEN
CASES: dict[str, dict[str, Any]] = {
    "RetinaNet": PYRAMID | {"levels": [3, 5], "head_depth": 1},
    "FasterRCNN": PYRAMID | {"levels": [2, 5], "box_head_channels": 8, "preset": "mmdetection"},
    "FasterRCNNC4": {"backbone": BLOCKS, "num_classes": 5, "box_head_channels": 8} | SEEN,
    "SSD": {"backbone": BLOCKS, "num_classes": 5, "levels": [3, 5], "image_size": [64, 96]},
}
KINDS = {
    "RetinaNet": RetinaNet,
    "FasterRCNN": FasterRCNN,
    "FasterRCNNC4": FasterRCNNC4,
    "SSD": SSD,
}


def recipe(kind: str, arguments: dict[str, Any]) -> tiny_recipes.Recipe:
    stated = tiny_recipes.plain()
    student = {"class_path": f"limbeck.models.{kind}", "init_args": arguments}
    stated["model"]["student"] = student
    return stated


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    tiny_recipes.limbeck("anchors", *words)
    return capsys.readouterr().out


def best_iou(detector: Any, size: tuple[int, int]) -> Tensor:
    """The best IoU of each object of the recipe's data with any anchor that the detector makes."""
    images = torch.zeros(1, 3, *size)
    maps = detector.backbone(images)
    maps = [maps] if isinstance(maps, Tensor) else list(maps.values())
    made = detector.rpn.anchor_generator if hasattr(detector, "rpn") else detector.anchor_generator
    anchors = made(ImageList(images, [size]), maps)[0]
    boxes, extents = object_boxes(Shapes(count=32, size=64, seed=1))
    scale = (torch.tensor(size) / extents).flip(1).repeat(1, 2)
    return box_iou(boxes * scale, anchors).amax(dim=1)


@pytest.mark.parametrize("kind", CASES)
def test_what_is_pasted_covers_what_was_said(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_recipes.write(Path(), "recipe", recipe(kind, CASES[kind]))
    out = said(capsys, path)
    pasted = yaml.safe_load("\n".join(out.splitlines()[-2:]))
    blocks = {"backbone": BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))}
    size = tuple(CASES[kind].get("image_size", (64, 64)))
    cells = [c.strip() for c in next(x for x in out.splitlines() if "│ all " in x).split("│")]
    for arguments, shown in ((CASES[kind], cells[3]), (CASES[kind] | pasted, cells[5])):
        detector = KINDS[kind](**(arguments | blocks))
        iou = best_iou(detector, size)
        form = anchor_arguments(detector)
        assert form is not None
        assert shown == f"{(iou >= form.threshold).float().mean().item():.1%}"
        objects = objects_seen(detector, Shapes(count=32, size=64, seed=1))
        torch.testing.assert_close(form.coverage(objects, form.present).iou, iou)
    assert float(cells[3][:-1]) < float(cells[5][:-1])


def test_what_weights_say_of_anchors_is_what_there_is_now(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Anchors that cover all are not changed; those of a student's folder are taken from there."""
    sizes = [[10.0, 14.0], [20.0, 28.0], [40.0, 56.0]]
    blocks = {"backbone": BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))}
    save_student(RetinaNet(**(CASES["RetinaNet"] | blocks), anchor_sizes=sizes), tmp_path / "own")
    stated = recipe("RetinaNet", CASES["RetinaNet"] | {"anchor_sizes": sizes})
    weighted = recipe("RetinaNet", CASES["RetinaNet"] | {"weights": str(tmp_path / "own")})
    outs = [said(capsys, tiny_recipes.write(Path(), "one", each)) for each in (stated, weighted)]
    assert outs[0] == outs[1]


@pytest.mark.parametrize("kind", ["GFL", "FCOS"])
def test_where_there_is_nothing_to_choose(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = PYRAMID | {"levels": [3, 5], "head_depth": 1}
    out = said(capsys, tiny_recipes.write(Path(), "recipe", recipe(kind, arguments)))
    assert f"A {kind} leaves no anchors to choose" in out
    counts = [int(row.split("│")[2]) for row in out.splitlines() if "stride" in row and "│" in row]
    assert sum(counts) == len(object_boxes(Shapes(count=32, size=64, seed=1))[0])
    assert counts[0] > counts[-1]  # objects have 10 to 40 pixels


def test_fcos_learns_its_objects_at_the_levels_that_are_shown() -> None:
    detector = FCOS(BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8)), 1, fpn_channels=32, levels=(3, 5))
    sides = torch.tensor([40.0, 100.0, 200.0, 300.0])
    boxes = torch.stack([*[256 - sides / 2] * 2, *[256 + sides / 2] * 2], dim=1)
    by_level = []
    for stride in detector.strides:
        xy = torch.cartesian_prod(*[torch.arange(512 // stride) * float(stride)] * 2)
        by_level.append(torch.cat([xy - stride / 2, xy + stride / 2], dim=1))
    counts = torch.tensor([len(each) for each in by_level])
    for box, place in zip(boxes, levels_of_fcos(detector, Objects(boxes, boxes)), strict=True):
        matched = match_locations(by_level, [box[None]], 1.5)[0] >= 0
        positive = [int(each.sum()) for each in matched.split(counts.tolist())]
        assert positive[int(place)] == max(positive) > 0


@pytest.mark.parametrize(
    ("kind", "arguments", "words", "message"),
    [
        ("RetinaNet", CASES["RetinaNet"], ("--count", 3), "--count is 3; expected none"),
        ("Classifier", {"network": BLOCKS, "num_classes": 5}, (), "which has no anchors"),
        (
            "RetinaNet",
            CASES["RetinaNet"] | {"anchor_sizes": [[4]]},
            (),
            "expected 3 tuples of sizes",
        ),
    ],
)
def test_refusals(
    kind: str,
    arguments: dict[str, Any],
    words: tuple[object, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tiny_recipes.write(Path(), "recipe", recipe(kind, arguments))
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("anchors", path, *words)
    assert end.value.code == 1
    assert message in capsys.readouterr().err
