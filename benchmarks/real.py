"""The real pairs of docs/results.md: every row with its controls, over seeds.

    python benchmarks/real.py bccd --seeds 0 1 2 [--write]

Trains what is not in ``runs/real`` yet, one run after the other through the command line, and
prints the table; ``--write`` puts it into docs/results.md between the pair's markers. Rows at equal
time get as many epochs more as the distilled run took longer, in CPU seconds of training batches.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "real"


@dataclass(frozen=True)
class Pair:
    """A teacher, and the rows that are compared.

    Attributes:
        teacher: recipe of the teacher.
        student: recipe of the student, over which each row's is laid.
        rows: ``{what the row is called: recipe laid over the student's, or None}``.
        timed: of the rows, the distilled ones, for each of which the plain student is also trained
            as long.
        epochs: of the student's recipe.
        scores: which scores are shown, the first is compared.
        once: rows that are trained with the first seed alone.
    """

    teacher: str
    student: str
    rows: dict[str, str | None]
    timed: tuple[str, ...]
    epochs: int
    scores: tuple[str, ...]
    once: tuple[str, ...] = ()


PAIRS = {
    "bccd": Pair(
        "real/bccd_teacher",
        "real/bccd_student",
        {
            "plain": None,
            "head transferred": "real/bccd_transfer",
            "FitNet + head": "real/bccd_fitnet",
            "MGD": "real/bccd_mgd",
            "MGD + head": "real/bccd_mgd_head",
        },
        ("FitNet + head", "MGD", "MGD + head"),
        6,
        ("AP", "AP50", "AP/Platelets", "AP/RBC", "AP/WBC"),
    ),
    "helmet": Pair(
        "real/helmet_teacher",
        "real/helmet_student",
        {
            "plain": None,
            "trunk transferred": "real/helmet_transfer",
            "FitNet + trunk": "real/helmet_fitnet",
        },
        ("FitNet + trunk",),
        3,
        ("AP", "AP50", "AP/helmet", "AP/head"),
    ),
    "helmet_head": Pair(
        "real/helmet_head_teacher",
        "real/helmet_student",
        {
            "plain": None,
            "assist": "real/helmet_head_assist",
            "assist + AKD": "real/helmet_head_akd",
            "HEAD": "real/helmet_head",
            "TF-HEAD": "real/helmet_head_free",
            "FitNet": "real/helmet_head_fitnet",
        },
        ("HEAD", "TF-HEAD"),
        3,
        ("AP", "AP50", "AP/helmet", "AP/head"),
        once=("assist", "assist + AKD", "FitNet"),
    ),
    "helmet_rcnn": Pair(
        "real/helmet_head_teacher",
        "real/helmet_rcnn_student",
        {
            "plain": None,
            "trunk transferred": "real/helmet_rcnn_transfer",
            "imitation + trunk": "real/helmet_rcnn_imitation",
        },
        ("imitation + trunk",),
        3,
        ("AP", "AP50", "AP/helmet", "AP/head"),
    ),
    "bccd_c4": Pair(
        "real/bccd_c4_teacher",
        "real/bccd_c4_student",
        {
            "plain": None,
            "heads transferred": "real/bccd_c4_transfer",
            "imitation": "real/bccd_c4_imitation",
        },
        ("imitation",),
        6,
        ("AP", "AP50", "AP/Platelets", "AP/RBC", "AP/WBC"),
    ),
    "bccd_ssd": Pair(
        "real/bccd_ssd_teacher",
        "real/bccd_ssd_student",
        {
            "plain": None,
            "imitation": "real/bccd_ssd_imitation",
        },
        ("imitation",),
        8,
        ("AP", "AP50", "AP/Platelets", "AP/RBC", "AP/WBC"),
    ),
    "kitti": Pair(
        "real/kitti_teacher",
        "real/kitti_student",
        {
            "plain": None,
            "imitation": "real/kitti_imitation",
        },
        ("imitation",),
        100,
        ("mAP", "AP/Car/moderate", "AP/Pedestrian/moderate", "AP/Cyclist/moderate"),
    ),
    "widerface": Pair(
        "real/widerface_teacher",
        "real/widerface_student",
        {
            "plain": None,
            "imitation": "real/widerface_imitation",
        },
        ("imitation",),
        100,
        ("AP", "AP/easy", "AP/medium", "AP/hard"),
    ),
    "bccd_shuffledet": Pair(
        "real/bccd_shuffledet_teacher",
        "real/bccd_shuffledet_student",
        {
            "plain": None,
            "imitation": "real/bccd_shuffledet_imitation",
        },
        ("imitation",),
        8,
        ("AP", "AP50", "AP/Platelets", "AP/RBC", "AP/WBC"),
    ),
    "bccd_yolov2": Pair(
        "real/bccd_yolov2_teacher",
        "real/bccd_yolov2_student",
        {
            "plain": None,
            "imitation": "real/bccd_yolov2_imitation",
        },
        ("imitation",),
        8,
        ("AP", "AP50", "AP/Platelets", "AP/RBC", "AP/WBC"),
    ),
    "clothing": Pair(
        "real/clothing_teacher",
        "real/clothing_student",
        {
            "plain": None,
            "KD": "real/clothing_kd",
            "MGD": "real/clothing_mgd",
            "MGD + KD": "real/clothing_mgd_kd",
        },
        ("KD", "MGD", "MGD + KD"),
        15,
        ("top1", "top5"),
    ),
}


def fit(folder: Path, recipes: Sequence[str], *overrides: str) -> dict:
    """The summary of a run, which is trained if it is not there."""
    summary = folder / "summary.json"
    if not summary.exists():
        stated = [word for name in recipes for word in ("--config", f"recipes/{name}.yaml")]
        where = f"--trainer.default_root_dir={folder}"
        command = [sys.executable, "-m", "limbeck.cli", "fit", *stated, where, *overrides]
        print(" ".join(command), flush=True)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads(summary.read_text())


def has_teacher(recipe: str) -> bool:
    """Whether a recipe names one; an assist alone has none."""
    return "\n  teacher:\n" in (ROOT / f"recipes/{recipe}.yaml").read_text()


def train(name: str, pair: Pair, seed: int, first: bool) -> dict[str, dict]:
    """The summary of every row that this seed has."""
    teacher = RUNS / pair.teacher.removeprefix("real/")
    found = {"teacher": fit(teacher, [pair.teacher])}
    taught = f"--model.teacher.init_args.folder={teacher / 'student'}"
    folder = RUNS / f"{name}_{seed}"
    for row, recipe in pair.rows.items():
        if row in pair.once and not first:
            continue
        recipes = [pair.student, *([recipe] if recipe else [])]
        extra = [taught] if recipe and has_teacher(recipe) else []
        where = folder / re.sub(r"\W+", "_", row)
        found[row] = fit(where, recipes, f"--seed_everything={seed}", *extra)
    for timed in pair.timed:
        plain, distilled = (found[row]["training_seconds"]["cpu"] for row in ("plain", timed))
        epochs = math.ceil(pair.epochs * max(1.0, distilled / plain))
        where = folder / f"plain_{epochs}_epochs"
        longer = f"--trainer.max_epochs={epochs}"
        equal = fit(where, [pair.student], f"--seed_everything={seed}", longer)
        found[f"plain, time of {timed}"] = equal
    return found


def markdown(pair: Pair, by_seed: dict[int, dict[str, dict]]) -> str:
    """One line a row: mean, spread and seeds of each score, steps and CPU seconds."""
    heads = ["", *pair.scores, "steps", "training, CPU s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in next(iter(by_seed.values())):
        summaries = [runs[row] for runs in by_seed.values() if row in runs]
        summaries = summaries[:1] if row == "teacher" else summaries
        cells = [
            spread([s["scores"]["student"][score] for s in summaries]) for score in pair.scores
        ]
        steps = sorted({s["steps"] for s in summaries})
        seconds = statistics.mean(s["training_seconds"]["cpu"] for s in summaries)
        span = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        lines.append(f"| {row} | " + " | ".join([*cells, span, f"{seconds:.0f}"]) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and half the range."""
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {(max(values) - min(values)) / 2:.3f}"


def main() -> None:
    """Train, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/results.md")
    given = parser.parse_args()
    pair = PAIRS[given.pair]
    first = given.seeds[0]
    by_seed = {seed: train(given.pair, pair, seed, seed == first) for seed in given.seeds}
    table = markdown(pair, by_seed)
    print(table)
    if given.write:
        path = ROOT / "docs" / "results.md"
        marks = f"<!-- {given.pair} -->\n", f"<!-- /{given.pair} -->"
        before, _, rest = path.read_text().partition(marks[0])
        _, _, after = rest.partition(marks[1])
        path.write_text(before + marks[0] + table + "\n" + marks[1] + after)


if __name__ == "__main__":
    main()
