import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.npyio import NpzFile
from torch import Tensor

from limbeck.metrics import KITTIAveragePrecision
from limbeck.metrics.kitti import recall_thresholds
from tests.metrics.boxes import found, truth
from tests.metrics.plain_kitti import LEVELS, plain_curve, thinned

CLASSES = ("Car", "Pedestrian", "Cyclist")
NEIGHBOURS = {"Van": "Car", "Person_sitting": "Pedestrian"}
NEEDED = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}


@pytest.fixture(scope="module")
def golden(shared) -> NpzFile:
    return np.load(shared / "golden/fgfi/kitti_ap.npz")


def target_of(objects: np.ndarray, type_names: list[str]) -> dict[str, Tensor]:
    """One image's rows (type, truncation, occlusion, box), as the dataset gives them."""
    rows = []
    for kind, *rest in objects:
        name = type_names[int(kind)]
        if name == "DontCare":
            rows += [[label, 1, *rest] for label in (1, 2, 3)]
        elif name in CLASSES or name in NEIGHBOURS:
            label = CLASSES.index(NEIGHBOURS.get(name, name)) + 1
            rows.append([label, int(name in NEIGHBOURS), *rest])
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 8)
    return {
        "labels": columns[:, 0].long(),
        "iscrowd": columns[:, 1].long(),
        "truncation": columns[:, 2].float(),
        "occlusion": columns[:, 3].long(),
        "boxes": columns[:, 4:].float(),
    }


def golden_images(golden: NpzFile, objects: str, boxes: str) -> list[tuple]:
    images = []
    for number in range(int(golden[f"{objects}.num_images"])):
        gt, det = (
            rows[rows[:, 0] == number, 1:]
            for rows in (golden[f"{objects}.gt"], golden[f"{boxes}.det"])
        )
        prediction = {
            "labels": torch.from_numpy(det[:, 0]).long() + 1,
            "boxes": torch.from_numpy(det[:, 1:5]),
            "scores": torch.from_numpy(det[:, 5]),
        }
        images.append((prediction, target_of(gt, golden["type_names"].tolist())))
    return images


def measured(images: list[tuple], **options: object) -> KITTIAveragePrecision:
    metric = KITTIAveragePrecision(CLASSES, **options)
    for prediction, target in images:
        metric.update([prediction], [target])
    return metric


@pytest.mark.parametrize(
    ("objects", "boxes"), [("main", "main"), ("sparse", "sparse"), ("main", "perfect")]
)
def test_average_precision_is_the_program_of_2012s(golden, objects, boxes):
    metric = measured(golden_images(golden, objects, boxes), rules="2012")
    expected = np.nan_to_num(golden[f"{boxes}.ap"]).ravel()  # NaN: no file, as no box was found
    curves, scores = metric.curves(), metric.compute()
    np.testing.assert_allclose(
        np.stack(list(curves.values())),
        np.nan_to_num(golden[f"{boxes}.precision41"]).reshape(9, 41),
        atol=2e-6,
    )
    names = [f"AP/{name}/{level}" for name in CLASSES for level in LEVELS]
    np.testing.assert_allclose([scores[name] for name in names], expected, atol=2e-6)
    np.testing.assert_allclose(scores["mAP"], expected.mean(), atol=2e-6)


def assert_plain(images: list[tuple], **options: object) -> None:
    metric = measured(images, **options)
    curves = metric.curves()
    for label, name in enumerate(CLASSES, 1):
        for level in LEVELS:
            today = metric.rules == "today"
            plain = plain_curve(images, label, level, NEEDED[name], today)
            np.testing.assert_allclose(
                curves[f"{name}/{level}"], plain, rtol=1e-12, err_msg=f"{name}/{level}"
            )


@pytest.mark.parametrize("rules", ["today", "2012"])
def test_the_plain_loops_agree_on_the_programs_data(golden, rules):
    assert_plain(golden_images(golden, "main", "main")[:120], rules=rules)


