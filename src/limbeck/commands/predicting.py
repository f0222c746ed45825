"""What a student, or an exported file, finds in images: loading them, and asking it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from limbeck.commands.video import Frame, Video
from limbeck.data.augmentation import Transform
from limbeck.data.base import BadSampleError, open_image, to_rgb
from limbeck.data.loading import DetectionBatch, scaled
from limbeck.data.orientation import upright
from limbeck.data.workers import belong_to_parent
from limbeck.frame import explained_size
from limbeck.terminal import progress_bar

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
FIELDS = ("labels", "scores", "boxes")


class Loaded(NamedTuple):
    """An image file, or a frame of a video, that was read.

    Attributes:
        path: The file, or the frame.
        pixels: The image as the student sees it, (3, H, W), RGB: uint8, or float32 in [0, 1]. None:
            it is unreadable.
        problem: Why it is unreadable.
    """

    path: Path | Frame
    pixels: Tensor | None
    problem: str = ""


class LoadedBatch(list[Loaded]):
    """The image files of a batch, whose pixels come from a worker in one piece of shared memory.

    Each tensor that is sent by itself would take a file descriptor, of which a process has 1024.
    """

    def __reduce__(self) -> tuple[Callable[..., "LoadedBatch"], tuple[object, ...]]:
        """Part the pixels from the rest, and pack them."""
        pixels = [each.pixels for each in self if each.pixels is not None]
        if len({image.dtype for image in pixels}) > 1:
            pixels = scaled(pixels)
        packed = DetectionBatch(pixels, []) if pixels else None
        rest = [(each.path, each.pixels is None, each.problem) for each in self]
        return _put_together, (packed, rest)


def _put_together(
    packed: DetectionBatch | None, rest: Sequence[tuple[Path | Frame, bool, str]]
) -> LoadedBatch:
    pixels = iter(packed.images if packed else ())
    return LoadedBatch(
        Loaded(path, None if unreadable else next(pixels), problem)
        for path, unreadable, problem in rest
    )


class ImageFiles(Dataset[Loaded]):
    """Image files, which are turned upright and transformed when they are read.

    Args:
        paths: The files.
        transform: The transform of each image, which gives uint8, or float32 in [0, 1].
    """

    def __init__(self, paths: Sequence[Path], transform: Transform) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        """The number of files."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Loaded:
        """Read a file; one that is damaged, or that the transform refuses, has a problem."""
        path = self.paths[index]
        try:
            with open_image(path) as opened:
                image = to_rgb(upright(opened))
        except BadSampleError as error:
            return Loaded(path, None, str(error))
        return _transformed(path, image, self.transform)


def _transformed(path: Path | Frame, image: Tensor, transform: Transform) -> Loaded:
    """An image as the model is to see it; one that the transform refuses has a problem."""
    try:
        return Loaded(path, transform(image).as_subclass(Tensor))
    except ValueError as error:
        return Loaded(path, None, f"{path}: {error}")


def image_loader(
    files: Dataset[Loaded], batch_size: int, workers: int, device: torch.device
) -> DataLoader[Loaded]:
    """The batches of image files, in their order.

    Args:
        files: The files, such as :class:`ImageFiles`.
        batch_size: The number of images of a batch, at most.
        workers: The number of processes that read them; with 0 this one does.
        device: Where the images go.

    Returns:
        The loader, which gives a list of :class:`Loaded` for each batch.
    """
    return DataLoader(
        files,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=LoadedBatch,
        pin_memory=device.type == "cuda",
        worker_init_fn=belong_to_parent,
    )


def frame_batches(video: Video, transform: Transform, batch_size: int) -> Iterator[list[Loaded]]:
    """The frames of a video in batches, as they are decoded.

    Args:
        video: The video.
        transform: The transform of each frame, which gives uint8, or float32 in [0, 1].
        batch_size: The number of frames of a batch, at most.

    Yields:
        The frames of each batch.
    """
    frames = (_transformed(frame, pixels, transform) for frame, pixels in video.frames())
    while batch := list(islice(frames, batch_size)):
        yield batch


def chosen_device(name: str | None) -> torch.device:
    """The device of a name, or the GPU where there is one.

    Args:
        name: The name, as torch has it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``. None: the GPU where
            there is one, otherwise the CPU.

    Returns:
        The device.

    Raises:
        ValueError: This machine has no such device.
    """
    there = ["cpu"]
    gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if gpu is not None:
        numbers = range(torch.accelerator.device_count())
        there += [gpu.type, *(f"{gpu.type}:{number}" for number in numbers)]
    if name is None:
        return torch.device("cpu" if gpu is None else gpu.type)
    if name not in there:
        raise ValueError(
            f"--device {name}: this machine has {', '.join(there)}. Name one of these, or leave "
            "--device out, which takes the GPU where there is one."
        )
    return torch.device(name)


_USUAL = (320, 320)  # px, of which every network that takes several sizes takes this one


def answers(
    ask: Callable[[list[Tensor]], list[Answer]],
    model: nn.Module,
    images: list[Tensor],
    side: str = "student",
) -> list[Answer | ValueError]:
    """Ask a model about a batch, or about each image by itself where it refuses the batch.

    Args:
        ask: Gives the model's answer for each of some images.
        model: The model, for the message about a size that it does not take.
        images: The images, each (3, H, W), one at least.
        side: What the model is to the user, for that message.

    Returns:
        The answer for each image, or the error with which the model refuses it.
    """
    try:
        with explained_size(side, model, images):
            return [*ask(images)]
    except (AssertionError, RuntimeError, ValueError) as error:
        if len(images) > 1:
            return [answer for image in images for answer in answers(ask, model, [image], side)]
        if isinstance(error, ValueError):
            return [error]
        if isinstance(error, torch.OutOfMemoryError) or not _answers_else(ask, images[0]):
            raise
        return [ValueError(_one_line(error))]


