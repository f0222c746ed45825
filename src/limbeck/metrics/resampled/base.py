"""What every resampled metric shares: draws go in chunks, and boxes count as their images do."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Weights = NDArray[np.float64]  # (images, draws)

CHUNK = 2**20  # values of one array, 8 MiB; a draw needs about ten of them at once
MOST_DRAWS = 128  # at once: more would leave the processor's cache


class Resampled(ABC):
    """The headline of a metric on images that count as often as a draw of them says.

    Attributes:
        images: The number of images.
        rows: The number of values that one draw needs at once, by which draws are cut into chunks.
    """

    images: int
    rows: int

    def headlines(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The headline of each draw.

        Args:
            weights: How often each image counts in each draw, (draws, images), 0 or more.

        Returns:
            What the metric would compute of a dataset that has each image as often as its weight
            says, (draws,). It is NaN or -1 where the metric's own headline is.

        Raises:
            ValueError: The weights are not of as many images.
        """
        if weights.ndim != 2 or weights.shape[1] != self.images:
            raise ValueError(
                f"weights have the shape {weights.shape}; expected (draws, {self.images}), one "
                "weight for each image"
            )
        at_once = min(MOST_DRAWS, max(1, CHUNK // max(self.images, self.rows, 1)))
        headlines = np.empty(len(weights))
        for start in range(0, len(weights), at_once):
            part = slice(start, start + at_once)
            headlines[part] = self._headlines(np.ascontiguousarray(weights[part].T, np.float64))
        return headlines

    @abstractmethod
    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        """The headline of each draw, (draws,). Weights up to 2**53 are exact in float64."""


def cumulated(
    weights: Weights,
    images: NDArray[np.int64],
    ends: NDArray[np.int64],
    values: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Sum up the first boxes of a list, each as often as its image counts.

    Args:
        weights: The weights of the images, (images, draws).
        images: The image of each box, (N,).
        ends: The numbers of first boxes that are summed up, (E,), which do not fall.
        values: The value of each box, (N,). Default (None): 1.

    Returns:
        The sums, (E, draws).
    """
    last = ends[-1] if len(ends) else 0
    values = np.ones(last) if values is None else values[:last]
    # Each row of the sparse matrix has the boxes between two ends.
    between = csr_array(
        (values, images[:last], np.concatenate([[0], ends])), shape=(len(ends), len(weights))
    )
    sums: NDArray[np.float64] = np.cumsum(between @ weights, axis=0)
    return sums
