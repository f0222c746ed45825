import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from limbeck.data import KITTI, Shapes, VisionDataset, WIDERFace
from limbeck.data.annotated import AnnotatedImages
from limbeck.data.table import AnnotatedImage, Objects
from limbeck.training.detections import DetectionFiles

CAT, DOG = 1, 2


def images() -> AnnotatedImages:
    nothing = torch.zeros(0)
    objects = Objects(torch.zeros(0, 4), nothing.long(), nothing, nothing.long())
    named = [
        AnnotatedImage(Path("JPEGImages", f"{name}.jpg"), image_id, (100, 100), objects)
        for image_id, name in enumerate(("000012", "000007"))
    ]
    return AnnotatedImages(["cat", "sea lion"], named, source=Path("test.txt"))


def validate(folder: Path, dataset: VisionDataset, batches: list[Any], world_size: int = 1) -> None:
    """The hooks of one validation: each batch has (image id, label, score, box) of one image."""
    module: Any = SimpleNamespace(data=SimpleNamespace(datasets={"validation": dataset}))
    first = world_size == 1 or distributed.get_rank() == 0
    trainer: Any = SimpleNamespace(
        sanity_checking=False,
        world_size=world_size,
        is_global_zero=first,
        state=SimpleNamespace(fn="validate"),
    )
    callback = DetectionFiles(folder)
    callback.on_validation_start(trainer, module)
    for image, labels, scores, boxes in batches:
        found = {"boxes": boxes, "scores": scores, "labels": labels}
        found = {name: torch.tensor(value) for name, value in found.items()}
        batch = [None], [{"image_id": torch.tensor(image)}]
        callback.on_validation_batch_end(trainer, module, {"student": [found]}, batch, 0)
    callback.on_validation_epoch_end(trainer, module)


SECOND = (1, [DOG], [0.25], [[0.0, 1.25, 30.5, 40.0]])
FIRST = (0, [DOG, 0, DOG], [0.9999999, 0.8, 1e-9], [[9.96, 0.0, 20.0, 30.0]] * 3)
LINES = """\
000012 0.99999988 11.0 1.0 20.0 30.0
000012 0.00000000 11.0 1.0 20.0 30.0
000007 0.25000000 1.0 2.2 30.5 40.0
"""


def test_lines_are_the_development_kits_and_the_unused_label_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    validate(folder, images(), [FIRST, SECOND])
    assert (folder / "comp4_det_test_sea lion.txt").read_text() == LINES
    assert (folder / "comp4_det_test_cat.txt").read_text() == ""
    validate(folder, images(), [])
    assert (folder / "comp4_det_test_sea lion.txt").read_text() == ""


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    validate(folder / str(rank), images(), [[SECOND], [FIRST]][rank], world_size=2)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(tmp_path: Path) -> None:
    multiprocessing.start_processes(one_rank, (tmp_path,), nprocs=2, start_method="forkserver")
    assert (tmp_path / "0" / "comp4_det_test_sea lion.txt").read_text() == LINES
    assert not (tmp_path / "1").exists()


def test_images_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.val is Shapes\. Give VOC, COCO"):
        validate(tmp_path, Shapes(count=1), [])


class OwnKITTI(KITTI):
    """A user's own."""


@pytest.mark.parametrize("kind", [KITTI, OwnKITTI])
def test_kittis_files_are_of_a_frame_each(kind: type[KITTI], shared: Path, tmp_path: Path) -> None:
    dataset = kind(shared / "data/kitti", "val")
    second = (1, [2, 1], [0.5, 0.75], [[1.0, 2.0, 30.126, 40.0], [5.0, 6.0, 70.0, 80.0]])
    validate(tmp_path, dataset, [second])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["000003", "000007", "000142"]
    assert (tmp_path / "000003.txt").read_text() == ""
    validate(tmp_path, dataset, [second])
    lines = (tmp_path / "000007.txt").read_text().splitlines()
    place = "-1 -1 -1 -1000 -1000 -1000 -10"
    assert lines == [
        f"Pedestrian -1 -1 -10 1.00 2.00 30.13 40.00 {place} 0.50000000",
        f"Car -1 -1 -10 5.00 6.00 70.00 80.00 {place} 0.75000000",
    ]


