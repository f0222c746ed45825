"""The datasets that a verb is given: those of a recipe, or those of a folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from limbeck.arguments import imported
from limbeck.commands.building import said_of_building
from limbeck.commands.parsing import VerbParser
from limbeck.commands.stated import stated_in
from limbeck.data import VisionDataset
from limbeck.data.facts import Resize
from limbeck.data.layouts import Layout, recognised
from limbeck.data.passed_over import passed_over
from limbeck.texts import YAML_SUFFIXES, read_yaml

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """The datasets that the user gave.

    Attributes:
        why: What they were recognised as, as a sentence.
        splits: The dataset of each split, as annotated: nothing is left out for training.
        resize: How the detector of a recipe resizes images. None: there is no recipe, or it does
            not.
    """

    why: str
    splits: dict[str, VisionDataset]
    resize: Resize | None = None


def given_datasets(words: Sequence[str]) -> Given:
    """Build the datasets that the command line names.

    Args:
        words: A folder of data, the ``data.yaml`` in one, or recipes, each laid over the ones
            before.

    Returns:
        The datasets.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It is neither a recipe nor in a known layout.
    """
    paths = [Path(word) for word in words]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} does not exist; expected a folder of data, or a recipe (.yaml). Correct "
            "the path."
        )
    if len(paths) == 1 and (paths[0].is_dir() or _describes_data(paths[0])):
        return _of_folder(paths[0])
    others = [path for path in paths if path.suffix not in YAML_SUFFIXES]
    if others:
        raise ValueError(
            f"{others[0]} is no recipe (.yaml); expected one folder of data, or recipes. Give "
            "these."
        )
    return _of_recipes(words)


def dataset_of(stated: Mapping[str, Any], key: str) -> VisionDataset:
    """Build a dataset that a recipe states, and nothing else: the model may lack its anchors yet.

    Args:
        stated: Its ``class_path`` and ``init_args``.
        key: Its key in the recipe, for messages, such as "data.train".

    Returns:
        The dataset.
    """
    parser = VerbParser(prog="limbeck")
    parser.add_argument(f"--{key}", type=VisionDataset)
    section, _, name = key.partition(".")
    parsed = parser.parse_object({section: {name: stated}})
    with said_of_building(parsed):
        built: VisionDataset = parser.instantiate(parsed)[key]
    return built


def _describes_data(path: Path) -> bool:
    """Whether a YAML file is one of YOLO's, rather than a recipe."""
    if path.suffix not in YAML_SUFFIXES:
        return False
    content = read_yaml(path)
    return isinstance(content, Mapping) and "names" in content and "data" not in content


def tell_passed_over(layout: Layout) -> None:
    """Say what is called as a split is, and could not be read as one.

    Args:
        layout: The layout of a folder of data.
    """
    for path in passed_over(layout):
        log.warning(
            "%s is called as a split is, and is left out: it could not be read as one of %s. Such "
            "are folders in which a class has no image, and lists or annotations whose images are "
            "not there. Mend it, or write recipes by hand.",
            path,
            layout.name,
        )


def _of_folder(folder: Path) -> Given:
    layout = recognised(folder)
    tell_passed_over(layout)
    splits = {
        name: imported(stated["class_path"])(**stated["init_args"])
        for name, stated in layout.splits.items()
    }
    return Given(layout.why, splits)


def _of_recipes(recipes: Sequence[str]) -> Given:
    stated = stated_in(recipes)
    splits = {
        name: dataset_of(as_annotated(of_split.as_dict()), f"data.{name}")
        for name in ("train", "val")
        if (of_split := stated.data.get(name)) is not None
    }
    if not splits:
        raise ValueError(
            f"{', '.join(recipes)}: there is neither data.train nor data.val. Give a recipe that "
            "has one."
        )
    why = f"The data of {', '.join(recipes)}."
    return Given(why, splits, resize_of(stated.model.student))


def as_annotated(stated: Any) -> Any:
    """What a recipe states of a dataset, in which none leaves anything out for training."""
    if isinstance(stated, Mapping):
        plain = {key: as_annotated(value) for key, value in stated.items()}
        return plain | {"training": False} if plain.get("training") is True else plain
    return [as_annotated(each) for each in stated] if isinstance(stated, list) else stated


def resize_of(student: Any) -> Resize | None:
    """How the student of a recipe resizes images in evaluation; None where that is not known."""
    kind = imported(student.class_path)
    usual = {name: each.default for name, each in signature(kind).parameters.items()}
    numerics = getattr(kind, "numerics", {})
    given = student.get("init_args")
    stated = vars(given) if given else {}

    def value(name: str) -> Any:
        given = [stated.get(name), usual.get(name), numerics.get(name)]
        return next((each for each in given if isinstance(each, int | float | list | tuple)), None)

    size, short, long = value("image_size"), value("min_size"), value("max_size")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        return Resize((height, width))
    return Resize(short=short, long=long or float("inf")) if isinstance(short, int) else None
