import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.npyio import NpzFile
from torch import Tensor

from limbeck.metrics import WIDERFaceAveragePrecision
from tests.metrics.boxes import found, truth
from tests.metrics.plain_widerface import SETTINGS, plain_curve, read_faces

FACE = [10.0, 10.0, 30.0, 30.0]
FAR = [50.0, 50.0, 60.0, 60.0]


@pytest.fixture(scope="module")
def golden(shared) -> NpzFile:
    return np.load(shared / "golden/fgfi/widerface_ap.npz")


@pytest.fixture(scope="module")
def faces(shared) -> list[dict[str, Tensor]]:
    return read_faces(shared / "data/widerface/eval_tools/ground_truth")


def corners(xywh: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))


def golden_images(golden: NpzFile) -> list[tuple]:
    images = []
    for event, count in enumerate(golden["images_per_event"]):
        for number in range(count):
            gt, pred = (
                rows[(rows[:, 0] == event) & (rows[:, 1] == number)]
                for rows in (golden["gt"], golden["pred"])
            )
            marks = {s: torch.from_numpy(gt[:, 6 + i]).bool() for i, s in enumerate(SETTINGS)}
            ones = (torch.ones(len(rows), dtype=torch.long) for rows in (pred, gt))
            prediction = {"boxes": corners(pred[:, 2:6]), "scores": torch.from_numpy(pred[:, 6])}
            target = {"boxes": corners(gt[:, 2:6]), **marks}
            sides = zip((prediction, target), ones, strict=True)
            images.append(tuple({**side, "labels": labels} for side, labels in sides))
    return images


def measured(images: list[tuple]) -> WIDERFaceAveragePrecision:
    metric = WIDERFaceAveragePrecision()
    for prediction, target in images:
        metric.update([prediction], [target])
    return metric


