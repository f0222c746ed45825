import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.io import savemat

from limbeck.data import WIDERFace
from limbeck.data.widerface import read_annotations, read_lists

TEXT = """0--Parade/a.jpg
4
3 4 10 12 2 0 0 0 0 0
5 6 7 8 0 0 0 1 2 0
20 10 0 9 1 0 1 0 0 1
31 5 20 10 0 0 0 0 0 0 
0--Parade/b.jpg
0
0 0 0 0 0 0 0 0 0 0
9--Press/c.jpg
1
1 2 3 4 0 0 0 0 0 0
"""  # noqa: W291 - the published file has such blanks
IMAGES = ("0--Parade/a.jpg", "0--Parade/b.jpg", "9--Press/c.jpg")
COUNTED = {"easy": [[1], [], [1]], "medium": [[1, 4], [], [1]], "hard": [[1, 3, 4], [], []]}


@pytest.fixture
def root(tmp_path):
    """Three images of 40x30 of two events, annotated in a text file."""
    (tmp_path / "wider_face_split").mkdir()
    annotations(tmp_path).write_text(TEXT)
    for name in IMAGES:
        file = tmp_path / "WIDER_val/images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (40, 30)).save(file)
    return tmp_path


def annotations(root):
    return root / "wider_face_split/wider_face_val_bbx_gt.txt"


def column(items):
    """Items as MATLAB's column of cells."""
    cells = np.empty((len(items), 1), dtype=object)
    for row, item in enumerate(items):
        cells[row, 0] = item
    return cells


def save_matlab(path, faces, counted=None):
    """Faces, and which count, in the form of the published .mat files."""
    events = list(dict.fromkeys(name.split("/")[0] for name in faces))
    tables = {"file_list": [], "face_bbx_list": [], "invalid_label_list": [], "gt_list": []}
    for event in events:
        names = [name for name in faces if name.startswith(f"{event}/")]
        tables["file_list"].append(column([name.split("/")[1][:-4] for name in names]))
        tables["face_bbx_list"].append(column([faces[name][:, :4] for name in names]))
        tables["invalid_label_list"].append(column([faces[name][:, 4:] for name in names]))
        lists = [np.array(counted[name], np.uint8)[:, None] for name in names] if counted else []
        tables["gt_list"].append(column(lists))
    if not counted:
        del tables["gt_list"]
    content = {name: column(cells) for name, cells in tables.items()}
    savemat(path, content | {"event_list": column(events)})


def save_lists(root, **counted):
    _, faces = read_annotations(root / "wider_face_split", "val")
    for setting, lists in (COUNTED | counted).items():
        of_image = dict(zip(faces, lists, strict=True))
        save_matlab(root / f"wider_{setting}_val.mat", faces, of_image)


def names(dataset):
    return [image.path.name for image in dataset.images]


def test_golden_item(root):
    dataset = WIDERFace(root, "val")
    assert dataset.classes == ("face",)
    assert names(dataset) == ["a.jpg", "b.jpg", "c.jpg"]
    image, target = dataset[0]
    assert image.shape == (3, 30, 40)
    boxes = [[3, 4, 13, 16], [5, 6, 12, 14], [20, 10, 20, 19], [31, 5, 51, 15]]
    assert target["boxes"].tolist() == boxes
    assert target["labels"].tolist() == [1, 1, 1, 1]
    assert target["iscrowd"].tolist() == [0, 1, 1, 0]
    assert target["area"].tolist() == [120, 56, 0, 200]
    assert target.keys() == {"boxes", "labels", "image_id", "area", "iscrowd"}
    assert dataset[2][1]["image_id"].item() == 2


def test_an_image_without_faces_keeps_its_row_of_zeros_for_evaluation(root):
    target = WIDERFace(root, "val")[1][1]
    assert target["boxes"].tolist() == [[0, 0, 0, 0]]
    assert target["iscrowd"].tolist() == [1]


