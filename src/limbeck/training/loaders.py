"""The loaders of a run: one whose position is saved and restored, and one of evaluation."""

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from limbeck.data.base import BadSampleError
from limbeck.data.sampling import BatchOrder, Place


class TrainingLoader(DataLoader[Any]):
    """A loader of a ``BatchOrder`` whose position is saved and restored exactly.

    The position is counted where batches are handed over, as workers draw ahead of that. What a
    batch holds is a function of its place alone, so any number of workers can go on from there.

    Attributes:
        sampler: The order of the batches.
        waited: The seconds that went by until batches were there, all in all.
    """

    sampler: BatchOrder
    waited = 0.0
    _reached: Place | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator: Lightning calls iter() before it says which epoch it is.
        place = self.sampler.upcoming()
        for batch in self._waited_for(super().__iter__()):
            place = self._reached = place._replace(position=place.position + 1)
            yield batch
        self._reached = self.sampler.upcoming()

    def _waited_for(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place after the last batch that was handed over, and what the order depends on."""
        place = self._reached or self.sampler.upcoming()
        return {"place": place._asdict(), "order": self.sampler.depends_on()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration go on at the place that was saved.

        Args:
            state_dict: What ``state_dict()`` gave.

        Raises:
            ValueError: Other images, batches, processes or another seed make another order, in
                which that place means nothing.
        """
        saved, ours = state_dict["order"], self.sampler.depends_on()
        if saved != ours:
            raise ValueError(
                f"the checkpoint's data had {_stated(saved)}, this run's has {_stated(ours)}: the "
                "order of the images is another one. Resume with the same, or begin anew from the "
                "weights in the folder student/"
            )
        self._reached = Place(**state_dict["place"])
        self.sampler.start_at(self._reached)


class EvaluationLoader(DataLoader[Any]):
    """A loader that leaves out batches of which nothing is left, as all their samples are bad.

    Raises:
        BadSampleError: Nothing is left of any batch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches, left = 0, 0
        for batch in super().__iter__():
            batches += 1
            if batch is not None:
                left += 1
                yield batch
        if batches and not left:
            raise BadSampleError(
                f"none of the images in {batches} batches is a good sample; leave "
                "on_bad_sample at 'error' to see why"
            )


def _stated(order: dict[str, float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in order.items())
