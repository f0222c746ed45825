"""Datasets in other layouts, there and back: COCO to VOC or YOLO to COCO, and what is lost."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageOps
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import COCO, VOC, YOLO, Shapes, VisionDataset
from limbeck.data.contents import Contents, contents_of
from limbeck.data.layouts import recognised
from limbeck.data.table import ImageTable, Objects
from limbeck.data.written import Source, Written, write_dataset

HEIGHT, WIDTH = 48, 64
CLASSES = ("zebra", "ant")  # in an order that no layout would choose
READERS = {"coco": COCO, "voc": VOC, "yolo": YOLO}
ORDER = (
    "XML files say neither the order of the classes nor those without objects: state classes, as "
    "below."
)
CORNER = st.integers(0, 2**16).map(lambda number: number / 2**16)


def source(
    folder: Path, boxes: Sequence[Sequence[float]], crowd: int = 0, **attributes: torch.Tensor
) -> Source:
    """One image with all boxes, and one without."""
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    ones = torch.ones(len(corners), dtype=torch.int64)
    area = (corners[:, 2:] - corners[:, :2]).prod(dim=1)
    objects = Objects(corners, 2 * ones, area, crowd * ones, attributes)
    sizes = [(HEIGHT, WIDTH)] * 2
    table = ImageTable.numbered(folder, ["a.png", "b.png"], [len(corners), 0], objects, sizes)
    return Source(Contents("detection", CLASSES, table, torch.zeros(2, dtype=torch.bool)))


def read(written: Written, layout: str, split: str = "train") -> VisionDataset:
    stated = written.splits[split]
    assert stated["class_path"] == f"limbeck.data.{READERS[layout].__name__}"
    return READERS[layout](**stated["init_args"])


def boxes_of(dataset: VisionDataset) -> torch.Tensor:
    return contents_of(dataset).images.objects.boxes


@settings(max_examples=12)
@given(st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER), max_size=4), st.booleans())
def test_boxes_come_back(shares: list[tuple[float, ...]], whole: bool) -> None:
    """They are equal to the last bit by way of VOC, and to a thousandth of a pixel by YOLO's."""
    sides = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]) - 2
    start = torch.tensor(shares).reshape(-1, 4) * sides
    boxes = torch.cat(
        [start[:, :2].minimum(start[:, 2:]), start[:, :2].maximum(start[:, 2:]) + 1.5], 1
    )
    boxes = torch.unique(boxes.round() if whole else boxes, dim=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = write_dataset(
            {"train": source(folder / "images", boxes.tolist())}, "coco", folder / "0"
        )
        begun = read(first, "coco")
        assert torch.equal(boxes_of(begun), boxes)
        for layout, tolerance in (("voc", 0.0), ("yolo", 1e-3)):
            there = write_dataset({"train": Source(contents_of(begun))}, layout, folder / layout)
            again = Source(contents_of(read(there, layout)))
            back = read(write_dataset({"train": again}, "coco", folder / f"{layout}_coco"), "coco")
            assert back.classes == CLASSES
            assert ((boxes_of(back) - boxes).abs() <= tolerance).all()
            assert contents_of(back).images.counts().tolist() == [len(boxes), 0]


@pytest.mark.parametrize("layout", READERS)
def test_a_written_dataset_is_recognised_and_its_images_are_the_same_files(
    tmp_path: Path, layout: str
) -> None:
    sources = {
        "train": source(tmp_path / "one", [[1, 2, 30, 40]]),
        "val": source(tmp_path / "two", [[3, 4, 5, 6]]),
    }
    out = tmp_path / "out"
    written = write_dataset(sources, layout, out)
    assert (written.images, written.objects, written.copied) == (4, 2, 0)
    layout_found = recognised(out)
    assert layout_found.name.lower() == layout
    assert list(layout_found.splits) == ["train", "val"]
    paths = [
        path
        for split in written.splits
        for path in contents_of(read(written, layout, split)).images.paths()
    ]
    assert all(path.stat().st_nlink == 2 for path in paths)
    if layout == "voc":  # whose splits share a folder, and both have an a.png
        assert len({path.stem for path in paths}) == 4
        assert "2 images have another name" in " ".join(written.losses)
    else:
        assert [path.stem for path in paths] == ["a", "b", "a", "b"]
        assert not written.losses


def test_what_is_lost_is_told(tmp_path: Path) -> None:
    difficult = torch.tensor([True])
    crowd = source(tmp_path / "images", [[1, 2, 30, 40]], crowd=1, difficult=difficult)
    coco, voc, yolo = (write_dataset({"train": crowd}, name, tmp_path / name) for name in READERS)
    assert coco.losses == ["1 objects have difficult, which becomes a key that COCO does not know."]
    assert voc.losses == ["1 objects are crowds or ignored, which become difficult.", ORDER]
    assert contents_of(read(voc, "voc")).images.objects.attributes["difficult"].tolist() == [True]
    assert contents_of(read(coco, "coco")).images.objects.iscrowd.tolist() == [1]
    assert yolo.objects == 0
    assert yolo.losses[0] == "1 objects are crowds or ignored, and are left out."


def test_boxes_that_a_layout_cannot_hold_are_told(tmp_path: Path) -> None:
    boxes = [[-4, 0, 20, 20], [70, 0, 80, 9], [9, 9, 20, 20], [9, 9, 20, 20], [3, 3, 3.5, 9]]
    odd = source(tmp_path / "images", boxes)
    yolo = write_dataset({"train": odd}, "yolo", tmp_path / "yolo")
    assert boxes_of(read(yolo, "yolo")).round(decimals=3).tolist() == [
        [0, 0, 20, 20],
        [9, 9, 20, 20],
        [3, 3, 3.5, 9],
    ]
    assert [loss[:8] for loss in yolo.losses] == ["1 object"] * 3
    voc = write_dataset({"train": odd}, "voc", tmp_path / "voc")
    assert boxes_of(read(voc, "voc")).tolist() == boxes[:4]
    assert voc.losses == [
        "1 objects have a side of less than a pixel, and are left out.",
        ORDER,
    ]
    assert (
        boxes_of(read(write_dataset({"train": odd}, "coco", tmp_path / "c"), "coco")).tolist()
        == boxes
    )


def test_names_stay_and_folders_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also what looks like an escape, and by way of all layouts; nothing is said of the copy."""
    folder = tmp_path / "images"
    names = ["a%20b%~c.png", "sub dir/a%20b%~c.png", "Über:x.png"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    ones = torch.ones(1, dtype=torch.int64)
    objects = Objects(torch.tensor([[1.0, 1, 90, 9]]), ones, torch.ones(1), 0 * ones)
    table = ImageTable.numbered(folder, names, [1, 0, 0], objects, [(HEIGHT, WIDTH)] * 3)
    contents = Contents("detection", ("ant",), table, torch.zeros(3, dtype=torch.bool))
    kept: list[str] = []
    for layout in READERS:
        caplog.clear()
        written = write_dataset({"train": Source(contents)}, layout, tmp_path / layout)
        assert not caplog.records  # of a box that reaches beyond its image
        if layout == "coco":
            assert "1 images lay in folders of a split" in " ".join(written.losses)
        contents = contents_of(read(written, layout))
        stems = [path.stem for path in contents.images.paths()]
        kept = kept or stems
        assert stems == kept
        assert (stems[0], stems[2]) == ("a%20b%~c", "Über:x")
        assert len(set(stems)) == 3


def test_what_a_recipe_has_to_state_is_told(tmp_path: Path) -> None:
    first = source(tmp_path / "images", [[4, 6, 20, 14]])
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/a.png", exif=exif)
    said = {name: write_dataset({"train": first}, name, tmp_path / name).losses for name in READERS}
    assert [len(losses) for losses in said.values()] == [1, 2, 0]
    assert "state boxes_of: upright" in said["coco"][0]
    assert said["voc"][0] == ORDER


def test_rounding_is_no_clipping(tmp_path: Path) -> None:
    """As shares of six digits give it, which many exporters write."""
    boxes = [[0, 0, WIDTH + 1e-4, 20]]
    yolo = write_dataset({"train": source(tmp_path / "images", boxes)}, "yolo", tmp_path / "yolo")
    assert not yolo.losses


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_follow_pictures_that_are_turned(tmp_path: Path, orientation: int) -> None:
    """The box around a white part of the stored pixels is around it where they are seen."""
    given_ = source(tmp_path / "images", [[4, 6, 20, 14]])
    image = PIL.Image.new("L", (WIDTH, HEIGHT))
    image.paste(255, (4, 6, 20, 14))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "images/a.png", exif=exif)
    (expected,) = [PIL.ImageOps.exif_transpose(PIL.Image.open(tmp_path / "images/a.png")).getbbox()]
    for layout in READERS:
        dataset = read(write_dataset({"train": given_}, layout, tmp_path / layout), layout)
        pixels, target = dataset[0]
        assert target["boxes"].round().tolist() == [list(expected)]
        x1, y1, x2, y2 = expected
        assert pixels[0, y1:y2, x1:x2].min() == 255


def test_generated_images_become_files(tmp_path: Path) -> None:
    shapes = Shapes(count=2, size=32)
    written = write_dataset(
        {"train": Source(contents_of(shapes), shapes)}, "coco", tmp_path / "out"
    )
    dataset = read(written, "coco")
    for (image, target), (expected, truth) in zip(dataset, shapes, strict=False):
        assert torch.equal(image, expected)
        assert torch.equal(target["boxes"], truth["boxes"])


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    bad = source(tmp_path / "images", [[1, 2, 30, 40]])
    (tmp_path / "images/b.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of the 2 images of train cannot be read"):
        write_dataset({"train": bad}, "coco", tmp_path / "out")
    good = source(tmp_path / "images", [[1, 2, 30, 40]])
    with pytest.raises(ValueError, match="YOLO's layout has train, val, test"):
        write_dataset({"all": good}, "yolo", tmp_path / "out")
    padded = Source(
        Contents("detection", ("bee", " ant"), good.contents.images, good.contents.upright)
    )
    with pytest.raises(ValueError, match=r"other classes or images|not among the classes"):
        write_dataset({"train": padded}, "voc", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
