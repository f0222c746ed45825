import json
import re

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from limbeck.data import COCO
from limbeck.data.base import BadSampleError

SQUARE = {
    "id": 1,
    "image_id": 7,
    "category_id": 3,
    "bbox": [10, 5, 20, 8],
    "area": 99.5,
    "iscrowd": 0,
}


@pytest.fixture
def write(tmp_path):
    """Writes two images of 40x30 with the given annotations; gives the arguments of COCO."""

    def _write(*annotations, **overrides):
        images = []
        for image_id in (7, 4):
            PIL.Image.new("RGB", (40, 30)).save(tmp_path / f"{image_id}.png")
            images.append(
                {"id": image_id, "file_name": f"{image_id}.png", "height": 30, "width": 40}
            )
        content = {
            "images": images,
            "annotations": list(annotations),
            "categories": [{"id": 90, "name": "tie"}, {"id": 3, "name": "cat"}],
        }
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(content | overrides))
        return tmp_path, file

    return _write


def test_annotations_of_images_that_are_not_listed_are_left_out_and_counted(write, caplog):
    leftover = SQUARE | {"image_id": 8}
    dataset = COCO(*write(SQUARE, leftover | {"id": 2}, leftover | {"id": 3}))
    assert [len(image.objects) for image in dataset.images] == [1, 0]
    assert "2 annotations are of images that it does not list, such as image_id 8" in caplog.text


def test_golden_item(write):
    crowd = SQUARE | {"id": 2, "category_id": 90, "iscrowd": 1, "bbox": [0, 0, 40, 30.5]}
    dataset = COCO(*write(SQUARE, crowd))
    assert dataset.task == "detection"
    assert dataset.classes == ("cat", "tie")
    assert dataset.category_ids == (3, 90)
    image, target = dataset[0]
    assert image.shape == (3, 30, 40)
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (30, 40)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[10, 5, 30, 13], [0, 0, 40, 30.5]]
    assert target["labels"].tolist() == [1, 2]
    assert target["area"].tolist() == [99.5, 99.5]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["image_id"].item() == 7
    assert set(target) == {"boxes", "labels", "area", "iscrowd", "image_id"}


@pytest.mark.parametrize(
    "flaw", [{"iscrowd": 1}, {"bbox": [1, 1, 0.5, 9]}, {"bbox": [1, 1, 9, 0.5]}, {"area": 0}]
)
def test_training_leaves_out_what_cannot_be_learnt(write, flaw):
    arguments = write(SQUARE, SQUARE | flaw | {"id": 2}, SQUARE | flaw | {"id": 3, "image_id": 4})
    assert [len(COCO(*arguments)[i][1]["labels"]) for i in range(2)] == [2, 1]
    training = COCO(*arguments, training=True)
    assert len(training) == 1
    assert training[0][1]["boxes"].tolist() == [[10, 5, 30, 13]]


def test_objects_whose_area_is_stated_as_none_are_told_of(write, caplog):
    arguments = write(SQUARE, SQUARE | {"id": 2, "area": 0}, SQUARE | {"id": 3, "area": 0})
    COCO(*arguments)
    assert not caplog.messages
    assert len(COCO(*arguments, training=True)[0][1]["labels"]) == 1
    assert "2 objects with a box have an area of 0 or less, and are left out" in caplog.text


def test_an_area_of_null_is_missing(write):
    target = COCO(*write(SQUARE | {"area": None}))[0][1]
    assert target["area"].tolist() == [160]


def test_images_without_boxes(write):
    arguments = write(SQUARE)
    assert len(COCO(*arguments)) == 2
    kept = COCO(*arguments, training=True, keep_images_without_boxes=True)
    target = kept[1][1]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64


def test_optional_keys(write):
    dataset = COCO(*write({k: v for k, v in SQUARE.items() if k not in ("area", "iscrowd")}))
    assert dataset[0][1]["area"].tolist() == [160]
    assert dataset[0][1]["iscrowd"].tolist() == [0]


