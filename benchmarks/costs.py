"""What every method costs: R and the peak of memory, beside the same by hand.

    python benchmarks/costs.py [--rounds 8] [--only CWD FGD] [--write]

The pairs are those of ``step_ratio.py``, and R and the peak are what it and ``memory.py`` say. The
methods of a pair run in one round, in random order, beside the plain step and the part of the
teacher that they need. Methods with trained modules have a step by hand beside them
(``by_hand.py``). HEAD is measured against other parts, by ``head.py``. CrossKD, DetectorDKD, LD and
QueryKD are not here: they need more of the teacher than its maps, or detectors of other kinds.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from by_hand import (
    Compared,
    Focal,
    Generated,
    Reviewed,
    channel_divergence,
    cosine_distance,
    pearson_distance,
)
from limbeck import Distillation
from limbeck.methods import (
    AT,
    CWD,
    DIST,
    DKD,
    FGD,
    KD,
    MGD,
    PKD,
    FeatureCosine,
    FineGrainedImitation,
    FitNet,
    MaskedGenerative,
    Method,
    ReviewKD,
)
from measuring import (
    CPU,
    DOCUMENTS,
    Step,
    above,
    begin,
    interleaved,
    publish,
    ratios,
    settings,
    spread,
)
from memory import peak
from step_ratio import (
    CLASSES,
    MakeByHand,
    classifier,
    detection_batch,
    detection_by_hand,
    distilled,
    hint_by_hand,
    hints_by_hand,
    inference,
    normalised,
    plain,
    plain_detector,
    pyramid,
    retinanet,
    trunk,
)

# A fresh teacher's maps are large: at a weight of any size the student would diverge.
SMALL = 1e-6
SIZE = 256  # of a detector's images, pixels
TABLE = """\
| pair | method | R, CPU time | R by hand | limbeck / by hand | peak, MiB | peak / plain |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Row:
    """A method of one pair.

    Attributes:
        method: Makes it.
        hand: Makes the same by hand, where modules are trained.
        logits: Whether it needs the teacher's logits, and not its maps alone.
    """

    method: Callable[[], Method]
    hand: MakeByHand | None = None
    logits: bool = False


@dataclass(frozen=True)
class Pair:
    """A student and a teacher with their methods.

    Attributes:
        name: As the table has it.
        plain: The student's step without a teacher.
        maps: The part of the teacher that gives its maps.
        logits: The whole teacher.
        step: Makes the step of a method.
        hand: Makes the step of a method by hand.
        rows: The methods, by name.
    """

    name: str
    plain: Step
    maps: Step
    logits: Step
    step: Callable[[Method], Step]
    hand: Callable[[MakeByHand], Step]
    rows: dict[str, Row]


CLASSIFIERS = {
    "KD": Row(KD, logits=True),
    "DKD": Row(DKD, logits=True),
    "DIST": Row(DIST, logits=True),
    "AT, C3 to C5": Row(lambda: AT(["C3", "C4", "C5"], weight=SMALL)),
    "FitNet, C3 to C5": Row(
        lambda: FitNet(["C3", "C4", "C5"], weight=SMALL), hint_by_hand(adapted=True)
    ),
    "FeatureCosine, C3 to C5": Row(
        lambda: FeatureCosine(["C3", "C4", "C5"], weight=SMALL),
        partial(Compared, cosine_distance, adapted=True),
    ),
    "CWD, C3 to C5": Row(
        lambda: CWD(["C3", "C4", "C5"], weight=SMALL), partial(Compared, channel_divergence)
    ),
    "PKD, C3 to C5": Row(
        lambda: PKD(["C3", "C4", "C5"], weight=SMALL, adapter="conv"),
        partial(Compared, pearson_distance),
    ),
    "MaskedGenerative, C3 to C5": Row(
        lambda: MaskedGenerative(["C3", "C4", "C5"], SMALL, ratio=0.15, masked="channels"),
        partial(Generated, kept=0.85, channels=True),
    ),
    "ReviewKD, C3 to C5": Row(lambda: ReviewKD(["C3", "C4", "C5"], weight=SMALL), Reviewed),
    "MGD, C3 to C5": Row(lambda: MGD(["C3.pre", "C4.pre", "C5.pre"], stage_weights=[SMALL] * 3)),
}
DETECTORS = {
    "AT, P3 to P7": Row(lambda: AT(["fpn"], weight=SMALL)),
    "FitNet, P3 to P7": Row(lambda: FitNet(["fpn"], weight=SMALL)),
    "FeatureCosine, P3 to P7": Row(lambda: FeatureCosine(["fpn"], weight=SMALL)),
    "CWD, P3 to P7": Row(lambda: CWD(["fpn"], weight=SMALL)),
    "PKD, P3 to P7": Row(lambda: PKD(["fpn"], weight=SMALL)),
    "FGD, P3 to P7": Row(lambda: FGD(["fpn"], weight=SMALL), partial(Focal, size=SIZE)),
    "MaskedGenerative, P3 to P7": Row(
        lambda: MaskedGenerative(["fpn"], weight=SMALL), partial(Generated, kept=0.35)
    ),
    "ReviewKD, P3 to P7": Row(lambda: ReviewKD(["fpn"], weight=SMALL), Reviewed),
    "FineGrainedImitation": Row(lambda: FineGrainedImitation(weight=SMALL)),
}