def _answers_else(ask: Callable[[list[Tensor]], Any], image: Tensor) -> bool:
    """Whether a model answers for an image of a usual size: else it is at fault, and not images."""
    try:
        ask([image.new_zeros(3, *_USUAL)])
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


class Seen(NamedTuple):
    """An image that a model was shown.

    Attributes:
        path: Its file, or the frame of a video that it is.
        image: The image as the model saw it, (3, H, W), float32 in [0, 1], on the model's device.
            None: it is unreadable, or the model does not take it.
        answer: The model's answer.
        problem: Why there is none.
    """

    path: Path | Frame
    image: Tensor | None
    answer: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Viewer:
    """A model that looks at image files, batch by batch.

    Attributes:
        model: The model, in evaluation mode.
        device: Where it is.
        ask: Gives the model's answer for each of some images.
        side: What the model is to the user, for messages.
    """

    model: nn.Module
    device: torch.device
    ask: Callable[[list[Tensor]], list[Any]]
    side: str = "student"

    def through(self, batches: Iterable[list[Loaded]], count: int | None) -> Iterator[list[Seen]]:
        """Look at all images, with a bar; what has no answer is logged.

        Args:
            batches: The images, batch by batch.
            count: The number of images. None: nobody knows it.

        Yields:
            What was seen of each batch, in the order of the images.
        """
        batches = iter(batches)  # which starts the workers, before the bar has a thread
        done = "{task.completed:.0f}" + ("" if count is None else " of {task.total:.0f}")
        with progress_bar("images", done) as bar:
            task = bar.add_task("", total=count)
            for batch in batches:
                seen = self.look(batch)
                for each in seen:
                    if each.problem:
                        log.error("%s", each.problem)
                yield seen
                bar.advance(task, len(batch))

    def look(self, batch: Sequence[Loaded]) -> list[Seen]:
        """Look at a batch.

        Args:
            batch: The images.

        Returns:
            What was seen of each image, in their order.

        Raises:
            ValueError: The batch does not fit into the memory of the device.
        """
        found = iter(self._answers([each.pixels for each in batch if each.pixels is not None]))
        seen = []
        for path, pixels, problem in batch:
            if pixels is None:
                seen.append(Seen(path, None, problem=problem))
                continue
            image, answer = next(found)
            if isinstance(answer, ValueError):
                seen.append(Seen(path, None, problem=f"{path}: {answer}"))
            else:
                seen.append(Seen(path, image, answer))
        return seen

    def _answers(self, pixels: list[Tensor]) -> list[tuple[Tensor, Any]]:
        """Each image as the model sees it, and the answer for it."""
        if not pixels:
            return []
        try:
            images = scaled([image.to(self.device, non_blocking=True) for image in pixels])
            return [*zip(images, answers(self.ask, self.model, images, self.side), strict=True)]
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{len(pixels)} images at once do not fit into the memory of {self.device} "
                f"({error}). Give a smaller --batch_size, or --device cpu."
            ) from error


@torch.inference_mode()
def detect(model: nn.Module, images: list[Tensor], threshold: float) -> list[dict[str, Tensor]]:
    """Detect objects in some images.

    Args:
        model: A detector in evaluation mode.
        images: The images, each (3, H, W), RGB in [0, 1], on the device of the model.
        threshold: The lowest score of a detection that is kept.

    Returns:
        The ``boxes`` (N, 4), xyxy in pixels, the ``labels`` (N,) from 1 and the ``scores`` (N,) of
        each image, on the CPU.
    """
    every = [{name: found[name].cpu() for name in FIELDS} for found in model(images)]
    # Label 0 is the slot that torchvision's detectors leave unused, and may yet predict.
    kept = [(found["scores"] >= threshold) & (found["labels"] > 0) for found in every]
    return [
        {name: value[rows] for name, value in found.items()}
        for found, rows in zip(every, kept, strict=True)
    ]


@torch.inference_mode()
def classify(
    model: nn.Module, images: list[Tensor], classes: list[str]
) -> list[list[dict[str, Any]]]:
    """Classify some images, those of different sizes one by one.

    Args:
        model: A classifier in evaluation mode.
        images: The images, each (3, H, W), RGB in [0, 1], on the device of the model.
        classes: The class names; where there are none, classes are numbers from 0.

    Returns:
        Of each image the five likeliest classes, each with its probability as ``score``.
    """
    if len({image.shape for image in images}) > 1:
        return [found for image in images for found in classify(model, [image], classes)]
    likeliest = (of_image.softmax(0) for of_image in model(torch.stack(images)).cpu())
    return [
        [
            {"class": classes[i] if classes else i, "score": round(score, 4)}
            for score, i in zip(*(each.tolist() for each in top), strict=True)
        ]
        for top in (shares.topk(min(5, len(shares))) for shares in likeliest)
    ]


def written_detections(found: dict[str, Tensor], classes: list[str]) -> list[dict[str, Any]]:
    """Turn detections into plain data.

    Args:
        found: The ``boxes`` (N, 4), ``labels`` (N,) and ``scores`` (N,) of one image.
        classes: The class names. Label ``i + 1`` is ``classes[i]``; where there are no names,
            classes are the labels.

    Returns:
        The ``class``, ``score`` and ``box`` of each detection.
    """
    rows = zip(*(found[key].tolist() for key in FIELDS), strict=True)
    return [
        {
            "class": classes[label - 1] if classes else label,
            "score": round(score, 4),
            "box": [round(side, 1) for side in box],
        }
        for label, score, box in rows
    ]
