"""``report.json``: the findings, and all that the page shows of them."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.report.findings import Findings
from limbeck.report.page.shown import Shown

_OF_RUNS = ("seconds", "peak_memory_mib")


def as_json(findings: Findings, shown: Shown, folder: Path) -> str:
    """Write the findings and what is shown as JSON.

    Args:
        findings: The findings.
        shown: What the page shows beyond them.
        folder: The folder of the report. Paths are written relative to it.

    Returns:
        The text. All that another run would measure anew (latencies, seconds, memory) stands under
        the key ``measured``, by the names of the rows, and nowhere else.
    """
    content = {
        "findings": _plain(findings, folder),
        "shown": _plain(shown, folder),
        "measured": {row.name: _measured(row) for row in findings.rows},
    }
    for row in content["findings"]["rows"]:
        if row["cost"] is not None:
            del row["cost"]["latency_ms"]
        for run in row["runs"]:
            for name in _OF_RUNS:
                del run[name]
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _measured(row: Any) -> dict[str, Any]:
    latency = row.cost.latency_ms if row.cost is not None else None
    runs = [{name: getattr(run, name) for name in ("seed", *_OF_RUNS)} for run in row.runs]
    return {"latency_ms": latency, "runs": runs}


def _plain(value: Any, folder: Path) -> Any:
    """The value of what JSON has: no path, and no number that is not finite."""
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return {name: _plain(getattr(value, name), folder) for name in fields}
    if isinstance(value, Path):
        return Path(os.path.relpath(value, folder)).as_posix()
    if isinstance(value, Mapping):
        return {str(key): _plain(each, folder) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each, folder) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
