"""The dataset WIDER FACE: one file of all faces of a split, with the images by event."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.files import without_companions
from limbeck.data.matlab import Value, read_matlab
from limbeck.data.orientation import BoxesOf
from limbeck.data.table import ImageTable, Objects
from limbeck.texts import read_text

Rows = NDArray[np.int64]  # one for each face of an image

COLUMNS = "x y w h blur expression illumination invalid occlusion pose"
KEPT = [0, 1, 2, 3, 7]  # x, y, w, h, invalid
SETTINGS = ("easy", "medium", "hard")


class WIDERFace(AnnotatedImages):
    """A split of WIDER FACE (Yang et al., CVPR 2016), whose one class is "face".

    ``torchvision.datasets.WIDERFace`` needs all splits whole, and knows nothing of the settings. A
    box in the files is x, y, width, height: ours is ``x, y, x + w, y + h``. Faces that are marked
    invalid, and those without width or height, have ``iscrowd`` 1. In evaluation all rows of a file
    stay in its order, as the benchmark's lists of counted faces refer to them; so does the row of
    zeros of an image without faces, of which the benchmark makes a face that is not counted.

    Args:
        root: The folder that holds ``WIDER_<split>/images`` and ``wider_face_split``. From the
            latter ``wider_face_<split>_bbx_gt.txt`` is read, or else ``wider_face_<split>.mat``.
        split: The split, "train" or "val".
        ground_truth: The folder of ``wider_easy_<split>.mat``, ``wider_medium_<split>.mat`` and
            ``wider_hard_<split>.mat``, which come with the benchmark's evaluation tools. Targets
            then have ``easy``, ``medium`` and ``hard``, bool (N,): the faces that count. None:
            targets have none of them.
        events: The events whose images are taken, such as ``["0--Parade"]``. None: all events.
        training: Whether to clip boxes, and to leave out faces with ``iscrowd`` 1, boxes with a
            side of less than one pixel, and images without faces.
        keep_images_without_boxes: Whether ``training`` keeps images without faces, as examples of
            background.
        boxes_of: The pixels that boxes are of, "stored" or "upright", in images with an EXIF
            orientation whose size does not tell; see :class:`AnnotatedImages`. Default (None): the
            stored ones, and the number of such images is logged.

    Raises:
        FileNotFoundError: The layout, the annotations, a list or an image is missing.
        ValueError: An annotation is malformed, an event is unknown, the lists are of other faces,
            or nothing is left to learn from.
    """

    unread = "blur, expression, illumination, occlusion and pose"

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        ground_truth: str | Path | None = None,
        events: Sequence[str] | None = None,
        training: bool = False,
        keep_images_without_boxes: bool = False,
        boxes_of: BoxesOf | None = None,
    ) -> None:
        file, faces = read_annotations(Path(root) / "wider_face_split", split)
        if events is not None:
            faces = _of_events(faces, events, file)
        faces = {name: faces[name] for name in without_companions(faces, file)}
        folder = Path(root) / f"WIDER_{split}" / "images"
        _check_images(folder, faces, file)
        lists = {} if ground_truth is None else read_lists(Path(ground_truth), split, faces)
        table = ImageTable.numbered(folder, faces, map(len, faces.values()), _objects(faces, lists))
        super().__init__(
            ("face",),
            table,
            source=file,
            training=training,
            keep_images_without_boxes=keep_images_without_boxes,
            boxes_of=boxes_of,
        )


def read_annotations(folder: Path, split: str) -> tuple[Path, dict[str, Rows]]:
    """Read what the file of a split says of the faces of each image.

    Args:
        folder: The folder ``wider_face_split``.
        split: The split, "train" or "val".

    Returns:
        The file, and the faces of each image by its name, ``event/name.jpg``: x, y, width, height
        and whether it is invalid, int64 (N, 5).

    Raises:
        FileNotFoundError: There is neither the text file nor MATLAB's.
        ValueError: The file is malformed.
    """
    text = folder / f"wider_face_{split}_bbx_gt.txt"
    matlab = folder / f"wider_face_{split}.mat"
    if text.is_file():
        return text, _read_text(text)
    if matlab.is_file():
        tables = _read_matlab(matlab, {"face_bbx_list": 4, "invalid_label_list": 1})
        return matlab, {name: np.hstack(columns) for name, columns in tables.items()}
    found = sorted(path.name for path in folder.glob("wider_face_*"))
    raise FileNotFoundError(
        f"{text} does not exist, nor does {matlab.name}; that folder has {found}. Give the root "
        "that holds wider_face_split and WIDER_<split>, and a split that is annotated"
    )


def read_lists(folder: Path, split: str, faces: Mapping[str, Rows]) -> dict[str, dict[str, Rows]]:
    """Read which faces count in each of the benchmark's three settings.

    Args:
        folder: The folder of ``wider_easy_<split>.mat`` and its like.
        split: The split of the faces.
        faces: The faces of each image, as ``read_annotations`` gives them, or of some of these
            images.

    Returns:
        The rows of the faces that count, from 0, by the setting and by the image.

    Raises:
        FileNotFoundError: A list is missing.
        ValueError: A list is malformed, or is of other images or faces.
    """
    return {
        setting: _counted(folder / f"wider_{setting}_{split}.mat", faces) for setting in SETTINGS
    }


def _read_text(path: Path) -> dict[str, Rows]:
    """The faces of each image in the text file.

    An image has a line with its name, one with the number of its faces, and one for each face, or
    one of zeros where it has none.
    """
    lines = read_text(path).splitlines()
    faces: dict[str, Rows] = {}
    start = 0
    while start < len(lines):
        place = f"{path}, line {start + 1}"
        name, count = lines[start].strip(), "".join(lines[start + 1 : start + 2]).strip()
        if "/" not in name or not count.isdecimal():
            raise ValueError(
                f"{place}: the image {name!r} has {count!r} faces; expected event/name.jpg, and in "
                "the next line a number. Copy the file again"
            )
        if name in faces:
            raise ValueError(f"{place}: {name} comes twice; expected it once: remove one")
        rows = lines[start + 2 : start + 2 + max(int(count), 1)]
        faces[name] = _numbers(rows, int(count), f"{place}: {name}")
        start += 2 + len(rows)
    return faces


def _numbers(lines: list[str], count: int, place: str) -> Rows:
    """The faces in the lines of one image, int64 (N, 5)."""
    try:
        rows = np.array([line.split() for line in lines], dtype=np.int64)
    except (ValueError, OverflowError):  # words, or lines of different lengths; numbers too long
        rows = np.zeros((0, 0), dtype=np.int64)
    if rows.shape != (max(count, 1), 10):
        raise ValueError(
            f"{place} has {count} faces, but what follows is not {max(count, 1)} lines of the 10 "
            f"integers {COLUMNS}. Copy the file again"
        )
    return rows[:, KEPT]


def _read_matlab(path: Path, tables: Mapping[str, int]) -> dict[str, list[Rows]]:
    """The tables of each image in a file of MATLAB's.

    ``tables`` has the number of columns of each by its name in the file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; it comes with the evaluation tools of WIDER FACE: add it, or "
            "leave out ground_truth"
        )
    try:
        content = read_matlab(path)
        return {
            f"{_text(event)}/{_text(file)}.jpg": [
                _table(_cell(content, table, row), column, width) for table, width in tables.items()
            ]
            for row, event in enumerate(_cells(content, "event_list"))
            for column, file in enumerate(_cells_of(_cell(content, "file_list", row), "file_list"))
        }
    except ValueError as error:
        raise ValueError(
            f"{path}: not a file of WIDER FACE ({error}); expected event_list, file_list and "
            f"{', '.join(tables)}. Copy it again"
        ) from error


