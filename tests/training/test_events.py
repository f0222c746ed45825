import resource
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from limbeck.training.events import EventWriter
from limbeck.training.writing import UNWRITTEN


def test_records_that_do_not_fit_are_left_out_and_the_file_stays_whole(tmp_path: Path) -> None:
    writer = EventWriter(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer.add_scalar("loss", 1.0, 1)
    (path,) = tmp_path.iterdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        writer.add_scalar("loss", 2.0, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.add_scalar("loss", 3.0, 3)
    writer.close()
    assert UNWRITTEN.pop(tmp_path) == "File too large: some of its records are lost"
    events = list(EventFileLoader(str(path)).Load())
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == [1, 3]
