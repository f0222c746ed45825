"""What every format has to keep, and what a format of somebody's own needs."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from limbeck.checkpoints import (
    FORMATS,
    Checkpoint,
    Contents,
    Format,
    Style,
    open_checkpoint,
    write_checkpoint,
)
from limbeck.checkpoints.formats import (
    format_named,
    format_of_file,
    format_of_suffix,
    library_of,
)
from limbeck.checkpoints.tensors import Tensors
from limbeck.commands.convert import CHOICES
from limbeck.presets import FasterRCNNPreset, RetinaNetPreset
from tests.checkpoints.narrow_tensors import small_detector

every_format = pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)


@every_format
def test_a_format_is_found_by_its_name(each: Format) -> None:
    assert format_named(each.name) is each
    assert bool(each.suffixes) is bool(each.kinds)  # what is written is of some kind
    fields = {*RetinaNetPreset.__dataclass_fields__, *FasterRCNNPreset.__dataclass_fields__}
    assert set(each.stated_numerics) <= fields


@every_format
def test_a_file_that_is_not_there_is_refused_with_the_formats(each: Format) -> None:
    with pytest.raises(FileNotFoundError, match=f"{each.name}:"):
        open_checkpoint(f"{each.name}:nowhere.pth")


@every_format
def test_names_of_nobody_are_nobodys(each: Format) -> None:
    assert not each.recognises(["weight"])
    assert library_of(["weight"]) is None


def test_limbecks_own_names_say_no_library() -> None:
    assert library_of(small_detector("RetinaNet", "resnet18")) is None
    ssd = ["backbone.features.0.weight", "head.classification_head.module_list.0.weight"]
    assert library_of(ssd) is None


def test_what_is_written_is_what_the_command_line_offers() -> None:
    assert CHOICES == ("torchvision", "detectron2", "mmdetection", "fgfi", "limbeck")


def test_a_suffix_that_one_library_writes_says_that_library() -> None:
    found = {suffix: format_of_suffix(suffix) for suffix in (".pkl", ".safetensors", ".pth", ".h5")}
    names = {suffix: each and each.name for suffix, each in found.items()}
    expected = {".pkl": "detectron2", ".safetensors": "torchvision", ".pth": None, ".h5": None}
    assert names == expected


def test_an_ending_says_a_library_whose_files_hold_no_names() -> None:
    found = format_of_file("yolov2-voc.weights")
    assert found is not None
    assert found.name == "darknet"
    assert format_of_file("model.pth") is None


def test_a_library_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="library='keras': expected one of torchvision, detectr"):
        open_checkpoint(__file__, "keras")


def test_what_is_only_read_is_not_written(tmp_path: Path) -> None:
    given = Checkpoint("student", "limbeck", "YOLOv2", {})
    with pytest.raises(ValueError, match="files of darknet are read, and not written"):
        write_checkpoint(given, tmp_path / "a.weights", "darknet")
    with pytest.raises(ValueError, match=r"YOLOv2, and torchvision has none. Write it as limb"):
        write_checkpoint(given, tmp_path / "a.pth", "torchvision")
    assert list(tmp_path.iterdir()) == []


class Shouted(Format):
    """torchvision's names in capitals."""

    name = "shouted"
    suffixes = (".pth",)
    kinds = ("trunk",)

    def recognises(self, names: Iterable[str]) -> bool:
        return all(name.isupper() for name in names)

    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        tensors = {name.lower(): value for name, value in contents.tensors.items()}
        return Checkpoint(source, self.name, "trunk", tensors, contents=contents)

    def write(self, checkpoint: Checkpoint, *, coco_ids: bool) -> Tensors:
        return {name.upper(): value for name, value in checkpoint.tensors.items()}


def test_a_format_needs_to_recognise_read_and_write_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("formats", "opening", "writing"):
        monkeypatch.setattr(f"limbeck.checkpoints.{module}.FORMATS", (*FORMATS, Shouted()))
    given = Checkpoint("student", "limbeck", "trunk", {"conv1.weight": torch.ones(1)})
    file = tmp_path / "model.pth"
    assert write_checkpoint(given, file, "shouted") == [file]
    assert torch.load(file).keys() == {"CONV1.WEIGHT"}
    found = open_checkpoint(str(file))
    assert (found.library, found.kind, found.tensors) == ("shouted", "trunk", given.tensors)
    assert Shouted().remarks(found) == []