def drawn_image(generator: np.random.Generator) -> tuple:
    """Few, crowded boxes on a coarse grid, so that heights, overlaps and scores are often equal."""
    objects = generator.integers(0, 7)
    corners = generator.integers(0, 6, (objects, 2)) * 10
    sizes = generator.choice([20, 24, 25, 26, 30, 39, 40, 41, 50], (objects, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    occlusion = generator.choice([-1, 0, 0, 0, 1, 2, 3], objects)
    target = {
        "boxes": torch.from_numpy(boxes).float(),
        "labels": torch.from_numpy(generator.integers(1, 3, objects)),
        "iscrowd": torch.from_numpy((generator.random(objects) < 0.2) | (occlusion < 0)).long(),
        "truncation": torch.from_numpy(generator.choice([0, 0, 0.15, 0.3, 0.31, 0.6], objects)),
        "occlusion": torch.from_numpy(occlusion),
    }
    count = generator.integers(0, 12) if objects else 3
    near = generator.integers(0, max(objects, 1), count)
    moved = generator.choice([0, 0, 0, -5, 5, 1, -1], (count, 4))
    boxes = boxes[near] + moved if objects else np.tile([0, 0, 30, 45], (count, 1)) + abs(moved)
    prediction = {
        "boxes": torch.from_numpy(boxes).float(),
        "labels": torch.from_numpy(generator.choice([1, 1, 2], count)),
        "scores": torch.from_numpy(generator.integers(0, 8, count) / 8),
    }
    return prediction, target


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), rules=st.sampled_from(["today", "2012"]))
def test_the_plain_loops_agree_on_anything(seed, rules):
    generator = np.random.default_rng(seed)
    assert_plain([drawn_image(generator) for _ in range(8)], rules=rules)


@given(st.lists(st.integers(0, 20), max_size=120), st.integers(0, 50))
def test_thresholds_are_those_of_the_plain_loop(scores, missed):
    scores = [score / 32 for score in scores]
    positives = len(scores) + missed
    kept = recall_thresholds(torch.tensor(scores, dtype=torch.float64), positives)
    assert kept.tolist() == thinned(scores, positives)
    assert len(kept) <= 41


def many_cars(count: int = 60) -> dict[str, Tensor]:
    """An image each, apart, so that thresholds suffice."""
    corners = torch.arange(count)[:, None] * torch.tensor([100.0, 0.0])
    boxes = torch.cat([corners, corners + 50], dim=1)
    return {"boxes": boxes, "labels": torch.ones(count, dtype=torch.long)}


def car_score(prediction: dict, target: dict, level: str = "easy", **options: object) -> float:
    metric = measured([(prediction, target)], **options)
    return metric.compute()[f"AP/Car/{level}"].item()


@pytest.mark.parametrize("points", [11, 40])
def test_a_perfect_detector_has_1(points):
    cars = many_cars()
    perfect = {**cars, "scores": torch.rand(60)}
    assert car_score(perfect, cars, points=points) == 1  # optional fields are absent


def test_a_perfect_detector_of_few_objects_runs_out_of_thresholds():
    few = many_cars(20)
    perfect = {**few, "scores": torch.rand(20)}
    assert car_score(perfect, few) == pytest.approx(19 / 40)  # thresholds 0 to 19 of 41
    assert car_score(perfect, few, rules="2012") == pytest.approx(5 / 11)


def test_without_boxes_or_counted_objects_the_score_is_0():
    cars = many_cars()
    assert car_score(found(scores=[]), cars) == 0
    assert car_score({**cars, "scores": torch.rand(60)}, truth()) == 0
    ignored = {**cars, "truncation": torch.full((60,), 0.16)}
    assert car_score({**cars, "scores": torch.rand(60)}, ignored) == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_any_image_scores_are_0():
    scores = KITTIAveragePrecision(CLASSES).compute()
    assert len(scores) == 10
    assert not any(scores.values())


def test_order_of_images_and_boxes_does_not_matter(golden):
    images = golden_images(golden, "main", "main")[:100]
    for prediction, _ in images:  # no two alike
        prediction["scores"] = torch.rand(len(prediction["scores"]))
    shuffled = []
    for number in torch.randperm(len(images)).tolist():
        prediction, target = images[number]
        order = torch.randperm(len(prediction["scores"]))
        shuffled.append(({key: value[order] for key, value in prediction.items()}, target))
    assert measured(shuffled).compute() == measured(images).compute()


def test_low_boxes_are_wrong_in_2012_and_not_counted_today():
    cars = many_cars()
    low = torch.cat([cars["boxes"][:, :2], cars["boxes"][:, :2] + 39], dim=1)
    low[:, 1::2] += 100  # below every car
    prediction = {
        "boxes": torch.cat([cars["boxes"], low]),
        "labels": torch.ones(120, dtype=torch.long),
        "scores": torch.cat([torch.linspace(0.1, 0.5, 60), torch.linspace(0.6, 0.9, 60)]),
    }
    assert car_score(prediction, cars) == 1
    assert car_score(prediction, cars, rules="2012") == pytest.approx(0.5)
    assert car_score(prediction, cars, "moderate") == pytest.approx(0.5)  # 39 px are enough