def classifiers(images: torch.Tensor, labels: torch.Tensor) -> Pair:
    """ResNet-50 and ResNet-18."""
    teacher = classifier("resnet50").eval()

    def step(method: Method) -> Step:
        pair = Distillation(classifier("resnet18"), teacher, [method])
        pair.observe(images, labels)  # MGD finds its flow by it
        pair.solve()
        return distilled(pair, images, labels)

    return Pair(
        "ResNet-50 to 18",
        plain(images, labels),
        inference(lambda: trunk(teacher, images)),
        inference(lambda: teacher(images)),
        step,
        lambda make: hints_by_hand(teacher, images, labels, make, SMALL),
        CLASSIFIERS,
    )


def detectors(images: list[torch.Tensor], targets: list) -> Pair:
    """RetinaNets with a ResNet-50 and a ResNet-18."""
    teacher = retinanet("resnet50").eval()
    maps = inference(lambda: pyramid(teacher, normalised(teacher, images)))
    return Pair(
        "RetinaNet R50 to R18",
        plain_detector(images, targets),
        maps,
        maps,
        lambda method: distilled(
            Distillation(retinanet("resnet18"), teacher, [method]), images, targets
        ),
        lambda make: detection_by_hand(teacher, images, targets, make, SMALL),
        DETECTORS,
    )


def lines(pair: Pair, only: list[str] | None, rounds: int) -> Iterator[str]:
    """One line a method."""
    rows = {n: row for n, row in pair.rows.items() if not only or n.split(",")[0] in only}
    steps = {name: pair.step(row.method()) for name, row in rows.items()}
    hands = {name: pair.hand(row.hand) for name, row in rows.items() if row.hand}
    parts = {pair.plain, pair.maps, pair.logits}
    measured = interleaved([*steps.values(), *hands.values(), *parts], rounds, warm_up=1)
    least = peak(pair.plain)
    for name, row in rows.items():
        step, hand = steps[name], hands.get(name)
        floor = [pair.plain, pair.logits if row.logits else pair.maps]
        cells = [
            spread(ratios(measured, over, under, CPU)) if over and all(under) else "-"
            for over, under in ((step, floor), (hand, floor), (step, [hand]))
        ]
        held = peak(step)
        cells += [f"{held:.0f}", f"{held / least:.2f}"]
        yield f"| {pair.name} | {name} | {' | '.join(cells)} |"


def table(only: list[str] | None, rounds: int) -> Iterator[str]:
    """The table, line by line."""
    what = f"Classification 8 x 160 px, detection 2 x {SIZE} px"
    yield f"{above(what, rounds)}\n\n{TABLE}"
    images, labels = torch.rand(8, 3, 160, 160), torch.randint(CLASSES, (8,))
    yield from lines(classifiers(images, labels), only, rounds)
    yield from lines(detectors(*detection_batch(SIZE, 2)), only, rounds)


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=8)
    parser.add_argument("--only", nargs="*", help="these methods alone")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write replaces the whole table: leave --only out")
    begin()
    found = table(options.only, options.rounds)
    publish("benchmarks/costs.py", found, options.write, DOCUMENTS / "methods" / "index.md")


if __name__ == "__main__":
    main()
