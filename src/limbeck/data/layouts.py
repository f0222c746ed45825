"""Which of the published layouts a folder is in, and how limbeck reads each of its splits."""

import json
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple, NoReturn

from limbeck.data.base import Task
from limbeck.data.files import is_companion, is_image
from limbeck.data.split_names import known_splits, role_of, spellings, split_of
from limbeck.data.voc import VOC
from limbeck.data.yolo import DESCRIPTION, SPLITS, YOLO, splits_there
from limbeck.texts import YAML_SUFFIXES, read_text, read_yaml

KNOWN = """\
COCO: a JSON file of instances, such as annotations/instances_train.json, and the images in train
VOC: a folder of XML files, such as Annotations, and one of images, such as JPEGImages
YOLO: a data.yaml with names, train and val
KITTI: training/image_2 and training/label_2
WIDER FACE: wider_face_split and WIDER_train/images
ImageFolder: a folder of images for each class, in train and val or without splits"""
WHOLE = "all"  # the name of the one split of data that are not divided
HELD_OUT = 0.2  # the share that VOC holds out, where there are no lists

_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_MOST_SHOWN = 12
_MAIN = "ImageSets/Main"  # where VOC itself has the lists of its splits

Split = Mapping[str, Any]  # a class_path and its init_args, as a recipe states them


@dataclass(frozen=True)
class Layout:
    """How a folder of data is read.

    Attributes:
        name: The name of the layout: "COCO", "VOC", "YOLO", "KITTI", "WIDER FACE" or "ImageFolder".
        splits: What a recipe states of each split as ``data.train`` or ``data.val``: a
            ``class_path`` and ``init_args``, without ``training``. The names of splits are
            "train", "val" and "test" where the folder says so in any usual way, otherwise its own
            ones; data that are not divided are one split, "all".
        task: The task of the data.
        why: What was recognised, as a sentence.
        root: The folder that the dataset is in, which may lie in the one that was asked about.
    """

    name: str
    splits: dict[str, dict[str, Any]]
    task: Task
    why: str
    root: Path


def recognised(folder: Path) -> Layout:
    """Recognise the layout of a folder.

    The folder may hold the dataset a level or two further down, as ``VOCdevkit/VOC2007`` is, where
    it holds one alone. Little is read: the names of files, and of JSON and YAML files what tells
    whether they are annotations.

    Args:
        folder: The folder, or the YAML file in one that describes a dataset in YOLO's layout.

    Returns:
        The layout, with one split at least.

    Raises:
        FileNotFoundError: There is no such folder, or the images that a YAML file states are
            missing.
        ValueError: The folder is in none of the known layouts, or holds several datasets.
    """
    if folder.is_file() and folder.suffix in YAML_SUFFIXES:
        return _yolo(folder.parent, [folder]) or _refuse_no_images([folder])
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder; expected one that holds a dataset. Give that."
        )
    places: Sequence[Path] = [folder]
    for _ in range(3):
        found = [layout for place in places if (layout := _layout_of(place)) is not None]
        if len(found) > 1:
            listed = _shortened([f"{each.name} in {each.root}" for each in found])
            raise ValueError(
                f"{folder} holds {len(found)} datasets: {listed}. Expected one; give its folder."
            )
        if found:
            return found[0]
        places = [inner for place in places for inner in _folders(place)]
    if described := [file for file in _descriptions(folder) if _describes(file)]:
        _refuse_no_images(described)
    raise ValueError(
        f"{folder} is in no layout that limbeck knows: it holds "
        f"{_shortened(_told_entries(folder)) or 'nothing'}. Expected one of:\n{KNOWN}\n"
        "Give the folder of such data, or state the class that reads it in a recipe."
    )


def _layout_of(folder: Path) -> Layout | None:
    """The layout of this very folder. Annotations of several kinds are all said."""
    found = [layout for ask in _READERS if (layout := ask(folder)) is not None]
    if not found:
        return _image_folder(folder)
    others = ", ".join(layout.name for layout in found[1:])
    first = found[0]
    also = f" Annotations are there for {others}, too." if others else ""
    return replace(first, why=first.why + also)


def _kitti(folder: Path) -> Layout | None:
    labels = folder / "training" / "label_2"
    if not (labels.is_dir() and (folder / "training" / "image_2").is_dir()):
        return None
    lists = _stems(folder / "ImageSets", ".txt")
    splits = known_splits(lists) or {"train": "train", "val": "val"}  # which are KITTI's own
    stated = {
        name: _stated("KITTI", root=str(folder), split=split) for name, split in splits.items()
    }
    return Layout(
        "KITTI", stated, "detection", f"{folder} has KITTI's folders image_2 and label_2.", folder
    )