def test_low_boxes_of_other_classes_hide_thresholds_today():
    cars = many_cars()
    low = cars["boxes"].clone()
    low[:, 3] -= 11  # 39 px, IoU 0.78
    prediction = {
        "boxes": torch.cat([cars["boxes"], low]),
        "labels": torch.cat([torch.ones(60), torch.full((60,), 2.0)]).long(),
        "scores": torch.cat([torch.full((60,), 0.5), torch.full((60,), 0.9)]),
    }
    assert car_score(prediction, cars) == 0
    assert car_score(prediction, cars, rules="2012") == 1


def test_neighbours_and_regions_excuse_boxes():
    cars = many_cars()
    beside = cars["boxes"] + torch.tensor([0.0, 100.0, 0.0, 100.0])
    prediction = {
        "boxes": torch.cat([cars["boxes"], beside]),
        "labels": torch.ones(120, dtype=torch.long),
        "scores": torch.rand(120),
    }
    region = torch.tensor([[0.0, 100.0, 6000.0, 136.0]])  # 72 % of each box
    vans = {
        "boxes": torch.cat([cars["boxes"], beside]),
        "labels": prediction["labels"],
        "iscrowd": (torch.arange(120) >= 60).long(),
    }
    unlabelled = {
        "boxes": torch.cat([cars["boxes"], region]),
        "labels": prediction["labels"][:61],
        "iscrowd": (torch.arange(61) >= 60).long(),
        "occlusion": -(torch.arange(61) >= 60).long(),
    }
    assert car_score(prediction, cars) < 0.9
    assert car_score(prediction, vans) == 1
    assert car_score(prediction, unlabelled) == 1
    unlabelled["boxes"][-1, 3] = 134.9  # 69.8 %
    assert car_score(prediction, unlabelled) < 0.9


def test_a_region_takes_no_box_from_an_object():
    cars = many_cars()
    both = {key: torch.cat([value, value]) for key, value in cars.items()}
    regions_first = (torch.arange(120) < 60).long()
    target = {**both, "iscrowd": regions_first, "occlusion": -regions_first}
    assert car_score({**cars, "scores": torch.rand(60)}, target) == 1


def test_a_match_needs_more_than_the_overlap():
    persons = {**many_cars(), "labels": torch.full((60,), 2)}
    for height, expected in {25.0: 0, 25.01: 1}.items():  # of 50
        half = persons["boxes"].clone()
        half[:, 3] = half[:, 1] + height
        prediction = {**persons, "boxes": half, "scores": torch.rand(60)}
        scores = measured([(prediction, persons)], rules="2012").compute()
        assert scores["AP/Pedestrian/easy"] == expected


def test_bounds_are_those_of_the_files_decimals():
    """100.12 to 140.12 is 40 px and 0.15 is not above 0.15, though float32 has it otherwise."""
    cars = many_cars()
    cars["boxes"][:, 1::2] = torch.tensor([100.12, 140.12])
    cars["truncation"] = torch.full((60,), 0.15)
    prediction = {**cars, "scores": torch.rand(60)}
    assert car_score(prediction, cars, rules="2012") == 1
    cars["truncation"] = torch.full((60,), 0.16)
    assert car_score(prediction, cars, rules="2012") == 0


def test_today_an_object_has_to_be_higher_than_the_minimum():
    cars = many_cars()
    for height, today, then in [(40.0, 0, 1), (40.01, 1, 1), (39.99, 0, 0)]:
        cars["boxes"][:, 1::2] = torch.tensor([100.0, 100.0 + height])
        prediction = {**cars, "scores": torch.rand(60)}
        assert car_score(prediction, cars) == today
        assert car_score(prediction, cars, rules="2012") == then


def test_the_overlap_needed_goes_by_the_classes_names():
    cars = many_cars()
    narrow = cars["boxes"].clone()
    narrow[:, 2] -= 20  # IoU 0.6
    prediction = {"boxes": narrow, "labels": cars["labels"], "scores": torch.rand(60)}
    for name, expected in {"car": 0, "CAR": 0, "Truck": 1}.items():
        metric = KITTIAveragePrecision([name])
        metric.update([prediction], [cars])
        assert metric.compute()[f"AP/{name}/easy"] == expected


def test_unknown_rules_and_points_are_refused():
    with pytest.raises(ValueError, match="rules is '2017'; expected 'today'"):
        KITTIAveragePrecision(CLASSES, rules="2017")
    with pytest.raises(ValueError, match="points is 41; expected 11, 40"):
        KITTIAveragePrecision(CLASSES, points=41)
