"""What was gained, and at what cost: tables, curves and pictures."""

from limbeck.report.cost import Cost, measure_cost, measure_latencies
from limbeck.report.curves import plot_losses
from limbeck.report.matrices import matrix_grid
from limbeck.report.pictures import (
    Example,
    detection_grid,
    detection_picture,
    image_grid,
    overlay_grid,
)
from limbeck.report.table import Row, Table

__all__ = [
    "Cost",
    "Example",
    "Row",
    "Table",
    "detection_grid",
    "detection_picture",
    "image_grid",
    "matrix_grid",
    "measure_cost",
    "measure_latencies",
    "overlay_grid",
    "plot_losses",
]