def test_average_precision_is_the_programs(golden):
    scores = measured(golden_images(golden)).compute()
    expected = golden["ap_easy_medium_hard"]
    np.testing.assert_allclose([scores[f"AP/{s}"] for s in SETTINGS], expected, rtol=1e-6)
    np.testing.assert_allclose(scores["AP"], expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_curves_are_the_programs(golden, setting):
    recall, precision = measured(golden_images(golden)).curves()[setting]
    np.testing.assert_allclose(recall, golden[f"recall.{setting}"], rtol=1e-6)
    np.testing.assert_allclose(precision, golden[f"precision.{setting}"], rtol=1e-6)


def assert_plain(images: list[tuple]) -> None:
    for setting, (recall, precision) in measured(images).curves().items():
        plain_recall, plain_precision = plain_curve(images, setting)
        np.testing.assert_allclose(recall, plain_recall, rtol=1e-12)
        np.testing.assert_allclose(precision, plain_precision, rtol=1e-12)


def near(target: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """So many boxes around faces, by up to half of their size; scores that are often equal."""
    boxes = target["boxes"][torch.randint(len(target["boxes"]), (count,))]
    sizes = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return {
        "boxes": boxes + (0.5 * (torch.rand(count, 4) - 0.5) * sizes).round(),
        "labels": torch.ones(count, dtype=torch.long),
        "scores": torch.randint(0, 100, (count,)) / 64,
    }


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_plain_loops_agree_on_anything(seed):
    torch.manual_seed(seed)
    images = []
    for _ in range(6):
        count = int(torch.randint(1, 6, ()))
        corner = torch.randint(0, 60, (count, 2)).float()
        target = {
            "boxes": torch.cat([corner, corner + torch.randint(0, 40, (count, 2))], dim=1),
            "labels": torch.ones(count, dtype=torch.long),
            **{setting: torch.rand(count) < 0.7 for setting in SETTINGS},
        }
        target["easy"][0] = target["medium"][0] = target["hard"][0] = True  # counted somewhere
        images.append((near(target, int(torch.randint(0, 15, ()))), target))
    images.append((found(FACE, scores=[0.7]), counted(truth())))
    images.append((found(FACE, scores=[2.0]), counted(truth(FACE))))
    assert_plain(images)


def test_the_plain_loops_agree_on_the_validation_set(faces):
    images = [(near(target, 40), target) for target in faces[::40]]
    assert_plain(images)


def test_a_perfect_detector_finds_the_whole_validation_set(faces):
    assert sum(len(target["labels"]) for target in faces) == 39_708
    assert [sum(int(t[s].sum()) for t in faces) for s in SETTINGS] == [7211, 13319, 31958]
    scored = [{**target, "scores": torch.rand(len(target["labels"]))} for target in faces]
    scores = measured(list(zip(scored, faces, strict=True))).compute()
    assert all(score > 0.999 for score in scores.values())  # a few faces are annotated twice


def counted(target: dict[str, Tensor], **marks: list[bool]) -> dict[str, Tensor]:
    """Every face counts, unless it says otherwise."""
    every = [True] * len(target["labels"])
    return {**target, **{s: torch.tensor(marks.get(s, every)).bool() for s in SETTINGS}}


def test_perfect_and_empty_detectors():
    target = counted(truth(FACE, FAR))
    perfect = measured([(found(FACE, FAR, scores=[0.5, 0.25]), target)]).compute()
    assert perfect == {"AP": 1, "AP/easy": 1, "AP/medium": 1, "AP/hard": 1}
    empty = measured([(found(scores=[]), target)]).compute()
    assert empty == {"AP": 0, "AP/easy": 0, "AP/medium": 0, "AP/hard": 0}


def test_equal_scores_are_one_threshold():
    target = counted(truth(FACE, FAR))
    scores = measured([(found(FACE, [0, 0, 5, 5], scores=[0.5, 0.5]), target)]).compute()
    assert scores["AP"] == pytest.approx(0.25)  # half of the faces, half of the boxes right


def test_a_box_on_a_face_that_is_not_counted_is_neither_right_nor_wrong():
    target = counted(truth(FACE, FAR), easy=[True, False])
    scores = measured([(found(FAR, FACE, scores=[0.9, 0.5]), target)]).compute()
    assert scores["AP/easy"] == scores["AP/hard"] == 1


def test_a_second_box_on_a_face_is_wrong():
    target = counted(truth(FACE, FAR))
    scores = measured([(found(FACE, FACE, FAR, scores=[0.9, 0.6, 0.3]), target)]).compute()
    assert scores["AP"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_boxes_in_images_without_faces_are_not_counted():
    images = [
        (found(FACE, scores=[0.5]), counted(truth(FACE))),
        (found(FACE, FAR, scores=[0.9, 0.1]), counted(truth())),
    ]
    assert measured(images).compute()["AP"] == 1


def test_an_overlap_of_half_with_widths_plus_1_is_enough():
    target = counted(truth([0, 0, 9, 9]))  # 100 pixels
    assert measured([(found([0, 0, 9, 4], scores=[1]), target)]).compute()["AP"] == 1
    assert measured([(found([0, 0, 9, 3.99], scores=[1]), target)]).compute()["AP"] == 0


def test_where_no_face_is_counted_the_score_is_undefined():
    target = counted(truth(FACE), easy=[False])
    scores = measured([(found(FACE, scores=[0.5]), target)]).compute()
    assert scores["AP/easy"].isnan()
    assert scores["AP"].isnan()
    assert scores["AP/medium"] == 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_any_image_scores_are_undefined():
    assert all(score.isnan() for score in WIDERFaceAveragePrecision().compute().values())


def test_order_of_images_and_boxes_does_not_matter(golden):
    shuffled = []
    images = golden_images(golden)
    for number in torch.randperm(len(images)).tolist():
        prediction, target = images[number]
        order = torch.randperm(len(prediction["scores"]))
        shuffled.append(({key: value[order] for key, value in prediction.items()}, target))
    assert measured(shuffled).compute() == measured(images).compute()


def test_scores_do_not_depend_on_their_scale(golden):
    images = golden_images(golden)
    scaled = [({**found, "scores": 8 * found["scores"] - 4}, truth) for found, truth in images]
    assert measured(scaled).compute() == measured(images).compute()


def test_predictions_of_the_unused_slot_0_do_not_count():
    prediction = found(FAR, FACE, FACE, scores=[9.0, 0.9, 0.5], labels=[0, 0, 1])
    assert measured([(prediction, counted(truth(FACE)))]).compute()["AP"] == 1


def test_faces_without_settings_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"targets\[0\] has no 'easy'.*`ground_truth`.*_val\.mat"):
        measured([(found(FACE, scores=[0.5]), truth(FACE))])


def test_more_than_one_class_is_refused():
    with pytest.raises(ValueError, match=r"classes is \['face', 'person'\]; expected one"):
        WIDERFaceAveragePrecision(["face", "person"])