def test_a_changed_target_leaves_the_dataset_alone(write):
    dataset = COCO(*write(SQUARE))
    for value in dataset[0][1].values():
        value.zero_()
    assert dataset[0][1]["boxes"].tolist() == [[10, 5, 30, 13]]
    assert dataset[0][1]["labels"].tolist() == [1]


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"category_id": 5}, r"category_id 5, which is not among .* categories, \[3, 90\]"),
        ({"category_id": "3"}, r"category_id '3', which is not among"),
        ({"category_id": [3]}, r"category_id \[3\], which is not among"),
        ({"image_id": None}, "image_id None"),
        (
            {"bbox": [1, 2, 3]},
            r"bbox \[1, 2, 3\], expected four finite numbers: x, y, width, height",
        ),
        ({"bbox": [1, 2, 3, "4"]}, r"bbox \[1, 2, 3, '4'\], expected four"),
        ({"bbox": [1, 2, 3, float("nan")]}, r"bbox \[1, 2, 3, nan\], expected four finite"),
        ({"bbox": [float("inf"), 2, 3, 4]}, r"bbox \[inf, 2, 3, 4\], expected four finite"),
        ({"bbox": [10**400, 2, 3, 4]}, r"bbox \[10+\.+0+, 2, 3, 4\], expected four finite"),
        ({"bbox": None}, "bbox None, expected four"),
        (
            {"bbox": [9, 9, -3, 4]},
            r"bbox \[9, 9, -3, 4\], expected a width and height of at least 0",
        ),
        ({"area": "9"}, "area '9', expected a finite number"),
        ({"iscrowd": "no"}, "iscrowd 'no', expected 0 or 1"),
    ],
)
def test_bad_annotations_are_named(write, flaw, message):
    good, bad = SQUARE | {"id": 12}, SQUARE | flaw | {"id": 13}
    for training in (False, True):
        with pytest.raises(
            ValueError,
            match=rf"instances\.json: annotations\[1\] \(id 13\) has the {message}.*Correct",
        ):
            COCO(*write(good, bad), training=training)


def test_a_bad_annotation_is_named_wherever_it_stands(write):
    many = [SQUARE | {"id": number} for number in range(1000)]
    for number in (0, 255, 256, 999):
        flawed = [*many[:number], many[number] | {"category_id": 5}, *many[number + 1 :]]
        with pytest.raises(
            ValueError, match=rf"annotations\[{number}\] \(id {number}\) has the cat"
        ):
            COCO(*write(*flawed))


def test_lists_and_keys_may_stand_in_any_order(write):
    folder, file = write(SQUARE, SQUARE | {"image_id": 4}, SQUARE | {"category_id": 90})
    expected = [COCO(folder, file)[index][1] for index in range(2)]
    content = json.loads(file.read_text())
    for lists in (content, dict(reversed(content.items()))):
        entries = [dict(reversed(entry.items())) for entry in lists["annotations"]]
        file.write_text(json.dumps(lists | {"annotations": entries, "info": [1, {}]}, indent=2))
        for target, found in zip(expected, COCO(folder, file), strict=True):
            assert all(torch.equal(target[key], found[1][key]) for key in target)


def test_numbers_may_be_written_in_any_way(write):
    odd = SQUARE | {"bbox": [10.0, 5, 2e1, 8.0], "area": 99, "iscrowd": True}
    for annotation in (odd, odd | {"iscrowd": 1.0}):
        target = COCO(*write(SQUARE, annotation))[0][1]
        assert target["boxes"].tolist() == [[10, 5, 30, 13]] * 2
        assert target["area"].tolist() == [99.5, 99]
        assert target["iscrowd"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "outline",
    [[[10.5, 5, 30, 5, 30, 13]], [], {"counts": [4, 2], "size": [2, 3]}, {"counts": 'a]"['}, "x"],
)
def test_outlines_are_of_no_matter(write, outline):
    dataset = COCO(*write({"segmentation": outline} | SQUARE, SQUARE | {"segmentation": outline}))
    assert dataset[0][1]["boxes"].tolist() == [[10, 5, 30, 13]] * 2


def test_an_outline_that_is_no_json_is_told_with_its_place(write):
    folder, file = write(SQUARE | {"segmentation": [[1, 2]]}, SQUARE | {"segmentation": [[3, 4]]})
    text = file.read_text().replace("[[3, 4]]", "[[3, , 4]]")
    file.write_text(text)
    place = text.index(", , 4") + 2
    with pytest.raises(ValueError, match=rf"not a JSON file \(.*\(char {place}\)\).*correct it"):
        COCO(folder, file)


def test_an_id_beyond_64_bits_is_none(write):
    for key in ("image_id", "category_id"):
        with pytest.raises(ValueError, match=rf"annotations\[0\] \(id 1\) has the {key} 1180.*"):
            COCO(*write(SQUARE | {key: 2**70}))


