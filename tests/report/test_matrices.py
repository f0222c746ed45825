import pytest
import torch
from matplotlib.image import imread

from limbeck.report import matrix_grid

NAMES = ("student", "teacher", "likeness")


def test_values_are_colours_and_chosen_cells_have_a_dot(tmp_path):
    values = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    chosen = torch.tensor([[1, 1]])
    out = tmp_path / "made" / "flow.png"
    matrix_grid({"C4": (values, chosen)}, NAMES, out, description="A flow.")
    picture = torch.from_numpy(imread(out)[..., :3].copy())
    red, blue = picture[..., 0], picture[..., 2]
    # The colour bar has these colours at its ends, too, which are far smaller than the cells.
    width = picture.shape[1]
    assert ((blue > 0.65) & (red < 0.05))[:, : width // 2].sum() > 10_000
    assert ((red > 0.8) & (blue < 0.05))[:, : width * 3 // 4].sum() > 10_000
    dark = (picture.amax(dim=2) < 0.2).nonzero()
    assert (dark[:, 0] > picture.shape[0] / 2).sum() > 100  # the dot, in the second row


def test_any_number_of_matrices_of_any_size(tmp_path):
    sizes = [(1, 1), (1, 40), (64, 256), (2, 2)]
    matrices = {
        f"$P{place}$": (torch.zeros(size), torch.zeros(1, 2, dtype=torch.int64))
        for place, size in enumerate(sizes)
    }
    matrix_grid(matrices, NAMES, tmp_path / "flow.svg")
    assert (tmp_path / "flow.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match="there is no matrix to draw"):
        matrix_grid({}, NAMES, tmp_path / "flow.svg")