def test_wider_faces_files_lie_in_folders_of_events(shared: Path, tmp_path: Path) -> None:
    events = ["10--People_Marching", "49--Greeting"]
    dataset = WIDERFace(shared / "data/widerface", "val", events=events)
    first = (0, [1, 1], [0.5, 0.75], [[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 70.0, 80.0]])
    validate(tmp_path, dataset, [first])
    marching, greeting = (image.path.stem for image in dataset.images)
    lines = (tmp_path / events[0] / f"{marching}.txt").read_text().splitlines()
    faces = ["5.00 6.00 65.00 74.00 0.75000000", "1.00 2.00 29.00 38.00 0.50000000"]
    assert lines == [marching, "2", *faces]
    assert (tmp_path / events[1] / f"{greeting}.txt").read_text() == f"{greeting}\n0\n"
    validate(tmp_path, dataset, [first])


def named(classes: list[str], paths: list[str]) -> AnnotatedImages:
    nothing = torch.zeros(0)
    objects = Objects(torch.zeros(0, 4), nothing.long(), nothing, nothing.long())
    listed = [AnnotatedImage(Path(p), i, (100, 100), objects) for i, p in enumerate(paths)]
    return AnnotatedImages(classes, listed, source=Path("test.txt"))


CLASSES = [
    "x/../../../escaped", "on/off switch", "a%2Fb", "a/b", "Car", "car", "nul\0l", "line\nbreak",
    "\ud800", "..", "x" * 300, "X" * 300, "sign [red]",
]  # fmt: skip


def test_every_class_has_a_file_of_its_own_in_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = [(0, [label], [0.5], [[float(label), 1.0, 50.0, 60.0]]) for label in range(1, 14)]
    folder = tmp_path / "deep" / "results"
    validate(folder, named(CLASSES, ["a.jpg"]), boxes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert len({name.casefold() for name in written}) == len(CLASSES)
    assert len(set(written.values())) == len(CLASSES)
    assert all(text.startswith("a 0.5") for text in written.values())
    assert "comp4_det_test_on%2Foff switch.txt" in written
    assert "comp4_det_test_Car.txt" in written
    assert "comp4_det_test_sign [red].txt" in written
    assert "files have other names, as not every disk takes all characters" in caplog.text


def test_images_that_share_a_name_are_told_apart_in_one_word_each(tmp_path: Path) -> None:
    paths = ["/data/a/my image.jpg", "/data/b/my image.jpg", "/data/b/2.jpg"]
    found = [(i, [1], [0.5], [[0.0, 0.0, 9.0, 9.0]]) for i in range(3)]
    validate(tmp_path, named(["cat"], paths), found)
    lines = (tmp_path / "comp4_det_test_cat.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        "a/my%20image.jpg",
        "b/my%20image.jpg",
        "b/2.jpg",
    ]
    assert {len(line.split()) for line in lines} == {6}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comp4_det_test_cat.txt", "my notes\n"),
        ("comp4_det_test_sea lion.txt", "000012 0.9 11.0 1.0 20.0 30.0\n"),  # another program's
    ],
)
def test_a_file_that_holds_no_detections_of_ours_is_not_replaced(
    tmp_path: Path, name: str, text: str
) -> None:
    validate(tmp_path, images(), [FIRST, SECOND])
    (tmp_path / name).write_text(text)
    with pytest.raises(FileExistsError, match=f"{name} is there, and holds no detections"):
        validate(tmp_path, images(), [])
    assert (tmp_path / name).read_text() == text
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere.txt")
    with pytest.raises(FileExistsError, match=name):
        validate(tmp_path, images(), [])


def test_annotations_are_not_replaced(shared: Path, tmp_path: Path) -> None:
    labels = shutil.copytree(shared / "data/kitti/training/label_2", tmp_path / "label_2")
    before = {path: path.read_bytes() for path in labels.iterdir()}
    with pytest.raises(FileExistsError, match=r"000003\.txt is there, and holds no detections"):
        validate(labels, KITTI(shared / "data/kitti", "val"), [])
    assert {path: path.read_bytes() for path in labels.iterdir()} == before
