"""``limbeck predict`` on videos, and on FFmpeg's generated pictures in the place of a camera."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from limbeck.commands.predict import predict
from limbeck.commands.predicting import frame_batches
from limbeck.commands.video import Film, Video, VideoError, film_software, is_video, shown_name
from limbeck.data.augmentation import unchanged
from limbeck.models import BasicBlocks, RetinaNet, save_student
from tests import tiny_models

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'limbeck[video]'")
FRAMES = 24


def film(path: Path, codec: str = "libx264", rotation: int = 0, size: tuple[int, int] = (96, 64)):
    """A second of a bright square that goes to the right, on frames of this width and height."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(FRAMES))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(FRAMES):
            pixels = np.full((size[1], size[0], 3), 40, np.uint8)
            pixels[4:20, number * 2 : number * 2 + 16] = 230
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode())
    return path


def read(source: Path | str, every: int = 1) -> tuple[list[Any], str]:
    with Video(str(source), every) as video:
        return list(video.frames()), video.problem


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    blocks = BasicBlocks(**tiny_models.BLOCKS)
    model = RetinaNet(**tiny_models.DETECTOR | {"backbone": blocks, "score_threshold": 0.0})
    save_student(model.eval(), folder, classes=list("abcde"))
    return folder


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_frames_come_with_their_numbers_and_times(name: str) -> None:
    film(Path(name), "mpeg4" if name.endswith("avi") else "libx264")
    frames, problem = read(name)
    assert problem == ""
    assert [frame.number for frame, _ in frames] == list(range(FRAMES))
    times = torch.tensor([frame.time for frame, _ in frames])
    assert torch.allclose(times - times[0], torch.arange(FRAMES) / FRAMES, atol=2e-3)
    assert str(frames[3][0]).startswith(f"{name}#t=0.1")
    pixels = frames[20][1]
    assert (pixels.shape, pixels.dtype) == ((3, 64, 96), torch.uint8)
    assert pixels[:, 8:16, 44:52].min() > 200
    assert pixels[:, 40:, :20].max() < 60


def test_every_so_many_th_frame_is_given() -> None:
    film(Path("a.mp4"))
    frames, problem = read("a.mp4", every=10)
    assert [frame.number for frame, _ in frames] == [0, 10, 20]
    assert problem == ""


def test_a_video_that_lies_on_its_side_is_seen_upright() -> None:
    frames, _ = read(film(Path("a.mp4"), rotation=90))
    pixels = frames[0][1]
    assert pixels.shape == (3, 96, 64)
    bright = (pixels[0] > 180).nonzero()
    # A quarter turn counter-clockwise brings the upper left corner to the lower left one.
    assert bright[:, 0].min() > 70
    assert bright[:, 1].max() < 25


def test_frames_come_in_batches() -> None:
    film(Path("a.mkv"))
    with Video("a.mkv") as video:
        batches = frame_batches(video, unchanged, 5)
        first = next(batches)
        assert [each.path.number for each in first] == [0, 1, 2, 3, 4]
        assert [len(batch) for batch in batches] == [5, 5, 5, 4]


def cut(name: str, codec: str = "libx264") -> Path:
    """The first half of the file of a video of 12 seconds."""
    with av.open(name, "w") as out:
        stream = out.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(12):
            pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode())
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])
    return Path(name)


def test_what_is_missing_of_a_video_is_told_and_the_rest_is_kept() -> None:
    frames, problem = read(cut("a.avi", "mpeg4"))
    assert 0 < len(frames) < 12
    assert f"a.avi: the last {12 - len(frames)} of its 12 frames are missing" in problem
    frames, problem = read(cut("a.mkv"))  # which states no number of frames
    assert 2 < len(frames) < 9
    assert f"a.mkv: it breaks off at {frames[-1][0].time:.1f} s of 12.0 s" in problem
    path = cut("a.mp4")  # whose index stands at its end
    with pytest.raises(VideoError, match=r"a\.mp4 cannot be opened as a video"):
        Video(str(path))


def test_damaged_frames_are_told_and_the_others_are_kept() -> None:
    content = bytearray(film(Path("a.mp4")).read_bytes())
    start = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 3
    content[start : start + 60] = bytes(60)
    Path("a.mp4").write_bytes(content)
    frames, problem = read("a.mp4")
    assert FRAMES // 2 < len(frames) < FRAMES
    assert f"{FRAMES - len(frames)} frames are damaged and were left out" in problem


