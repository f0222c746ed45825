"""``limbeck new``: recipes that run as they are, for a folder of data."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.commands.checks import refuse_impossible
from limbeck.commands.outputs import refuse_used_folder
from limbeck.commands.parsing import VerbParser
from limbeck.commands.starting.measured import Measured, measured
from limbeck.commands.starting.methods import made_for
from limbeck.commands.starting.recipes import FILES, Beginning
from limbeck.commands.stated import stated_in
from limbeck.comparison import read_comparison
from limbeck.names import escaped
from limbeck.terminal import say
from limbeck.whole import folder_written_whole

log = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck new``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck new", allow_abbrev=False)
    parser.add_function_arguments(new, as_positional=True)
    new(**parser.parse_args(arguments[1:]).as_dict())


def new(
    data: Path,
    folder: Path,
    teacher: str | None = None,
    student: str | None = None,
    method: str | None = None,
) -> None:
    """Write recipes for a folder of data: a teacher, a student, what distils it, and a comparison.

    The layout of the data is recognised; image size, anchors, batch size and schedule are chosen by
    them. Each file says why it states what it does, and what to change. Nothing is downloaded.

    Args:
        data: The folder of the data: COCO's layout, VOC's, YOLO's, KITTI's, WIDER FACE's, or a
            folder of images for each class. Or the YAML file of YOLO's that describes them.
        folder: A new or empty folder for the four files.
        teacher: The teacher: a detector such as retinanet-resnet50 or
            retinanet-timm:tf_efficientnet_lite2, one of LibreYOLO's such as yolox-m, a classifier
            of torchvision's or timm's such as resnet50, a transformer detector by its name on the
            hub of Hugging Face or by its folder, or the folder of a student or of a run. Default
            (None): retinanet-resnet50, or resnet50.
        student: The student, named in the same ways; a trunk called light, as in retinanet-light,
            is trained from scratch. Default (None): retinanet-resnet18, or resnet18.
        method: The method. Default (None): FitNet for detection, KD for classification.
    """
    refuse_used_folder(folder, "folder")
    found = measured(data)
    chosen = Beginning.of(found, folder, teacher, student, method)
    write(folder, chosen.texts())
    _show(found, chosen)


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the files into a folder, all of them or none, after limbeck has parsed them.

    Args:
        folder: The folder, which is new or empty.
        texts: The contents of the files by their names.

    Raises:
        OSError: They cannot be written.
    """
    with folder_written_whole(folder) as beside:
        for name, text in texts.items():
            (beside / name).write_text(text, encoding="utf-8", newline="")
        teacher, student, distilled, comparison = (str(beside / name) for name in FILES)
        for recipes in ([teacher], [student], [student, distilled]):
            refuse_impossible(stated_in(recipes), "fit")
        read_comparison(Path(comparison))


def _show(data: Measured, chosen: Beginning) -> None:
    """Say what was found, what was written, and what to do now."""
    objects = f", {len(data.objects):,} objects" if len(data.objects) else ""
    say(
        f"{data.layout.name}: {data.images:,} training images{objects}, {len(data.classes)} "
        f"classes ({', '.join(data.classes[:8])}{', ...' if len(data.classes) > 8 else ''})."
    )
    say(data.splits.why)
    say(
        f"{chosen.teacher.word} teaches {chosen.student.word} with {chosen.name}. Written to "
        f"{chosen.folder}: {', '.join(FILES)}; each value has its reason above it."
    )
    if made := made_for(chosen.name, chosen.teacher, chosen.student):
        say(f"{chosen.name} suits most pairs. {made} is made for this one: --method {made}.")
    _warn(data, chosen)
    say("Now train and compare all of it, or see first how long that takes:")
    say(f"  {chosen.compare} --dry-run\n  {chosen.compare}", soft_wrap=True)


def _warn(data: Measured, chosen: Beginning) -> None:
    """Say what is written as it was asked for, and may not be meant."""
    teacher, student = chosen.teacher, chosen.student
    if {teacher.form, student.form} == {"fixed", "letterbox"}:
        log.warning(
            "One of %s and %s stretches images to its frame, and the other keeps their aspect "
            "where it is measured. Both are trained on stretched images, which costs the other one "
            "accuracy.",
            teacher.word,
            student.word,
        )
    if (student.count or 0) >= (teacher.count or math.inf):
        log.warning(
            "The student has %s, and the teacher has %s: nothing would become smaller. Name a "
            "larger teacher or a smaller student.",
            student.parameters,
            teacher.parameters,
        )
    if untaught := data.untaught:
        log.warning(
            "No training image has an object of %s: the models get an output for it that nothing "
            "teaches. Add images, or take the class out of the annotations (such as the one that "
            "Roboflow puts first in files of COCO).",
            ", ".join(map(escaped, untaught)),
        )
