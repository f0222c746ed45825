"""``limbeck predict``: a student, or an exported file, on images, videos and cameras."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

from limbeck.commands.inputs import inputs_of
from limbeck.commands.labelled import SameSize
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicted import Predicted, To
from limbeck.commands.predicting import (
    ImageFiles,
    Viewer,
    chosen_device,
    classify,
    detect,
    frame_batches,
    image_loader,
)
from limbeck.commands.results import RESULTS
from limbeck.commands.students import student_of
from limbeck.commands.video import Video, VideoError, pyav
from limbeck.data.written import LAYOUTS
from limbeck.ranges import COUNT, SHARE, Range, refuse_outside

log = logging.getLogger(__name__)

RANGES = {"threshold": SHARE, "batch_size": COUNT, "workers": Range(0), "every": COUNT}
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck predict``. Its images are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck predict", allow_abbrev=False)
    parser.add_function_arguments(predict, skip={"images"}, as_positional=True)
    told = "Image files, folders of them, lists of them (.txt), videos, addresses, device:name."
    parser.add_argument("images", nargs="+", type=str, help=told)
    predict(**parser.parse_args(arguments[1:]).as_dict())


def predict(
    student: Path,
    images: Sequence[str | Path],
    output: Path = Path("predictions"),
    threshold: float = 0.4,
    trust: bool = False,
    device: str | None = None,
    batch_size: int = 1,
    workers: int = 0,
    picture_format: Literal["png", "jpeg"] = "png",
    to: To | None = None,
    every: int = 1,
) -> None:
    """Run a student on images; write predictions.json and, for detectors, pictures.

    Photographs are turned upright as their EXIF orientation says; boxes are in the turned pixels.
    Pictures, predictions.json and predictions.csv of an earlier call are replaced; the folder of a
    dataset (`--to coco`, `voc`, `yolo`) has to be new, and any other file in the output folder is
    left alone. Results are written batch by batch.

    Args:
        student: The student's folder with student.safetensors and student.json, as `limbeck fit`
            exports it; the run's folder; a file of `limbeck export`, in whose runtime it runs; or
            hf:owner/name, a student on the hub of Hugging Face.
        images: Image files, folders of them, text files (.txt) that list them, videos, addresses of
            videos (rtsp://...), or cameras by FFmpeg's name of the device: v4l2:/dev/video0.
        output: The folder for the results.
        threshold: The lowest score that a detection must have to be written.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere, or to open an exported file of PyTorch's
            (.pt2, .pt). Its code then runs.
        device: The device of the student: cpu, cuda, cuda:1, mps. Default: the GPU where there is
            one.
        batch_size: The number of images that the student sees at once.
        workers: The number of processes that read images. With 0, they are read in between.
        picture_format: The format of the pictures. JPEGs are smaller, and faster to write.
        to: What is written beside predictions.json: a dataset in the layout of COCO, VOC or YOLO,
            in a folder of that name in the output, or predictions.csv. Default (None): nothing.
        every: Of a video, every so many-th frame is looked at.

    Raises:
        FileExistsError: A result would replace an image, or a file that is no earlier result.
        PermissionError: The output folder cannot be made, or not be written to.
        ValueError: An image could not be read: the results of the others are written. Or a number
            is out of its range, or this machine has no such device.
    """
    numbers = {"threshold": threshold, "batch_size": batch_size, "workers": workers, "every": every}
    refuse_outside(RANGES, numbers, "--")
    refuse_unwritable_target(output, "--output", folder=True)
    place = chosen_device(device)
    known = student_of(student, trust=trust)
    inputs = inputs_of(images)
    if inputs.videos:
        pyav()  # where it is missing, that is told before anything is done
    predicted = Predicted(known, inputs, output, SUFFIXES[picture_format], to)
    if known.task == "detection":
        ask: Callable[..., Any] = partial(detect, known.model, threshold=threshold)
    else:
        ask = partial(classify, known.model, classes=list(known.classes))
    viewer = Viewer(known.model.to(place), place, ask)
    transform = SameSize(str(student), known.transform) if to in LAYOUTS else known.transform
    with predicted:
        if inputs.files:
            files = ImageFiles(inputs.files, transform)
            for seen in viewer.through(image_loader(files, batch_size, workers, place), len(files)):
                predicted.add(seen)
        for source in inputs.videos:
            try:
                video = Video(source, every)
            except VideoError as error:
                predicted.problems.append(str(error))
                continue
            film = predicted.film(source, video.rate)
            with video, film or nullcontext():
                frames = frame_batches(video, transform, batch_size)
                for seen in viewer.through(frames, video.count):
                    predicted.add(seen, film)
            predicted.problems += [video.problem] if video.problem else []
    log.info("%d images: %s", predicted.done, output / RESULTS)
    predicted.finish()
