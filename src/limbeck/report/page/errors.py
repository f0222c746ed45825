"""What kinds of errors a detector makes, and what each costs: TIDE, as hotcoco computes it.

Source: Bolya, Foley, Hays, Hoffman: TIDE: A General Toolbox for Identifying Object Detection
Errors. ECCV 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import hotcoco

ERRORS: Mapping[str, str] = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "nothing is there",
    "Miss": "missed",
}


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error of a detector.

    Attributes:
        name: The kind in words.
        lost: The average precision at an IoU of 0.5 that would be gained without these errors.
        count: The number of such errors, at any score.
    """

    name: str
    lost: float
    count: int


def error_kinds(evaluator: hotcoco.COCOeval) -> list[ErrorKind]:
    """The errors of each kind, in the order of TIDE."""
    found = evaluator.tide_errors()
    lost, counts = found["delta_ap"], found["counts"]
    return [
        ErrorKind(words, round(float(lost[kind]), 6), int(counts[kind]))
        for kind, words in ERRORS.items()
    ]
