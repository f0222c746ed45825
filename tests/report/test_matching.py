from pathlib import Path

import pytest
import torch
from PIL import Image

from limbeck.report.matching import GUIDES, flow_matrix, matched_maps


@pytest.mark.parametrize(("students", "count", "teachers"), [(4, 1, 4), (16, 4, 67), (64, 8, 512)])
def test_a_flow_is_drawn_with_a_mark_for_every_guide(
    students: int, count: int, teachers: int, tmp_path: Path
) -> None:
    flow = torch.randperm(teachers)[: students * count].view(students, count)
    full, empty = tmp_path / "new" / "flow.png", tmp_path / "empty.png"
    flow_matrix(flow, teachers, full, "C4")
    flow_matrix(flow[:, :0], teachers, empty, "C4")
    marked, bare = (torch.tensor(list(Image.open(p).convert("L").tobytes())) for p in (full, empty))
    assert Image.open(full).size[0] > 1000
    assert (marked < 160).sum() > (bare < 160).sum() + students * count


def test_a_row_holds_the_student_its_guide_and_no_more_teachers_than_fit(tmp_path: Path) -> None:
    def width(count: int) -> int:
        flow = torch.randperm(24)[: 4 * count].view(4, count)
        maps = (torch.rand(channels, 6, 8) for channels in (4, 4, 24))
        matched_maps(*maps, flow, [0, 3], tmp_path / "maps.png", "C4")
        return Image.open(tmp_path / "maps.png").size[0]

    assert width(1) < width(2) < width(GUIDES) == width(GUIDES + 1)
