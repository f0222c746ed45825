"""A made-up comparison of each task: predictions of three qualities, and findings of them."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from limbeck.data import Shapes, VisionDataset
from limbeck.data.base import Task
from limbeck.metrics import COCOAveragePrecision, TopKAccuracy
from limbeck.metrics.predictions import Predictions
from limbeck.report.cost import Cost
from limbeck.report.findings import Compared, Contrast, Findings, Kind, Trained

HOSTILE = (
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "a\nb|c",
    "\u202eright to left",
    "</script><img src=x onerror=alert(1)> $x^2$ & \"quoted\" 'too'",
)
CLASSES = ("circle", "square", "triangle", "ring", "cross")
QUALITIES = {"teacher": 0.9, "plain": 0.55, "kd": 0.75, "fitnet": 0.65, "plain, time of kd": 0.58}
KINDS: dict[str, Kind] = {"teacher": "teacher", "plain": "plain", "plain, time of kd": "control"}


@dataclass(frozen=True)
class Pictures:
    """The images of a dataset as the report asks for them."""

    dataset: VisionDataset
    classes: Sequence[str]

    @property
    def task(self) -> Task:
        return self.dataset.task

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Tensor:
        return self.dataset[index][0]


@dataclass(frozen=True)
class Example:
    """What a report is made of."""

    findings: Findings
    data: Pictures


def make(
    folder: Path,
    task: Task = "detection",
    *,
    dataset: VisionDataset | None = None,
    images: int = 24,
    seeds: int = 3,
    hostile: bool = False,
) -> Example:
    """Write predictions and logs into a folder, and state what was found."""
    dataset = dataset or Shapes(task, count=images)
    classes = HOSTILE if hostile else tuple(dataset.classes)
    names = dict(zip(QUALITIES, (*HOSTILE[::-1],), strict=True)) if hostile else {}
    rows = []
    for number, (name, quality) in enumerate(QUALITIES.items()):
        shown = names.get(name, name)
        kind = KINDS.get(name, "distilled")
        runs = [
            _run(folder / f"{number}-{seed}", dataset, classes, quality, seed, kind)
            for seed in range(1 if kind == "teacher" else seeds)
        ]
        rows.append(_row(shown, kind, runs))
    findings = _findings(rows, "AP" if task == "detection" else "top1", hostile)
    return Example(findings, Pictures(dataset, classes))


def _row(name: str, kind: Kind, runs: list[Trained]) -> Compared:
    big = kind == "teacher"
    return Compared(
        name,
        kind,
        runs,
        Cost(34_000_000 if big else 2_300_000, 41.2 if big else 2.9, 310.0 if big else 24.0),
        None if kind in ("teacher", "plain") else 0.5,
        ["model.methods.kd.class_path: limbeck.methods.KD"] if kind == "distilled" else [],
        f"limbeck fit --config recipes/{kind}.yaml --seed 0" if not big else "",
    )


def _findings(rows: list[Compared], headline: str, hostile: bool) -> Findings:
    scores = {row.name: [run.scores[headline] for run in row.runs] for row in rows}
    distilled = [row for row in rows if row.kind == "distilled"]
    controls = [row for row in rows if row.kind in ("plain", "control")]
    contrasts = []
    for row in distilled:
        for control in controls:
            pairs = zip(scores[row.name], scores[control.name], strict=True)
            by_seed = {seed: a - b for seed, (a, b) in enumerate(pairs)}
            middle = mean(by_seed.values())
            images = (middle - 0.03, middle + 0.03)
            verdict = "BEATS" if images[0] > 0 else "INCONCLUSIVE"
            contrasts.append(
                Contrast(
                    row.name, control.name, middle, by_seed, images,
                    (middle - 0.05, middle + 0.05), verdict,
                )
            )  # fmt: skip
    return Findings(
        HOSTILE[0] if hostile else "Shapes: RetinaNet, distilled from ResNet-50 into MobileNetV2",
        headline,
        True,
        rows,
        contrasts,
        "A row beats a control where both 95 % intervals lie above 0, and does not beat it where "
        "both lie below a tenth of the spread; otherwise, the comparison is inconclusive.",
        [HOSTILE[4]]
        if hostile
        else ["The plain student is under-trained: twice the steps gain 0.02."],
        {"limbeck": "0.1.0", "data": "sha256:" + 64 * "0", "weights of the teacher": "Apache-2.0"}
        | ({HOSTILE[2]: HOSTILE[3]} if hostile else {}),
    )


def _run(
    folder: Path,
    dataset: VisionDataset,
    classes: Sequence[str],
    quality: float,
    seed: int,
    kind: Kind,
) -> Trained:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(1000 * seed + round(100 * quality))
    sizes, found, truth = [], [], []
    for index in range(len(dataset)):
        sizes.append(dataset.image_size(index))
        target = dataset[index][1]
        truth.append(target)
        find = _boxes if dataset.task == "detection" else _logits
        found.append(find(target, len(classes), quality, generator))
    predictions = Predictions(dataset.task, tuple(classes), torch.tensor(sizes), found, truth)
    predictions.save(folder / "predictions.safetensors")
    detection = dataset.task == "detection"
    metric = COCOAveragePrecision() if detection else TopKAccuracy(classes)
    scores = {name: float(value) for name, value in predictions.measured(metric).compute().items()}
    if kind == "teacher":
        return Trained(None, None, folder / "predictions.safetensors", scores)
    _log(folder, kind, "AP" if detection else "top1", quality)
    return Trained(
        seed, folder, folder / "predictions.safetensors", scores, 2000, 610.0 + 100 * seed, 880.0
    )


def _boxes(
    target: dict[str, Tensor], classes: int, quality: float, random: torch.Generator
) -> dict:
    """The true boxes, moved and partly lost, and some where nothing is."""
    boxes, labels = target["boxes"].as_subclass(Tensor), target["labels"]
    kept = torch.rand(len(boxes), generator=random) < 0.4 + 0.6 * quality
    moved = boxes + 8 * (1 - quality) * torch.randn(boxes.shape, generator=random)
    wrong = torch.rand(len(boxes), generator=random) > 0.6 + 0.4 * quality
    labels = torch.where(wrong, labels % classes + 1, labels)
    scores = (quality + 0.25 * torch.randn(len(boxes), generator=random)).clamp(0.05, 0.99)
    count = int(torch.randint(0, 4, (1,), generator=random))
    corner = torch.rand(count, 2, generator=random) * 60
    ghosts = torch.cat([corner, corner + 12 + 20 * torch.rand(count, 2, generator=random)], dim=1)
    return {
        "boxes": torch.cat([moved[kept], ghosts]),
        "labels": torch.cat(
            [labels[kept], torch.randint(1, classes + 1, (count,), generator=random)]
        ),
        "scores": torch.cat([scores[kept], 0.5 * torch.rand(count, generator=random) + 0.05]),
    }


def _logits(target: Tensor, classes: int, quality: float, random: torch.Generator) -> Tensor:
    logits = torch.randn(classes, generator=random)
    logits[int(target)] += 3 * quality
    return logits


def _log(folder: Path, kind: Kind, headline: str, quality: float) -> None:
    """A ``metrics.csv`` as a training run leaves it behind."""
    terms = ["student/loss", *(["kd/logits"] if kind == "distilled" else [])]
    columns = ["step", "train/total", f"val/{headline}"]
    columns += [f"train/{part}/{term}" for part in ("raw", "weighted") for term in terms]
    columns += [f"train/gradient/{term}" for term in terms]
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for step in range(0, 2000, 20):
            row: dict[str, float] = {"step": step, "train/total": 2 / (1 + step / 200)}
            for term in terms:
                row |= {f"train/raw/{term}": 1 / (1 + step / 300), f"train/weighted/{term}": 0.5}
            writer.writerow(row)
            if step % 200 == 180:
                writer.writerow({"step": step, f"val/{headline}": quality * step / 2000})
        shares = {f"train/gradient/{term}": 1 / len(terms) for term in terms}
        writer.writerow({"step": 20, **shares})
