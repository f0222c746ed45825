import json
import re

import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from limbeck.data import COCO

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
    ("annotation", "message"),
    [
        ({"category_id": 5}, r"annotation 1 has category_id 5.*\[3, 90\]"),
        ({"bbox": [1, 2, 3]}, "not enough values"),
    ],
)
def test_bad_annotations_name_the_file(write, annotation, message):
    with pytest.raises(ValueError, match=r"instances\.json: .*" + message):
        COCO(*write(SQUARE | annotation))


def test_a_missing_key_is_named(write):
    with pytest.raises(ValueError, match=r"instances\.json: an entry lacks the key 'bbox'"):
        COCO(*write({"id": 1, "image_id": 7, "category_id": 3}))


def test_other_json_files_are_refused(write, tmp_path):
    folder, file = write(SQUARE)
    file.write_text('{"shapes": []}')
    with pytest.raises(ValueError, match=r"instances\.json holds \['shapes'\]"):
        COCO(folder, file)
    file.write_text("{")
    with pytest.raises(ValueError, match=r"instances\.json: not a JSON file"):
        COCO(folder, file)


def test_missing_files_are_named(write, tmp_path):
    folder, file = write(SQUARE)
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist"):
        COCO(folder, tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        COCO(tmp_path / "none", file)
    (folder / "4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .* the first is 4\.png"):
        COCO(folder, file)


def test_an_image_of_another_size_is_refused(write):
    folder, file = write(SQUARE)
    PIL.Image.new("RGB", (80, 60)).save(folder / "7.png")
    with pytest.raises(ValueError, match=r"7\.png has .*\(60, 80\), .* \(30, 40\)"):
        COCO(folder, file)[0]


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
