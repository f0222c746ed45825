"""Files of other libraries whose tensors are missing or of other shapes: sentences, always."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.checkpoints import open_checkpoint
from limbeck.checkpoints.architecture import architecture
from limbeck.checkpoints.checkpoint import Checkpoint
from limbeck.checkpoints.formats import FORMATS, format_named
from limbeck.checkpoints.libraries import detectron2, mmdetection
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import Tensors
from tests.checkpoints.narrow_tensors import small_detector

SHAPES = st.lists(st.integers(0, 5), max_size=4)


def retinanet() -> Tensors:
    return small_detector("RetinaNet", "resnet18")


def faster_rcnn() -> Tensors:
    return small_detector("FasterRCNN", "resnet18")


def sources() -> dict[str, tuple[str, Tensors]]:
    """Tensors by the names of each library."""
    retina, faster = retinanet(), faster_rcnn()
    return {
        "torchvision": ("torchvision", retina),
        "torchvision, two stages": ("torchvision", faster),
        "mmdetection": ("mmdetection", mmdetection.write(retina, bgr=False)),
        "mmdetection, two stages": ("mmdetection", mmdetection.write(faster, bgr=False)),
        "detectron2": ("detectron2", detectron2.write(retina, bgr=False)),
        "detectron2, two stages": ("detectron2", detectron2.write(faster, bgr=False)),
    }


SOURCES = sources()


@st.composite
def damaged(draw: Any, tensors: Tensors) -> Tensors:
    """The tensors, of which some are missing and some have other shapes."""
    odd = dict(tensors)
    named = [n for n in tensors if not n.endswith("num_batches_tracked")]
    for name in draw(st.lists(st.sampled_from(named), min_size=1, max_size=4, unique=True)):
        shape = draw(st.none() | SHAPES)
        if shape is None:
            del odd[name]
        else:
            odd[name] = torch.zeros(shape)
    heads = [n for n in named if "bias" in n and ("head" in n or "rpn" in n)]
    if heads and draw(st.booleans()):
        odd[draw(st.sampled_from(heads))] = torch.zeros(draw(st.integers(0, 5)))
    return odd


@pytest.mark.parametrize("case", SOURCES)
def test_reading_gives_a_checkpoint_or_a_sentence(case: str, tmp_path: Path) -> None:
    library, tensors = SOURCES[case]
    path = tmp_path / "odd.safetensors"

    @settings(derandomize=True, max_examples=40, deadline=None)
    @given(damaged(tensors))
    def read(odd: Tensors) -> None:
        contents = Contents(path, odd)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(ValueError):
            path.touch()
            patch.setattr("limbeck.checkpoints.opening.read_file", lambda *_: contents)
            patch.setattr(type(format_named(library)), "load", lambda *_: contents)
            assert isinstance(open_checkpoint(str(path), library), Checkpoint)

    read()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(damaged(SOURCES["torchvision"][1]) | damaged(SOURCES["torchvision, two stages"][1]))
def test_an_architecture_is_found_or_a_sentence_said(odd: Tensors) -> None:
    with contextlib.suppress(ValueError):
        architecture(odd)


NAMES = st.sampled_from(
    [name for _, tensors in SOURCES.values() for name in list(tensors)[:: len(tensors) // 40]]
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, SHAPES, max_size=12))
def test_names_of_all_libraries_together(shapes: dict[str, list[int]]) -> None:
    odd = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with contextlib.suppress(ValueError):
        architecture(odd)
    for each in FORMATS:
        with contextlib.suppress(ValueError):
            each.recognises(odd)


def test_a_head_of_three_rows_is_told() -> None:
    odd = retinanet() | {"head.regression_head.bbox_reg.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match="the head has 3 rows of boxes: expected four for each"):
        architecture(odd)


def test_no_tensors_at_all() -> None:
    with pytest.raises(ValueError, match="no known trunk"):
        architecture({})


@pytest.mark.parametrize("source", ["a\0b.pth", "", "mmdetection:", "two\nlines.pth"])
def test_odd_names_of_files_are_missing_files(source: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        open_checkpoint(source)