def test_training_takes_faces_that_can_be_learnt(root):
    dataset = WIDERFace(root, "val", training=True)
    assert names(dataset) == ["a.jpg", "c.jpg"]
    assert dataset[0][1]["boxes"].tolist() == [[3, 4, 13, 16], [31, 5, 40, 15]]
    kept = WIDERFace(root, "val", training=True, keep_images_without_boxes=True)
    assert [len(image.objects) for image in kept.images] == [2, 0, 1]


def test_matlab_says_the_same_as_the_text(root):
    expected = WIDERFace(root, "val")
    _, faces = read_annotations(root / "wider_face_split", "val")
    annotations(root).unlink()
    save_matlab(root / "wider_face_split/wider_face_val.mat", faces)
    dataset = WIDERFace(root, "val")
    for one, other in zip(dataset.images, expected.images, strict=True):
        assert (one.path, one.image_id) == (other.path, other.image_id)
        assert torch.equal(one.objects.boxes, other.objects.boxes)
        assert torch.equal(one.objects.iscrowd, other.objects.iscrowd)


def test_lists_say_which_faces_count(root):
    save_lists(root)
    dataset = WIDERFace(root, "val", ground_truth=root)
    target = dataset[0][1]
    assert target["easy"].tolist() == [True, False, False, False]
    assert target["medium"].tolist() == [True, False, False, True]
    assert target["hard"].tolist() == [True, False, True, True]
    assert target["hard"].dtype == torch.bool
    assert dataset[1][1]["easy"].tolist() == [False]
    training = WIDERFace(root, "val", ground_truth=root, training=True)
    assert training[0][1]["medium"].tolist() == [True, True]


def test_events_choose_images(root):
    save_lists(root)
    dataset = WIDERFace(root, "val", events=["9--Press"], ground_truth=root)
    assert names(dataset) == ["c.jpg"]
    assert dataset[0][1]["easy"].tolist() == [True]
    with pytest.raises(ValueError, match=r"events has '1--Riot', .*\['0--Parade', '9--Press'\]"):
        WIDERFace(root, "val", events=["9--Press", "1--Riot"])


def test_lists_of_other_faces_are_refused(root):
    save_lists(root, hard=[[5], [], []])
    with pytest.raises(ValueError, match=r"hard_val\.mat counts the faces 5 to 5 of .*a\.jpg; exp"):
        WIDERFace(root, "val", ground_truth=root)
    save_lists(root, hard=[[0, 1], [], []])
    with pytest.raises(ValueError, match=r"counts the faces 0 to 1"):
        WIDERFace(root, "val", ground_truth=root)
    save_lists(root)
    annotations(root).write_text(TEXT.replace("3 4 10 12", "3 4 10 13"))
    with pytest.raises(ValueError, match=r"easy_val\.mat has 4 faces of .*a\.jpg, the annotations"):
        WIDERFace(root, "val", ground_truth=root)
    annotations(root).write_text(TEXT.replace("/c.jpg", "/d.jpg"))
    (root / "WIDER_val/images/9--Press/d.jpg").touch()
    with pytest.raises(ValueError, match=r"easy_val\.mat does not list 9--Press/d\.jpg"):
        WIDERFace(root, "val", ground_truth=root)


