import pytest
import torch

from limbeck.metrics.predictions import Predictions
from limbeck.report.findings import Compared, Trained
from limbeck.report.page.classes import break_down


def test_detection_by_class_and_by_size(detection):
    rows = [row for row in detection.findings.rows if row.kind != "control"]
    by_class, by_size = break_down(rows)
    assert by_class.names == detection.data.classes
    truth = Predictions.load(rows[0].runs[0].predictions).truth
    assert sum(by_class.counts) == sum(len(target["labels"]) for target in truth)
    assert list(by_class.values) == ["teacher", "plain", "kd", "fitnet"]
    assert by_size is not None
    assert by_size.counts[2] == 0  # no object is as large
    assert by_size.values["plain"][2] is None
    small = [run.scores["AP_small"] for run in rows[1].runs]
    assert by_size.values["plain"][0] == pytest.approx(sum(small) / len(small), abs=1e-5)


def test_classification_by_class_over_seeds(tmp_path):
    truth = torch.tensor([0, 0, 1, 1])
    sizes = torch.ones(4, 2, dtype=torch.long)
    runs = []
    for seed, labels in enumerate(([0, 0, 1, 0], [0, 1, 1, 0])):
        path = tmp_path / f"{seed}"
        logits = torch.nn.functional.one_hot(torch.tensor(labels), 3).float()
        Predictions("classification", ("a", "b", "c"), sizes, logits, truth).save(path)
        runs.append(Trained(seed, None, path, {}))
    by_class, by_size = break_down([Compared("row", "plain", runs)])
    assert by_size is None
    assert by_class.counts == [2, 2, 0]
    assert by_class.values == {"row": [0.75, 0.5, None]}
