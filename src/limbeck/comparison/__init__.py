"""Comparisons: a plain student, distilled ones, and the controls that tell what was gained."""

from limbeck.comparison.comparing import RunFailedError, WeakTeacherError, compare
from limbeck.comparison.comparison import Comparison, Controls
from limbeck.comparison.reporting import report
from limbeck.comparison.stated import read_comparison

__all__ = [
    "Comparison",
    "Controls",
    "RunFailedError",
    "WeakTeacherError",
    "compare",
    "read_comparison",
    "report",
]