def _wider_face(folder: Path) -> Layout | None:
    lists = folder / "wider_face_split"
    splits = [
        name
        for name in ("train", "val")
        if (folder / f"WIDER_{name}" / "images").is_dir() and any(lists.glob(f"wider_face_{name}*"))
    ]
    if not splits:
        return None
    stated = {}
    for name in splits:
        places = (folder / "eval_tools" / "ground_truth", folder / "ground_truth")
        there = next((path for path in places if (path / f"wider_easy_{name}.mat").is_file()), None)
        settings = {} if there is None else {"ground_truth": str(there)}
        stated[name] = _stated("WIDERFace", root=str(folder), split=name, **settings)
    return Layout("WIDER FACE", stated, "detection", f"{folder} has wider_face_split.", folder)


def _yolo(folder: Path, files: Sequence[Path] | None = None) -> Layout | None:
    """A dataset that one of some YAML files describes; without them, of those in the folder."""
    for file in _descriptions(folder) if files is None else files:
        if not _describes(file):
            continue
        named = {} if file.name == DESCRIPTION else {"description": file.name}
        stated = {
            name: _stated("YOLO", root=str(folder), split=name, **named)
            for name in splits_there(folder, file.name)
        }
        if stated:
            return Layout("YOLO", stated, "detection", f"{file} names classes and splits.", folder)
    return None


def _descriptions(folder: Path) -> list[Path]:
    """The YAML files of a folder, the one of the usual name first."""
    files = sorted(path for path in folder.iterdir() if path.suffix in YAML_SUFFIXES)
    return sorted(files, key=lambda file: file.name != DESCRIPTION)


def _refuse_no_images(described: Sequence[Path]) -> NoReturn:
    """Raise what the reader says of a YAML file none of whose splits has images."""
    for file in described:
        YOLO(file.parent, SPLITS[0], description=file.name)
    raise FileNotFoundError(f"{described[0]} states no images. Add the keys train and val.")


def _describes(file: Path) -> bool:
    """Whether a YAML file is one of YOLO's; one that is no YAML at all is none."""
    if file.name == DESCRIPTION:
        return True  # and an error in it is said by those who read it
    try:
        content = read_yaml(file)
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and "names" in content


def _voc(folder: Path) -> Layout | None:
    annotations = [
        each
        for each in (*_folders(folder), folder)
        if _has(each, lambda path: path.suffix.lower() == ".xml")
    ]
    if not annotations:
        return None
    if len(annotations) > 1:
        return _voc_by_folders(folder, annotations)
    source = annotations[0]
    images = [each for each in (source, *_folders(folder)) if _has(each, is_image)]
    if not images:
        return None
    usual = (source.name, images[0].name) == ("Annotations", "JPEGImages")
    named = (
        {} if usual else {"annotations": _part(source, folder), "images": _part(images[0], folder)}
    )
    lists = _voc_lists(folder, source)
    if lists:
        stated = {
            name: _stated("VOC", root=str(folder), split=split, **named)
            for name, split in lists.items()
        }
        named_lists = ", ".join(lists.values())
        why = f"{folder} has VOC's XML files in {source.name}, and the lists {named_lists}."
    else:
        stated = {
            name: _stated("VOC", root=str(folder), split=name, held_out=HELD_OUT, **named)
            for name in ("train", "val")
        }
        why = (
            f"{folder} has VOC's XML files in {source.name} and no lists: a share of {HELD_OUT} of "
            "the images is held out as val."
        )
    return Layout("VOC", stated, "detection", why, folder)


def _voc_lists(folder: Path, annotations: Path) -> dict[str, str]:
    """What VOC takes for each split that has a list of names: a name in Main, or else a path."""
    in_main = known_splits(_stems(folder / _MAIN, ".txt"))
    for place in () if in_main else (folder, *_folders(folder)):
        files = {path.stem: path for path in sorted(place.glob("*.txt")) if path.is_file()}
        own = {stem: path for stem, path in files.items() if _lists_names(path, annotations)}
        if known := known_splits(own):
            return {name: _part(own[stem], folder) for name, stem in known.items()}
    return in_main


def _lists_names(file: Path, annotations: Path) -> bool:
    """Whether the first line of a text file is the name of an annotation."""
    if role_of(file.stem) is None and file.stem != "trainval":
        return False  # of another purpose, and perhaps large
    lines = read_text(file, strict=False).split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    return (
        bool(first) and PurePath(first).name == first and (annotations / f"{first}.xml").is_file()
    )