def test_lists_that_are_missing_or_damaged_are_named(root):
    with pytest.raises(FileNotFoundError, match=r"wider_easy_val\.mat does not exist; it comes"):
        WIDERFace(root, "val", ground_truth=root)
    (root / "wider_easy_val.mat").write_bytes(b"no matrix")
    with pytest.raises(ValueError, match=r"wider_easy_val\.mat: not a file of WIDER FACE \("):
        WIDERFace(root, "val", ground_truth=root)
    _, faces = read_annotations(root / "wider_face_split", "val")
    save_matlab(root / "wider_easy_val.mat", faces)
    with pytest.raises(ValueError, match=r"\(it has no gt_list, .*\); expected event_list"):
        WIDERFace(root, "val", ground_truth=root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n4\n", "\n3\n", r"line 6: the image '31 5 .*' has '0--Parade/b\.jpg' faces"),
        ("\n4\n", "\n5\n", r"line 1: 0--Parade/a\.jpg has 5 faces, but what .* not 5 lines of the"),
        ("3 4 10 12 ", "3 4 10 ", r"line 1: .*not 4 lines of the 10 integers x y w h blur"),
        ("3 4 10 12 ", "3 4 10 x ", r"line 1: .*not 4 lines of the 10 integers"),
        ("3 4 10 12 ", "3 4 10 99999999999999999999 ", r"line 1: .*not 4 lines of the 10 integers"),
        ("1 2 3 4 0 0 0 0 0 0\n", "", r"line 10: 9--Press/c\.jpg has 1 faces, but"),
        ("/b.jpg", "/a.jpg", r"line 7: 0--Parade/a\.jpg comes twice"),
        ("9--Press/c.jpg\n1\n", "c.jpg\n1\n", r"line 10: the image 'c\.jpg' has '1' faces"),
    ],
)
def test_malformed_annotations_name_the_line(root, old, new, message):
    assert old in TEXT
    annotations(root).write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=rf"bbx_gt\.txt, {message}"):
        WIDERFace(root, "val")


def test_missing_files_are_named(root):
    (root / "WIDER_val/images/9--Press/c.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 images .* first is 9--Press/c\.jpg"):
        WIDERFace(root, "val")
    assert len(WIDERFace(root, "val", events=["0--Parade"])) == 2
    with pytest.raises(
        FileNotFoundError, match=r"test_bbx_gt\.txt does not exist, nor .*'wider_face_v"
    ):
        WIDERFace(root, "test")


def test_the_whole_validation_set(shared):
    root = shared / "data/widerface"
    file, faces = read_annotations(root / "full_annotations", "val")
    assert file.name == "wider_face_val_bbx_gt.txt"
    assert (len(faces), sum(map(len, faces.values()))) == (3226, 39708)
    assert sum(int(rows[:, 4].sum()) for rows in faces.values()) == 585
    lists = read_lists(root / "eval_tools/ground_truth", "val", faces)
    counted = {setting: sum(map(len, rows.values())) for setting, rows in lists.items()}
    assert counted == {"easy": 7211, "medium": 13319, "hard": 31958}


def test_the_whole_validation_set_from_matlab(shared, tmp_path):
    root = shared / "data/widerface"
    shutil.copy(root / "eval_tools/ground_truth/wider_face_val.mat", tmp_path)
    file, faces = read_annotations(tmp_path, "val")
    assert file.name == "wider_face_val.mat"
    _, expected = read_annotations(root / "full_annotations", "val")
    assert list(faces) == list(expected)
    assert all(np.array_equal(faces[name], rows) for name, rows in expected.items())


def test_real_images(shared):
    root = shared / "data/widerface"
    dataset = WIDERFace(root, "val", ground_truth=root / "eval_tools/ground_truth")
    assert sum(len(image.objects) for image in dataset.images) == 472
    for index in range(len(dataset)):
        image, target = dataset[index]
        height, width = image.shape[-2:]
        assert dataset.image_size(index) == (height, width)
        assert (target["boxes"][:, 2:] <= torch.tensor([width, height])).all()
        assert not (target["easy"] & ~target["medium"]).any()
        assert not (target["medium"] & ~target["hard"]).any()
    training = WIDERFace(root, "val", training=True, events=["0--Parade", "12--Group"])
    assert [len(training[index][1]["labels"]) for index in range(2)] == [18, 309]  # one is invalid


def test_companion_files_that_are_listed_are_left_out_and_counted(root, caplog):
    listed = "0--Parade/._a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"
    annotations(root).write_text(TEXT + listed)
    dataset = WIDERFace(root, "val")
    assert [image.path.name for image in dataset.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert "left out 1 files or folders that are hidden" in caplog.text


def test_text_in_another_encoding_is_refused(root):
    annotations(root).write_bytes("0--Parade/café.jpg".encode("latin-1"))
    with pytest.raises(ValueError, match=r"_bbx_gt\.txt is no text in UTF-8: byte 13 is 0xe9"):
        WIDERFace(root, "val")