IMAGE = {"id": 7, "file_name": "7.png", "height": 30, "width": 40}
CAT = {"id": 3, "name": "cat"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"images": [IMAGE, IMAGE]}, r"images\[1\] has the id 7, which another one has"),
        ({"images": [IMAGE | {"id": "7"}]}, r"images\[0\] has the id '7', expected an integer"),
        (
            {"images": [IMAGE | {"id": 2**70}]},
            r"images\[0\] has the id 1180.*, expected an integer",
        ),
        ({"images": [[]]}, r"images\[0\] is \[\], expected an object"),
        ({"images": [IMAGE | {"height": 0}]}, r"image 7 has height and width \(0, 40\), expected"),
        ({"images": [IMAGE | {"width": "40"}]}, r"image 7 has height and width \(30, '40'\)"),
        ({"images": [IMAGE | {"file_name": None}]}, "image 7 has the file_name None"),
        ({"images": [{"id": 7}]}, r"the image 7 lacks the key 'file_name', it has \['id'\]"),
        ({"images": {}}, "expected the lists .*'images' is none"),
        ({"images": []}, "lists no image; expected at least one"),
        ({"categories": [CAT, CAT]}, r"categories\[1\] has the id 3, which another one has"),
        (
            {"categories": [CAT, CAT | {"id": 4}]},
            r"has several classes of the name cat; expected a name of its own for each\. Rename",
        ),
        ({"categories": [{"id": 3}]}, "category 3 lacks the key 'name'"),
        ({"categories": [CAT | {"name": 3}]}, "category 3 has the name 3, expected a text"),
        ({"categories": []}, "has no classes; expected one at least"),
    ],
)
def test_bad_images_and_categories_are_named(write, overrides, message):
    with pytest.raises(ValueError, match=r"instances\.json.*" + message):
        COCO(*write(**overrides))


def test_a_missing_key_is_named(write):
    with pytest.raises(ValueError, match=r"annotations\[0\] \(id 1\) lacks the key 'bbox', it has"):
        COCO(*write({"id": 1, "image_id": 7, "category_id": 3}))
    with pytest.raises(ValueError, match=r"annotations\[0\] is 5, expected an object"):
        COCO(*write(5))


def test_nothing_to_learn_from_is_refused(write):
    arguments = write(SQUARE | {"iscrowd": 1})
    assert len(COCO(*arguments)) == 2
    with pytest.raises(ValueError, match=r"instances\.json: none of the 2 images .*to learn from"):
        COCO(*arguments, training=True)


def test_boxes_are_clipped_for_training_and_counted(write, caplog):
    boxes = ([-0.5, 5, 20, 8], [30, 5, 20, 8], [10, -5, 20, 100], [45, 5, 20, 8])
    arguments = write(*(SQUARE | {"id": i, "bbox": box} for i, box in enumerate(boxes)))
    evaluated = COCO(*arguments)[0][1]
    assert evaluated["boxes"].tolist() == [[x, y, x + w, y + h] for x, y, w, h in boxes]
    assert "3 boxes reach beyond their images, 1 of them lie outside altogether" in caplog.text
    target = COCO(*arguments, training=True)[0][1]
    assert target["boxes"].tolist() == [[0, 5, 19.5, 13], [30, 5, 40, 13], [10, 0, 30, 30]]
    assert target["area"].tolist() == [99.5, 80, 99.5]  # never more than the box's


def test_other_json_files_are_refused(write):
    folder, file = write(SQUARE)
    for content, message in (
        (b'{"shapes": []}', r"holds \['shapes'\], expected the lists .* 'images' is none"),
        (b"[]", "holds a list, expected an object"),
        (b"", "not a JSON file .*line 1 column 1"),
        (file.read_bytes()[:99], "not a JSON file .*line 1 column"),
        ('{"images": "ä"}'.encode("latin-1"), "not a JSON file .*can't decode byte 0xe4.*UTF-8"),
        (b"[" * 100_000, "not a JSON file .*recursion"),
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"instances\.json:? " + message):
            COCO(folder, file)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=200, derandomize=True)