def _voc_by_folders(folder: Path, annotations: Sequence[Path]) -> Layout | None:
    """Each split in a folder, with its images beside the XML files, as Roboflow exports it."""
    splits = known_splits([each.name for each in annotations if _has(each, is_image)])
    if not splits:
        return None
    stated = {
        name: _stated(
            "VOC",
            root=str(folder),
            split="trainval",  # of a division of the folder: all of it
            held_out=HELD_OUT,
            annotations=inside,
            images=inside,
        )
        for name, inside in splits.items()
    }
    every = [VOC(**of_split["init_args"]).classes for of_split in stated.values()]
    if len(set(every)) > 1:  # each folder shows some of the classes
        classes = sorted({name for names in every for name in names})
        for of_split in stated.values():
            of_split["init_args"]["classes"] = classes
    why = f"{folder} has VOC's XML files beside the images of {', '.join(splits.values())}."
    return Layout("VOC", stated, "detection", why, folder)


class _Instances(NamedTuple):
    """A JSON file of instances, and the folder of its images."""

    file: Path
    images: Path
    split: str


def _coco(folder: Path) -> Layout | None:
    inside = [each for each in _folders(folder) if each.name not in ("images", "labels")]
    files = [path for place in (folder, *inside) for path in sorted(place.glob("*.json"))]
    found = [one for file in files if (one := _instances(file, folder)) is not None]
    # Of one split there may be key points as well, which have fewer classes.
    usual = [one for one in found if one.file.name.startswith("instances")] or found
    by_name = {one.split: one for one in reversed(usual)}
    names = known_splits(by_name)
    if len(by_name) == 1:
        names = {role_of(each) or WHOLE: each for each in by_name}
    if not names:
        return None
    stated = {
        name: _stated("COCO", images=str(by_name[own].images), annotations=str(by_name[own].file))
        for name, own in names.items()
    }
    listed = ", ".join(str(by_name[own].file.relative_to(folder)) for own in names.values())
    return Layout(
        "COCO", stated, "detection", f"{folder} has COCO's instances in {listed}.", folder
    )


def _instances(file: Path, root: Path) -> _Instances | None:
    """A JSON file, if it looks like one of instances whose images are here."""
    first = _first_image(file)
    if first is None:
        return None
    stem = split_of(file.stem) or (file.parent.name if file.parent != root else "")
    split = stem if stem not in ("annotations", "instances") else ""
    places = (
        *(() if file.parent == root else (file.parent,)),
        *(parent / name for parent in (root / "images", root) for name in spellings(split)),
        *(root / name for name in ("images", "JPEGImages")),
        root,
    )
    images = next((place for place in places if (place / first).is_file()), None)
    return None if images is None else _Instances(file, images, split)


def _first_image(file: Path) -> str | None:
    """The name of the first image of a JSON file of instances; None where it is another file.

    The file is searched and not parsed, as those of large datasets have hundreds of megabytes.
    """
    if is_companion(PurePath(file.name)) or not file.stat().st_size:
        return None
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        keys = (b'"images"', b'"annotations"', b'"categories"')
        name = _FILE_NAME.search(text) if all(text.find(key) >= 0 for key in keys) else None
        try:
            return None if name is None else str(json.loads(name[1]))
        except ValueError:
            return None


def _image_folder(folder: Path) -> Layout | None:
    inside = _folders(folder)
    splits = known_splits([each.name for each in inside if _are_classes(_folders(each))])
    if splits:
        stated = {
            name: _stated("ImageFolder", root=str(folder / own)) for name, own in splits.items()
        }
        why = f"{folder} has a folder of images for each class, in {', '.join(splits.values())}."
    elif _are_classes(inside) and not all(role_of(each.name) for each in inside):
        stated = {WHOLE: _stated("ImageFolder", root=str(folder))}
        why = f"{folder} has a folder of images for each class, and no splits."
    else:
        return None
    return Layout("ImageFolder", stated, "classification", why, folder)


def _are_classes(folders: Sequence[Path]) -> bool:
    """Whether folders may be those of classes: two at least, which hold images."""
    return len(folders) > 1 and all(_has(each, is_image) for each in folders)


# In the order in which they are asked. What has less to tell it by comes later.
_READERS: tuple[Callable[[Path], Layout | None], ...] = (_kitti, _wider_face, _yolo, _voc, _coco)


def _stated(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"limbeck.data.{kind}", "init_args": arguments}


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without those that are no data."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if not is_companion(PurePath(name))]


def _has(folder: Path, wanted: Callable[[PurePath], bool]) -> bool:
    """Whether a folder has a file of a kind; it is read as far as the first one."""
    with os.scandir(folder) as entries:
        return any(
            wanted(PurePath(entry.name)) and not is_companion(PurePath(entry.name))
            for entry in entries
        )


def _part(inner: Path, folder: Path) -> str:
    return str(inner.relative_to(folder))


def _stems(folder: Path, suffix: str) -> list[str]:
    found = sorted(path for path in folder.glob(f"*{suffix}"))
    return [path.stem for path in found if not is_companion(PurePath(path.name))]


def _told_entries(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    more = len(names) - _MOST_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
