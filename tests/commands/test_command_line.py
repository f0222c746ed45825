import pytest
import torch

from limbeck.commands.command_line import leave_cores


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "running", "workers", "expected"),
    [(2, 2, 1, 1), (16, 8, 2, 8), (16, 16, 4, 12), (1, 1, 2, 1), (4, 1, 0, 1)],
)
def test_workers_get_a_core_each(monkeypatch, threads, cores, running, workers, expected):
    monkeypatch.setattr("limbeck.commands.command_line.cores", lambda: cores)
    torch.set_num_threads(running)
    leave_cores(workers)
    assert torch.get_num_threads() == expected