@given(data=st.data())
def test_whatever_an_entry_holds_the_file_is_named(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "anything"
    folder.mkdir(exist_ok=True)
    (folder / "7.png").touch()
    content = {"images": [IMAGE], "annotations": [SQUARE], "categories": [CAT]}
    kind = data.draw(st.sampled_from(sorted(content)))
    key = data.draw(st.sampled_from(sorted(content[kind][0])))
    content[kind] = [content[kind][0] | {key: data.draw(VALUES)}]
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    try:
        assert len(COCO(folder, file)) == 1
    except (ValueError, OSError) as error:
        assert str(file) in str(error)  # noqa: PT017 - some are fine


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_file_holds_it_is_named(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "anything.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"anything\.json"):
        COCO(file.parent, file)


def test_missing_files_are_named(write, tmp_path):
    folder, file = write(SQUARE)
    with pytest.raises(FileNotFoundError, match=r"none\.json is not a file"):
        COCO(folder, tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        COCO(tmp_path / "none", file)
    with pytest.raises(FileNotFoundError, match=r"for XML files, .* use limbeck\.data\.VOC"):
        COCO(folder, tmp_path)
    (folder / "4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .* the first is 4\.png"):
        COCO(folder, file)


def test_an_image_of_another_size_is_refused(write):
    folder, file = write(SQUARE)
    for size, found in (((80, 60), r"\(60, 80\)"), ((30, 40), r"\(40, 30\)")):
        PIL.Image.new("RGB", size).save(folder / "7.png")
        with pytest.raises(BadSampleError, match=rf"7\.png has .*{found}, .* \(30, 40\)"):
            COCO(folder, file)[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_where_it_was_annotated_so(write, orientation):
    folder, file = write(SQUARE)  # 40 wide, 30 high
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = PIL.Image.fromarray(np.arange(1200, dtype=np.uint16).astype(np.uint8).reshape(30, 40))
    stored.save(folder / "7.png", exif=exif)
    image = COCO(folder, file)[0][0]  # annotated as it is stored
    assert image[0].tolist() == np.asarray(stored).tolist()

    stored.transpose(PIL.Image.Transpose.ROTATE_90).save(folder / "7.png", exif=exif)
    if orientation < 5:
        with pytest.raises(BadSampleError, match="its boxes do not fit"):
            COCO(folder, file)[0]
        return
    image, target = COCO(folder, file)[0]  # annotated upright
    assert image.shape == (3, 30, 40)
    assert target["boxes"].canvas_size == (30, 40)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(folder / "7.png"))
    assert image[0].tolist() == np.asarray(upright).tolist()


@pytest.mark.parametrize(
    ("split", "images", "boxes", "crowds"), [("train", 160, 1444, 14), ("val", 80, 815, 11)]
)
def test_real_data(shared, split, images, boxes, crowds):
    folder = shared / "data/coco"
    arguments = folder / split, folder / f"annotations/instances_{split}.json"
    evaluation, training = COCO(*arguments), COCO(*arguments, training=True)
    assert len(evaluation.classes) == 80
    assert (evaluation.classes[0], evaluation.classes[-1]) == ("person", "toothbrush")
    assert evaluation.category_ids[11] == 13  # 12 is one of the gaps
    assert len(evaluation) == images
    assert sum(len(one.objects) for one in evaluation.images) == boxes
    assert sum(int(one.objects.iscrowd.sum()) for one in evaluation.images) == crowds
    assert sum(len(one.objects) for one in training.images) == boxes - crowds
    image, target = evaluation[0]
    assert tuple(image.shape[-2:]) == evaluation.image_size(0)
    entries = json.loads(arguments[1].read_bytes())["annotations"]
    first = [e["area"] for e in entries if e["image_id"] == target["image_id"].item()]
    assert target["area"].tolist() == pytest.approx(first)
    assert re.fullmatch(r"\d{12}\.jpg", evaluation.images[0].path.name)


def test_companion_files_that_are_listed_are_left_out_and_counted(write, caplog):
    folder, file = write(SQUARE)
    content = json.loads(file.read_text())
    for id_, name in ((8, "._7.png"), (9, "__MACOSX/7.png"), (10, "../._x/7.png")):
        content["images"].append({"id": id_, "file_name": name, "height": 30, "width": 40})
    file.write_text(json.dumps(content))
    dataset = COCO(folder, file)
    assert [image.path.name for image in dataset.images] == ["7.png", "4.png"]
    assert "instances.json: left out 3 files or folders that are hidden" in caplog.text


def test_a_folder_of_images_may_itself_be_hidden(write, tmp_path):
    folder, file = write(SQUARE)
    hidden = tmp_path / ".cache" / "images"
    hidden.mkdir(parents=True)
    for path in folder.glob("*.png"):
        path.rename(hidden / path.name)
    assert len(COCO(hidden, file)) == 2
