"""Two processes that saw different numbers of images score as one process that saw them all."""

from pathlib import Path

import torch
from torch import distributed, multiprocessing
from torchmetrics import Metric, MetricCollection

from limbeck.metrics import (
    COCOAveragePrecision,
    KITTIAveragePrecision,
    TopKAccuracy,
    VOCAveragePrecision,
    WIDERFaceAveragePrecision,
)

SPLITS = (
    [0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0],
)  # the rank of each image; in the second, rank 1 has none


def metrics() -> dict[str, Metric | MetricCollection]:
    names = ["cat", "dog"]
    return {
        "coco": COCOAveragePrecision(names),
        "voc": VOCAveragePrecision(names, interpolation="area"),
        "kitti": KITTIAveragePrecision(names, points=11),
        "widerface": WIDERFaceAveragePrecision(),
        "top": TopKAccuracy(8),
    }


def batches(name: str) -> list[tuple]:
    """Five batches of one image, the same ones in every process."""
    torch.manual_seed(3)
    if name == "top":
        return [(torch.randn(1, 8), torch.randint(8, (1,))) for _ in range(5)]
    made = []
    for count in (2, 0, 4, 1, 3):  # objects; the predictions are near them, or there is none
        corners = 100 * torch.rand(count, 2)
        boxes = torch.cat([corners, corners + 20 + 40 * torch.rand(count, 2)], dim=1)
        labels = torch.randint(1, 2 if name == "widerface" else 3, (count,))
        fields = ("iscrowd", "difficult", "occlusion", "easy", "medium", "hard")
        marks = {field: torch.rand(count) < 0.2 for field in fields}
        prediction = {"boxes": boxes + 10 * torch.randn(count, 4), "labels": labels}
        prediction = {**prediction, "scores": torch.rand(count)}
        made.append(([prediction], [{"boxes": boxes, "labels": labels, **marks}]))
    return made


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    results = []
    for split in SPLITS:
        for name, metric in metrics().items():
            for owner, batch in zip(split, batches(name), strict=True):
                if owner == rank:
                    metric.update(*batch)
            results.append((name, metric.compute()))
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_uneven_ranks_score_as_one_process(tmp_path):
    multiprocessing.start_processes(one_rank, (tmp_path,), nprocs=2, start_method="forkserver")
    alone = {}
    for name, metric in metrics().items():
        for batch in batches(name):
            metric.update(*batch)
        alone[name] = metric.compute()
    assert 0 < alone["coco"]["AP"] < 1
    assert 0 < alone["voc"]["mAP"] < 1
    assert 0 < alone["kitti"]["mAP"] < 1
    assert 0 < alone["widerface"]["AP/hard"] < 1
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        assert len(results) == len(SPLITS) * len(alone)
        for name, scores in results:
            assert scores == alone[name], name
