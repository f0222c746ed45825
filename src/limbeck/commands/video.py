"""Videos and cameras, frame by frame, and videos of drawn frames; PyAV reads and writes them.

A video is never in memory as a whole. torchcodec, which was tried as well, decodes as fast, but
brings no FFmpeg, reads no camera, and writes no video frame by frame.
"""

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import PIL.Image
import torch

log = logging.getLogger(__name__)

INSTALL = "pip install 'limbeck[video]'"
SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
FILM = ".mp4"  # the suffix of a video of drawn frames
# FFmpeg's names for cameras, screens and generated pictures, by which `limbeck predict` knows them.
DEVICES = ("avfoundation", "dshow", "gdigrab", "lavfi", "v4l2", "x11grab")
SLACK = 1.0  # seconds by which the sound of a video may be longer than its pictures
TICKS = 90_000  # of a second, in which a written video counts its time
USUAL_RATE = 25
# The name and the password of an address, up to the last @ before its path. What follows a colon
# and is no port is a password as well, which then may hold all that begins a path.
_LOGIN = re.compile(r"(?<=://)(?:[^/?#]*|[^/?#:@\[]*:(?!\d*[/?#]).*)@")
# Of what follows the path, values that log in by what they are called, as many cameras take them.
_LOGIN_IN_QUERY = re.compile(
    r"([?&;][^=&;]*(?:auth|key|login|pass|pwd|secret|sig|token|user|usr)[^=&;]*=)[^&;]*", re.I
)


class Frame(NamedTuple):
    """A frame of a video, which stands in results in the place of an image file.

    Attributes:
        video: The video or the camera, without what logs in to it.
        number: The number of the frame in the video, from 0.
        time: When it is shown, in seconds.
    """

    video: str
    number: int
    time: float

    def __str__(self) -> str:
        """An address of the frame, which browsers and players know as a media fragment."""
        return f"{self.video}#t={self.time:.3f}&frame={self.number}"


