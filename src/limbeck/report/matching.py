"""Which teacher channels guide which student channel, and how alike their maps have become."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from limbeck.report.style import COLOURS, INK, as_drawn, save

CELL = 1.1  # the side of a drawn map, in inches
GUIDES = 4  # how many teacher channels are shown at most


def flow_matrix(flow: Tensor, teachers: int, out: Path, title: str = "") -> None:
    """Draw a mark where a teacher channel (a column) guides a student channel (a row).

    Args:
        flow: The k teacher channels of each student channel, (S, k).
        teachers: The number of the teacher's channels.
        out: The picture to write. Its suffix decides the format.
        title: The title above the picture.
    """
    students, count = flow.shape
    width = 8.0
    height = min(max(width * students / teachers, 1.5), 8.0)
    figure = Figure(figsize=(width, height + 0.7), layout="constrained")
    axes = figure.subplots()
    rows = [student for student in range(students) for _ in range(count)]
    size = max(2.0, min(40.0, 2e5 / teachers**2))
    axes.scatter(flow.flatten().tolist(), rows, s=size, marker="s", color=COLOURS[0], linewidths=0)
    axes.set(xlim=(-0.5, teachers - 0.5), ylim=(students - 0.5, -0.5))
    left_over = teachers - students * count
    axes.set_xlabel(f"teacher's {teachers} channels, {left_over} of them guide nobody", color=INK)
    axes.set_ylabel(f"student's {students}", color=INK)
    axes.set_title(as_drawn(title), fontsize=11, color=INK)
    save(figure, out)


def matched_maps(
    student: Tensor,
    reduced: Tensor,
    teacher: Tensor,
    flow: Tensor,
    channels: Sequence[int],
    out: Path,
    title: str = "",
) -> None:
    """Draw a row for each student channel: its map, the map that guides it, and what that is of.

    All maps of a row have one scale: from the least to the greatest value among them.

    Args:
        student: The student's map of one image, (S, H, W), after the method's norm.
        reduced: The map that is made of the teacher channels of each student channel, (S, H, W).
        teacher: The teacher's map, (T, H, W).
        flow: The k teacher channels of each student channel, (S, k).
        channels: The student channels that are shown.
        out: The picture to write. Its suffix decides the format.
        title: The title above the picture.
    """
    shown = min(flow.shape[1], GUIDES)
    size = (CELL * (2 + shown) + 0.2, CELL * len(channels) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(channels), 2 + shown, squeeze=False)
    for row, channel in zip(axes, channels, strict=True):
        guides = flow[channel, :shown].tolist()
        maps = [student[channel], reduced[channel], *(teacher[guide] for guide in guides)]
        names = [f"student {channel}", "guided by", *(f"teacher {guide}" for guide in guides)]
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        for axis, values, name in zip(row, maps, names, strict=True):
            _draw_map(axis, values, low, high, name)
    figure.suptitle(as_drawn(title), fontsize=11, color=INK)
    save(figure, out)


def _draw_map(axis: Axes, values: Tensor, low: float, high: float, name: str) -> None:
    axis.imshow(values.float().cpu().numpy(), cmap="viridis", vmin=low, vmax=high)
    axis.set_title(name, fontsize=7, color=INK)
    axis.set_axis_off()