def _cells(content: Mapping[str, Value], name: str) -> list[Any]:
    if name not in content:
        raise ValueError(f"it has no {name}, but {sorted(content)[:5]}")
    return _cells_of(content[name], name)


def _cells_of(value: Any, name: str) -> list[Any]:
    """The first column of an array of cells."""
    if not isinstance(value, np.ndarray) or (value.dtype != object and value.size):
        raise ValueError(f"its {name} is no array of cells")
    return list(value.reshape(len(value), -1, order="F")[:, 0]) if value.size else []


def _cell(content: Mapping[str, Value], name: str, row: int) -> Any:
    cells = _cells(content, name)
    if row >= len(cells):
        raise ValueError(f"its {name} has {len(cells)} cells, fewer than the list of events")
    return cells[row]


def _table(cells: Any, row: int, width: int) -> Rows:
    """The numbers of one image, int64 (N, width)."""
    of_image = _cells_of(cells, "table")
    value = of_image[row] if row < len(of_image) else None
    if not isinstance(value, np.ndarray) or value.dtype == object or value.size % width:
        raise ValueError(f"a face's table has no rows of {width} numbers")
    with np.errstate(invalid="ignore"):  # of what is no whole number, which is no box either
        return value.astype(np.int64).reshape(-1, width)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a name in it is no text")
    return value