def pyav() -> Any:
    """The library; an error says how it is installed."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(
            f"videos and cameras need the library PyAV ({error}). Install it: {INSTALL}."
        ) from error


def is_video(word: str) -> bool:
    """Whether a word is the path of a video, an address (``rtsp://...``), or ``device:name``."""
    known = word.lower().endswith(SUFFIXES) or "://" in word
    return known or word.partition(":")[0] in DEVICES


def shown_name(word: str) -> str:
    """A video as it is shown and kept: without the name and the password of an address."""
    return _LOGIN_IN_QUERY.sub(r"\1", _LOGIN.sub("", word)) if "://" in word else word


class VideoError(ValueError):
    """A video cannot be opened."""


class Video:
    """A video or a camera that is read frame by frame, and told what could not be.

    Args:
        source: A file, an address, or a device with its name, such as ``v4l2:/dev/video0``.
        every: Which frames are given: every so many-th, from the first one on.

    Attributes:
        name: What the video is called in results.
        rate: The number of frames in a second that are given.
        count: The number of frames that are given, as the video states it, or None.
        problem: What was wrong with the video, once its frames were read; "" where nothing was.

    Raises:
        VideoError: It cannot be opened, or has no pictures.
    """

    def __init__(self, source: str, every: int = 1) -> None:
        self.name, self.problem = shown_name(source), ""
        self._every, self._av = every, pyav()
        device, _, place = source.partition(":")
        try:
            if device in DEVICES:
                self._container = self._av.open(place, format=device)
            else:
                self._container = self._av.open(source)
        except (self._av.FFmpegError, ValueError) as error:  # one of a format that is unknown here
            raise VideoError(
                f"{self.name} cannot be opened as a video ({_said(error)}). Expected a video that "
                "FFmpeg reads and that is whole, or a device that is there and free."
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{self.name} has no pictures; expected a video. Give another one.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.guessed_rate or self._stream.average_rate or USUAL_RATE
        self.rate = Fraction(rate) / every
        self.count = -(-self._stream.frames // every) or None

    def __enter__(self) -> Self:
        """Begin; nothing is read yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the video or the camera."""
        self._container.close()

    def frames(self) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Read the video; what is damaged is left out, and stated as the problem at the end.

        Yields:
            The frames, each with its pixels, RGB uint8 (3, H, W), upright as the video says.
        """
        read = damaged = 0
        ended, end = "", 0.0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as error:
                ended, packet = _said(error), None
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except self._av.FFmpegError:
                damaged += 1
                continue
            for frame in decoded:
                number, read = read + damaged, read + 1
                end = float(number / self.rate / self._every if frame.time is None else frame.time)
                if frame.is_corrupt:
                    log.warning("%s: frame %d is damaged, and was looked at", self.name, number)
                if number % self._every == 0:
                    yield Frame(self.name, number, end), _pixels(frame)
        self.problem = self._problem(read, damaged, ended, end)

    def _problem(self, read: int, damaged: int, ended: str, end: float) -> str:
        """What is to be told of a video that was read to its end, or as far as it goes."""
        said = []
        if damaged:
            said.append(f"{damaged} frames are damaged and were left out")
        stated = self._stream.frames - read - damaged
        length = (self._container.duration or 0) / self._av.time_base
        if ended:
            said.append(f"it breaks off at {end:.1f} s ({ended})")
        elif self._stream.frames and stated > 0:
            said.append(f"the last {stated} of its {self._stream.frames} frames are missing")
        elif not self._stream.frames and length - end > SLACK:
            said.append(f"it breaks off at {end:.1f} s of {length:.1f} s")
        return f"{self.name}: {'; '.join(said)}. All other frames are done." if said else ""


class Film:
    """An MP4 of drawn frames, which is written as they come, and can be played after a kill.

    Args:
        target: The file. It is made with the first frame.
        rate: The number of frames in a second.
        software: The program that the file says it is from.
    """

    def __init__(self, target: Path, rate: Fraction, software: str) -> None:
        self._target, self._rate, self._software = target, rate, software
        self._av = pyav()
        self._container: Any = None
        self._stream: Any = None
        self._start, self._last = 0.0, -1

    def __enter__(self) -> Self:
        """Begin; nothing is written yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is still to be written, and close the file."""
        if self._container is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()

    def add(self, picture: PIL.Image.Image, time: float) -> None:
        """Write a frame.

        Args:
            picture: The frame. All are brought to the size of the first one.
            time: When it is shown, in seconds of the video that it is from.
        """
        if self._container is None:
            self._begin(picture.size, time)
        frame = self._av.VideoFrame.from_image(picture)
        self._last = max(self._last + 1, round((time - self._start) * TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _begin(self, size: tuple[int, int], time: float) -> None:
        self._start = time
        # In fragments, so that a process that is killed leaves what can be played.
        options = {"movflags": "frag_keyframe+empty_moov+use_metadata_tags"}
        self._container = self._av.open(str(self._target), "w", format="mp4", options=options)
        self._container.metadata["comment"] = self._software
        self._stream = self._container.add_stream("h264", rate=self._rate)
        self._stream.width, self._stream.height = (max(2, side // 2 * 2) for side in size)
        self._stream.pix_fmt = "yuv420p"  # whose colours are of 2 by 2 pixels
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        self._stream.codec_context.max_b_frames = 0  # which would shift the time of fragments


def film_software(path: Path) -> str | None:
    """The program that a video says it is from, or None."""
    library = pyav()
    with suppress(library.FFmpegError), library.open(str(path)) as container:
        comment: str | None = container.metadata.get("comment")
        return comment
    return None


def _said(error: BaseException) -> str:
    """What FFmpeg says, without the numbers of errors before it."""
    return str(getattr(error, "strerror", None) or error)


def _pixels(frame: Any) -> torch.Tensor:
    """A decoded frame, upright, uint8 RGB (3, H, W)."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
