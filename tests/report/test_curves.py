from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread

from limbeck.report import plot_losses
from limbeck.report.curves import read_metrics, smooth


def log(folder: Path, rows: list[dict[str, float]], every: int = 2) -> Path:
    """The file that Lightning's own logger writes; rows come with different keys."""
    logger = CSVLogger(folder, name="", version="")
    for number, row in enumerate(rows):
        logger.log_metrics(row, step=number * every)
    logger.save()
    return folder / "metrics.csv"


def training(steps: int, *, distilled: bool, score: str = "AP") -> list[dict[str, float]]:
    rows = []
    for step in range(steps):
        row = {"train/total": 1 / (step + 1), "train/raw/student/cls": 2.0, "lr": 0.1}
        row["train/weighted/student/cls"] = 0.5
        if distilled:
            row["train/weighted/hint/P3"] = 0.25
        rows.append(row)
        if step % 10 == 9:
            rows.append({f"val/{score}": 0.1, "val/teacher/AP": 0.4, "val/AP50": 0.2})
    return rows


def texts(svg: Path) -> list[str]:
    """The words of an SVG, which are words within it and no outlines."""
    found = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(each.itertext()) for each in found]


def test_columns_are_read_without_gaps_and_nan(tmp_path):
    path = log(
        tmp_path,
        [
            {"train/total": 3.0},
            {"val/AP": 0.25},
            {"train/total": float("nan")},
            {"train/total": float("inf")},
            {"train/total": 1.5, "train/weighted/hint": 0.5},
        ],
    )
    run = read_metrics(path)
    assert {name: [list(part) for part in curve] for name, curve in run.items()} == {
        "train/total": [[0, 8], [3.0, 1.5]],
        "train/weighted/hint": [[8], [0.5]],
        "val/AP": [[2], [0.25]],
    }


def test_a_line_cut_short_by_a_crash_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/total\n0,0,1.0\n0,1,0.5\n0,2")
    steps, values = read_metrics(path)["train/total"]
    assert (list(steps), list(values)) == ([0, 1], [1.0, 0.5])


@pytest.mark.parametrize(
    ("content", "missing"), [("", "step"), ("step,loss\n0,1.0\n", "train/total")]
)
def test_another_file_is_refused_by_name(tmp_path, content, missing):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"metrics.csv has no column '{missing}'"):
        plot_losses({"run": path}, tmp_path / "out.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epoch,step,train/total\n0,0,\xf6\n", "is no text in UTF-8: byte 27 is 0xf6"),
        (b"epoch,step,train/total\n0,0,low\n", "has a cell that is no number"),
        (b"epoch,step,train/total\n0,0," + b"1" * 200_000, "is no table .field larger"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"metrics.csv {message}"):
        read_metrics(path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "3"])
def test_a_summary_without_a_headline_is_refused_by_name(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/total\n0,0,1.0\n")
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=r"summary\.json names no headline"):
        plot_losses({"run": path}, tmp_path / "out.png")


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="runs is empty"):
        plot_losses({}, tmp_path / "out.png")


def test_panels_are_total_headline_score_and_weighted_terms(tmp_path):
    runs = {
        "plain": log(tmp_path / "a", training(30, distilled=False)),
        "distilled": log(tmp_path / "b", training(30, distilled=True)),
    }
    plot_losses(runs, tmp_path / "new" / "curves.svg")
    words = [t for t in texts(tmp_path / "new/curves.svg") if not t.replace(".", "").isdigit()]
    titles = ["total loss", "AP, validation", "student/cls", "hint/P3"]
    assert sorted(words) == sorted([*titles, *["step"] * 4, *runs])


def test_a_run_without_validation_or_terms_is_one_panel(tmp_path):
    plot_losses({"a": log(tmp_path, [{"train/total": 1.0}])}, tmp_path / "c.svg")
    assert {"total loss", "a"} <= set(texts(tmp_path / "c.svg"))
    assert not any("validation" in text for text in texts(tmp_path / "c.svg"))


def test_a_run_that_never_had_a_finite_loss_is_an_empty_panel(tmp_path):
    plot_losses({"a": log(tmp_path, [{"train/total": float("nan")}] * 3)}, tmp_path / "c.svg")
    assert {"total loss", "a"} <= set(texts(tmp_path / "c.svg"))


def test_a_png_shows_a_line_a_run(tmp_path):
    path = log(tmp_path, training(30, distilled=True))
    plot_losses({str(i): path for i in range(8)}, tmp_path / "c.png")
    picture = imread(tmp_path / "c.png")[..., :3]
    assert picture.shape[1] == 1800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_smoothing_keeps_level_and_length_and_lessens_noise():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(400)
    assert smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    assert len(smooth(noise)) == 400
    assert smooth(noise).std() < 0.4 * noise.std()
    straight = np.arange(200.0)
    assert smooth(straight)[20:-20] == pytest.approx(straight[20:-20])


@pytest.mark.parametrize("count", [0, 1, 5, 19])
def test_few_points_are_left_alone(count):
    values = np.arange(float(count))
    assert list(smooth(values)) == list(values)


def test_the_score_is_the_headline_that_the_summary_names(tmp_path):
    """Also of a metric that limbeck does not know, whatever else was scored."""
    path = log(tmp_path, training(20, distilled=False, score="Sharpness"))
    plot_losses({"mine": path}, tmp_path / "without.svg")
    assert "AP50, validation" in texts(tmp_path / "without.svg")
    (tmp_path / "summary.json").write_text('{"headline": "Sharpness"}')
    plot_losses({"mine": path}, tmp_path / "with.svg")
    assert "Sharpness, validation" in texts(tmp_path / "with.svg")