def test_the_video_of_drawn_frames_is_a_second_long_and_says_whose_it_is() -> None:
    with Film(Path("out.mp4"), Fraction(FRAMES), "limbeck predict") as out:
        for number in range(FRAMES):
            shade = PIL.Image.new("RGB", (65, 49), (number * 8, 0, 0))
            out.add(shade, 100 + number / FRAMES)
    frames, problem = read("out.mp4")
    assert (len(frames), problem) == (FRAMES, "")
    assert frames[0][1].shape == (3, 48, 64)
    assert frames[-1][0].time == pytest.approx(1 - 1 / FRAMES, abs=1e-3)
    assert film_software(Path("out.mp4")) == "limbeck predict"
    assert film_software(film(Path("other.mp4"))) is None
    Path("none.mp4").write_bytes(b"none")
    assert film_software(Path("none.mp4")) is None


def test_a_detector_draws_a_video_and_writes_what_it_found(detector: Path) -> None:
    film(Path("a.mkv"))
    words: dict[str, Any] = {"threshold": 0.0, "batch_size": 4, "every": 8, "to": "csv"}
    for _ in range(2):  # the second call replaces what the first one wrote
        predict(detector, ["a.mkv"], Path("out"), **words)
    found = json.loads(Path("out/predictions.json").read_text())
    assert list(found) == [f"a.mkv#t={n / FRAMES:.3f}&frame={n}" for n in (0, 8, 16)]
    with Path("out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(map(len, found.values())) > 0
    first = found["a.mkv#t=0.000&frame=0"][0]
    assert (rows[0]["image"], rows[0]["frame"], rows[0]["class"]) == ("a.mkv", "0", first["class"])
    assert [float(rows[0][side]) for side in ("x1", "y1", "x2", "y2")] == first["box"]
    drawn, _ = read("out/a.mp4")
    assert [frame.time for frame, _ in drawn] == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-3)


def test_a_call_goes_on_after_a_video_that_is_none(detector: Path) -> None:
    Path("no.mp4").write_bytes(b"no video")
    film(Path("a.mkv"))
    with pytest.raises(ValueError, match=r"no\.mp4 cannot be opened as a video"):
        predict(detector, ["no.mp4", "a.mkv"], every=12)
    assert len(json.loads(Path("predictions/predictions.json").read_text())) == 2


def test_a_video_of_somebody_else_is_not_replaced(detector: Path) -> None:
    film(Path("a.mkv"))
    before = film(Path("a.mp4")).read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.mp4 is there, and is no result"):
        predict(detector, ["a.mkv"], Path())
    with pytest.raises(FileExistsError, match=r"a\.mp4 would replace the image a\.mp4"):
        predict(detector, ["a.mp4"], Path())
    assert Path("a.mp4").read_bytes() == before
    with pytest.raises(ValueError, match="--to yolo is a layout of image files"):
        predict(detector, ["a.mkv"], to="yolo")


def test_a_device_of_ffmpeg_s_is_watched(detector: Path) -> None:
    """Generated pictures stand for a camera, which is opened in the same way."""
    camera = "lavfi:testsrc=size=64x64:rate=5:duration=1"
    predict(detector, [camera])
    found = json.loads(Path("predictions/predictions.json").read_text())
    assert list(found)[-1] == f"{camera}#t=0.800&frame=4"
    with pytest.raises(VideoError, match="v4l2:/dev/nowhere cannot be opened as a video"):
        Video("v4l2:/dev/nowhere")


@contextmanager
def served() -> Iterator[str]:
    """The folder at hand at an address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path.cwd()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_watched_and_its_password_is_not_kept() -> None:
    film(Path("a.mkv"))
    with served() as host:
        frames, problem = read(f"http://me:secret@{host}/a.mkv")
    assert (len(frames), problem) == (FRAMES, "")
    assert frames[0][0].video == f"http://{host}/a.mkv"


def test_videos_are_known_by_their_names() -> None:
    known = ["a.mp4", "a.MOV", "rtsp://host/1", "v4l2:/dev/video0", "dshow:video=Camera"]
    assert all(map(is_video, known))
    assert not any(map(is_video, ["a.jpg", "folder", "C:\\a.png", "a.gif", "list.txt"]))
    assert shown_name("rtsp://me:secret@host/1") == "rtsp://host/1"
    assert shown_name("a@b.mp4") == "a@b.mp4"
