"""benchmarks/gpu.py, of which a card is no part here: what it measures can be made and run."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import gpu
import gpu_rows

SCALE = gpu_rows.Scale((64, 96), batch=1, crop=32, crops=2, regions=8)


@pytest.mark.slow
def test_all_tables_come_and_rows_without_time_are_named() -> None:
    lines = "\n".join(gpu.report(SCALE, rounds=1, minutes=0))
    for table in (gpu.STEPS, gpu.TEACHER, gpu.LOADER):
        assert table in lines
    assert "torchvision's eager step with its whole teacher, batch 1 | float32 | " in lines
    assert "failed" not in lines
    late = lines.rpartition("were over: ")[2].split("; ")
    assert len(late) == len(list(gpu_rows.rows(SCALE)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imitation", "MGD", "KD"])
def test_a_row_is_measured(name: str) -> None:
    row = next(row for row in gpu_rows.rows(SCALE) if name in row.name)
    cells = gpu.line(row, rounds=1).split(" | ")
    assert cells[1] == "bf16, channels_last"
    assert float(cells[2]) > 0
    assert float(cells[3]) > 0


def test_a_row_that_fails_costs_no_other() -> None:
    def out_of_memory() -> str:
        raise RuntimeError("out of memory\nand more")

    assert gpu.attempt("a | b", out_of_memory) == "| a | b | failed: RuntimeError: out of memory |"