def _counted(path: Path, faces: Mapping[str, Rows]) -> dict[str, Rows]:
    lists = _read_matlab(path, {"face_bbx_list": 4, "gt_list": 1})
    counted = {}
    for name, rows in faces.items():
        if name not in lists:
            raise ValueError(
                f"{path} does not list {name}; give the folder of the lists for these annotations"
            )
        boxes, indices = lists[name]
        if not np.array_equal(boxes, rows[:, :4]):
            raise ValueError(
                f"{path} has {len(boxes)} faces of {name}, the annotations {len(rows)}, or in "
                "another order; give the lists that were made for these annotations"
            )
        if indices.size and not 1 <= indices.min() <= indices.max() <= len(rows):
            raise ValueError(
                f"{path} counts the faces {indices.min()} to {indices.max()} of {name}; expected "
                f"1 to {len(rows)}. Copy it again"
            )
        counted[name] = indices[:, 0] - 1
    return counted


def _of_events(faces: dict[str, Rows], events: Sequence[str], file: Path) -> dict[str, Rows]:
    known = {name.split("/")[0] for name in faces}
    if unknown := [event for event in events if event not in known]:
        raise ValueError(
            f"events has {unknown[0]!r}, which is not among those of {file}: {sorted(known)}"
        )
    return {name: rows for name, rows in faces.items() if name.split("/")[0] in events}


def _check_images(folder: Path, faces: Mapping[str, Rows], file: Path) -> None:
    present = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}
    missing = [name for name in faces if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(faces)} images of {file} are not in {folder}, the first "
            f"is {missing[0]}; add them, or give the events whose images are there"
        )


def _objects(faces: Mapping[str, Rows], lists: Mapping[str, Mapping[str, Rows]]) -> Objects:
    """The objects of all images; ``lists`` has the rows of those that count in each setting."""
    table = torch.from_numpy(np.concatenate([np.zeros((0, len(KEPT)), np.int64), *faces.values()]))
    sides = table[:, 2:4]
    begins = dict(zip(faces, accumulate(map(len, faces.values()), initial=0), strict=False))
    attributes = {name: torch.zeros(len(table), dtype=torch.bool) for name in lists}
    for name, counted in lists.items():
        for image, indices in counted.items():
            attributes[name][torch.from_numpy(indices + begins[image])] = True
    return Objects(
        boxes=torch.cat([table[:, :2], table[:, :2] + sides], dim=1).float(),
        labels=torch.ones(len(table), dtype=torch.int64),
        area=sides.prod(dim=1).float(),
        iscrowd=((table[:, 4] != 0) | (sides < 1).any(dim=1)).long(),
        attributes=attributes,
    )
