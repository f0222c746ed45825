"""The outputs of ``limbeck predict``: what is written of each image, and where."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

from limbeck.commands.inputs import Inputs
from limbeck.commands.labelled import SPLIT, contents_of_pieces, piece_of, refuse_unnamed
from limbeck.commands.layouts import tell_written, written_with_bar
from limbeck.commands.outputs import refuse_used_folder
from limbeck.commands.predicting import Seen, written_detections
from limbeck.commands.results import (
    RESULTS,
    SOFTWARE,
    TABLE,
    Results,
    Table,
    picture_files,
    refuse_replacing,
)
from limbeck.commands.students import Student
from limbeck.commands.video import FILM, Film, shown_name
from limbeck.data.written import Source
from limbeck.report import detection_picture
from limbeck.report.drawing import drawn

To = Literal["coco", "voc", "yolo", "csv"]


class Predicted:
    """The files that a call writes. What may not be replaced is refused before the first one.

    Args:
        student: The student.
        inputs: What it looks at.
        output: The folder of the files.
        suffix: The suffix of pictures.
        to: What is written beside predictions.json, see :func:`limbeck.commands.predict.predict`.

    Attributes:
        count: The number of images that were looked at.
        done: The number of those that have results.
        problems: What the user is told at the end, a sentence or more each.

    Raises:
        FileExistsError: A file would replace an image, or what is no earlier result.
        ValueError: The student or the inputs have nothing that the layout takes.
    """

    def __init__(
        self, student: Student, inputs: Inputs, output: Path, suffix: str, to: To | None
    ) -> None:
        self.student, self.inputs, self.output, self.to = student, inputs, output, to
        self.count, self.done = 0, 0
        self.problems: list[str] = []
        self._pieces: dict[str, Any] = {}
        self._pictures: dict[Path, Path] = {}
        self._films: dict[str, Path] = {}
        self._layout = None if to == "csv" else to
        if self._layout:
            self._refuse_layout(self._layout)
        self._detects = student.task == "detection"
        if self._detects:
            videos = {source: Path(shown_name(source)) for source in inputs.videos}
            self._pictures = picture_files(inputs.files, output, suffix)
            films = picture_files([*videos.values()], output, FILM)
            self._films = {source: films[path] for source, path in videos.items()}
        written = [output / RESULTS] + [output / TABLE] * (to == "csv")
        drawings = [*self._pictures.values(), *self._films.values()]
        refuse_replacing([*inputs.files, *map(Path, inputs.videos)], [*drawings, *written])

    def _refuse_layout(self, to: str) -> None:
        if self.student.task != "detection":
            raise ValueError(f"--to {to} is for detectors; of a classifier there is --to csv.")
        refuse_unnamed(self.student.source, self.student.classes, "Give --to csv")
        if self.inputs.videos:
            raise ValueError(
                f"--to {to} is a layout of image files, which the frames of "
                f"{shown_name(self.inputs.videos[0])} are not. Give --to csv, or save the frames "
                "as images first."
            )
        refuse_used_folder(self.output / to, f"--to {to}:")

    def __enter__(self) -> Self:
        """Make the folder, and open the files of results."""
        self.output.mkdir(parents=True, exist_ok=True)
        self._opened = ExitStack()
        self._results = self._opened.enter_context(Results(self.output / RESULTS))
        self._table: Table | None = None
        if self.to == "csv":
            self._table = self._opened.enter_context(Table(self.output / TABLE))
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the files of results."""
        self._opened.__exit__(*error)

    def film(self, source: str, rate: Fraction) -> Film | None:
        """The video that is drawn of a video; None where none is, as of a classifier.

        Args:
            source: The video.
            rate: The number of frames in a second that are looked at.
        """
        return Film(self._films[source], rate, SOFTWARE) if source in self._films else None

    def add(self, seen: Sequence[Seen], film: Film | None = None) -> None:
        """Write what was found on a batch of images, after their pictures.

        Args:
            seen: The images.
            film: Where frames are drawn. Default (None): the images are files, or are not drawn.
        """
        self.count += len(seen)
        answered = [each for each in seen if each.image is not None]
        found = dict(self._written(answered, film))
        self.done += len(found)
        self._results.add({str(each.path): found[each.path] for each in answered})
        for each in answered:
            if self._table:
                self._table.add(each.path, found[each.path])
            if self._layout:
                self._pieces[str(each.path)] = piece_of(each)

    def _written(self, seen: Iterable[Seen], film: Film | None) -> Iterable[tuple[Any, Any]]:
        """What is written of each image; pictures and frames are drawn of what was detected."""
        classes = list(self.student.classes)
        for path, image, answer, _ in seen:
            assert image is not None
            if isinstance(path, Path) and path in self._pictures:
                out = self._pictures[path]
                detection_picture(image.cpu(), answer, classes, out, SOFTWARE)
            elif film is not None and not isinstance(path, Path):
                film.add(drawn(image, answer, classes), path.time)
            yield path, written_detections(answer, classes) if self._detects else answer

    def finish(self) -> None:
        """Write the dataset, where one is asked for, and tell what could not be done.

        Raises:
            ValueError: An image or a frame could not be read; all others are done.
        """
        if self._layout:
            contents = contents_of_pieces(self.inputs.files, self._pieces, self.student.classes)
            folder = self.output / self._layout
            written = written_with_bar({SPLIT: Source(contents)}, self._layout, folder)
            tell_written(written, folder, self._layout)
        if self.done < self.count:
            unreadable = self.count - self.done
            self.problems.insert(
                0,
                f"{unreadable} of {self.count} images could not be read, or were not taken by the "
                "model; each is named above.",
            )
        if self.problems:
            raise ValueError(" ".join(self.problems))
