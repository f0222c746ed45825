"""What the loaders of a run count; their batches and positions are tested in test_data.py."""

import time
from typing import Any

from limbeck.data import Shapes
from limbeck.training.data import DataModule


class Slow(Shapes):
    """Each of its images takes some time."""

    seconds = 0.02

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        return super().__getitem__(index)


def test_waits_are_counted_where_batches_are_handed_over() -> None:
    data = DataModule(Shapes(count=4), Slow(count=4), batch_size=2, workers=0)
    loader = data.train_dataloader()
    began = time.perf_counter()
    for _ in loader:
        time.sleep(0.02)
    first = loader.waited
    assert 4 * Slow.seconds <= first <= time.perf_counter() - began - 2 * 0.02
    assert len(list(loader)) == 2
    assert loader.waited >= first + 4 * Slow.seconds
