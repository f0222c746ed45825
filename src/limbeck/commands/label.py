"""``limbeck label``: a teacher's detections as annotations, from which students can learn."""

import glob
import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import torch

from limbeck import __version__
from limbeck.commands.ending import ended_in_words
from limbeck.commands.inputs import LIST, once
from limbeck.commands.journal import Journal
from limbeck.commands.label_teacher import Teacher, teacher_of
from limbeck.commands.label_thresholds import labelled_images, thresholds_of, with_names
from limbeck.commands.labelled import SPLIT, contents_of_pieces, piece_of
from limbeck.commands.layouts import To, tell_written, written_with_bar
from limbeck.commands.outputs import refuse_used_folder
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import (
    ImageFiles,
    Viewer,
    chosen_device,
    detect,
    image_loader,
)
from limbeck.commands.video import is_video, shown_name
from limbeck.data import Images
from limbeck.data.files import SUFFIXES, is_companion, is_image
from limbeck.data.written import Source
from limbeck.ranges import COUNT, SHARE, Range, refuse_outside

log = logging.getLogger(__name__)

RANGES = {"score": SHARE, "batch_size": COUNT, "workers": Range(0)}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck label``. Its images are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck label", allow_abbrev=False)
    parser.add_argument(
        "teacher", type=Path, help="A student's folder, a run's folder, or a recipe with a teacher."
    )
    parser.add_argument("images", nargs="+", type=str, help="Folders, lists, image files, globs.")
    parser.add_function_arguments(label, skip={"teacher", "images"})
    with ended_in_words("label"):
        label(**parser.parse_args(arguments[1:]).as_dict())


def label(
    teacher: Path,
    images: list[str],
    to: To,
    output: Path,
    labelled: str | None = None,
    score: float | None = None,
    trust: bool = False,
    device: str | None = None,
    batch_size: int = 1,
    workers: int = 0,
) -> None:
    """Label images with what a detector finds on them, as data to train on.

    A call that was killed goes on where it was: what is done stands in a file beside the output,
    which is there whole or not at all. The images are not copied, unless the disk takes no second
    names for them.

    Args:
        teacher: A student's folder, a run's folder, or a recipe (.yaml) with a teacher.
        images: Folders with images in them and below, text files that list images, image files, or
            patterns such as "photographs/**/*.jpg".
        to: The layout of the result.
        output: The folder of the result, which is not there yet, or is empty.
        labelled: Labelled images, as a folder of data or a recipe. The teacher is first measured on
            their split "val", or the only one, and for each class that score becomes the threshold
            with which F1 is the greatest, at an IoU above 0.5. Default (None): there are none.
        score: The lowest score of a label; with --labelled, of the classes without an object there.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere, or to open an exported file of PyTorch's
            (.pt2, .pt). Its code then runs.
        device: The device of the teacher: cpu, cuda, cuda:1, mps. Default: the GPU where there is
            one.
        batch_size: The number of images that the teacher sees at once.
        workers: The number of processes that read images. With 0, they are read in between.

    Raises:
        FileExistsError: Something is in the output folder, or it was begun with other arguments.
        ValueError: The classes are others than those of the labelled images, there is neither
            --labelled nor --score, or an image could not be read: all others are labelled.
    """
    refuse_outside(RANGES, {"score": score, "batch_size": batch_size, "workers": workers}, "--")
    refuse_used_folder(output, "--output")
    if labelled is None and score is None:
        raise ValueError(
            "there is neither --labelled nor --score. Expected labelled images, on which the "
            "lowest score of each class is chosen, or one score for all. Give one of them."
        )
    paths = images_of(images)
    place = chosen_device(device)
    dataset = None if labelled is None else labelled_images(labelled)
    known = with_names(teacher_of(teacher, trust=trust), dataset, labelled)
    known.model.to(place)
    loading = {"batch_size": batch_size, "workers": workers, "device": place}
    work = {
        "teacher": known.sha256,
        "classes": list(known.classes),
        "labelled": labelled,
        "score": score,
        "images": _digest(paths),
    }
    begin = partial(thresholds_of, known, dataset, score, loading)
    with Journal(output.with_name(f"{output.name}.unfinished"), work, begin) as journal:
        _label(known, paths, journal, loading)
        source = Source(contents_of_pieces(paths, journal.done, known.classes))
        info = {
            "limbeck": __version__,
            "teacher": {"source": known.source, "sha256": known.sha256},
            "labelled": labelled,
            **journal.start,
        }
        tell_written(written_with_bar({SPLIT: source}, to, output, info), output, to)
        journal.remove()
    unreadable = len(paths) - len(journal.done)
    if unreadable:
        raise ValueError(
            f"{unreadable} of {len(paths)} images could not be read, or were not taken by the "
            "model; each is named above."
        )


def images_of(words: Sequence[str]) -> list[Path]:
    """Find images.

    Args:
        words: Folders, whose images are taken with those of all folders in them; text files
            (``.txt``) that list images; image files; and patterns.

    Returns:
        The image files, each once.

    Raises:
        FileNotFoundError: A word stands for no image.
        ValueError: A word is a video.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if is_video(word):
            raise ValueError(f"{shown_name(word)} is a video; expected images. Leave it out.")
        if path.is_dir() or (path.is_file() and path.suffix.lower() == LIST):
            found += map(Path, Images(path).paths)
            continue
        # Path.glob takes no pattern that begins at the root.
        named = [word] if path.is_file() else sorted(glob.glob(word, recursive=True))  # noqa: PTH207
        of_word = [
            p for p in map(Path, named) if is_image(p) and not is_companion(PurePath(p.name))
        ]
        if not of_word:
            raise FileNotFoundError(
                f"{shown_name(word)} stands for no image; expected a folder, a text file "
                f"({LIST}) with the path of one image a line, an image file "
                f"({' '.join(SUFFIXES)}), or a pattern such as 'photographs/**/*.jpg'. Give one of "
                "them."
            )
        found += of_word
    return once(found)


def _digest(paths: Sequence[Path]) -> str:
    names = "\n".join(map(str, paths)).encode(errors="surrogateescape")
    return f"{len(paths)} images, {hashlib.sha256(names).hexdigest()[:16]}"


def _label(
    teacher: Teacher, paths: Sequence[Path], journal: Journal, loading: Mapping[str, Any]
) -> None:
    """Look at the images that are not done yet, and note what is found."""
    lowest = {name: each["score"] for name, each in journal.start["thresholds"].items()}
    scores = [lowest[name] for name in teacher.classes]
    least = torch.tensor([torch.inf] + [torch.inf if s is None else s for s in scores])
    files = ImageFiles([p for p in paths if str(p) not in journal.done], teacher.transform)
    ask = partial(detect, teacher.model, threshold=float(least.min().clamp(max=1)))
    viewer = Viewer(teacher.model, loading["device"], ask, "teacher")
    for seen in viewer.through(image_loader(files, **loading), len(files)):
        pieces = {str(each.path): piece_of(each, least) for each in seen if each.image is not None}
        journal.add(pieces)
