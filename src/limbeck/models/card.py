"""``student.json``: what a student's folder says of itself, read and checked.

It is data from anywhere, so nothing in it is taken at its word. Keys that limbeck only writes, such
as ``without_limbeck`` and ``versions``, are for people and other programs, and are not read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.arguments import shown
from limbeck.models.build import Build
from limbeck.models.hub import PREFIX, fetched
from limbeck.models.permitted import permitted
from limbeck.quantization import Quantization
from limbeck.texts import read_bytes

FORMAT = 1
WEIGHTS = "student.safetensors"
CARD = "student.json"
_MOST_BYTES = 1 << 24
_DEEPEST = 50


@dataclass(frozen=True)
class Card:
    """What ``student.json`` says.

    Attributes:
        path: The path of the file.
        build: How the student is built.
        base: The class of limbeck's that the student's class derives from, and its arguments. None:
            the class is limbeck's own, or of no kin.
        quantization: What of the network is quantized. None: nothing is.
        classes: The names of the foreground classes, in the order of their labels; empty where they
            are not kept.
        metadata: What else was kept, as plain JSON values that are not checked.
        sha256: The checksum of the file of weights.
        licence: The licence of the weights that the student began with. None: it is not known.
    """

    path: Path
    build: Build
    base: Build | None
    quantization: Quantization | None
    classes: tuple[str, ...]
    metadata: Mapping[str, Any]
    sha256: str
    licence: str | None = None

    def network(self) -> Build:
        """The class of limbeck's that the student has or derives from, and its arguments.

        They are those of the student's own class where that is another library's.

        Returns:
            The class and its arguments. Those of a class of limbeck's were checked.

        Raises:
            ValueError: The arguments are not permitted without trust.
        """
        network = self.base or self.build
        if network.class_path.startswith("limbeck."):
            try:
                permitted(network.class_path, network.init_args)
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from None
        return network


def read_card(folder: str | Path) -> Card:
    """Read and check the card in a student's folder; nothing that it names is imported.

    Args:
        folder: The folder, as :func:`limbeck.models.save_student` wrote it, or a student on the
            hub of Hugging Face, ``hf:owner/name``.

    Returns:
        What the card says.

    Raises:
        FileNotFoundError: There is no student in ``folder``.
        ValueError: The card is damaged, lies outside of the folder, or was written in another
            format. The message names the key, what was found and what was expected.
    """
    path = own_file(folder, CARD)
    said = _parsed(path)
    try:
        return _checked(path, said)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Save the student anew.") from None


def own_file(folder: str | Path, name: str) -> Path:
    """A file of a student's folder, which is in the folder indeed.

    Args:
        folder: The folder, or a student on the hub, of which both files are fetched.
        name: The name of the file.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: There is no student in ``folder``.
        ValueError: The file is a link that leads out of the folder.
    """
    folder = Path(folder)
    if is_on_hub(folder):
        folder = fetched(folder.as_posix(), (CARD, WEIGHTS))
    if not all((folder / each).is_file() for each in (CARD, WEIGHTS)):
        raise FileNotFoundError(
            f"{folder} holds no student: expected {CARD} and {WEIGHTS} in it. Give a folder that "
            "`limbeck fit` or limbeck.models.save_student has written."
        )
    real, home = (folder / name).resolve(), folder.resolve()
    # The hub's cache has the contents of files beside the revisions, which link to them.
    kept = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if real.parent not in (home, kept):
        raise ValueError(
            f"{folder / name} is a link to {real}, outside of the student's folder: expected a "
            "file. Copy the file into the folder if you trust whoever made the link."
        )
    return folder / name


def is_on_hub(folder: str | Path) -> bool:
    """Whether a student is one on the hub of Hugging Face, by its name."""
    return Path(folder).as_posix().startswith(PREFIX)


def _parsed(path: Path) -> dict[str, Any]:
    content = read_bytes(path, _MOST_BYTES)
    try:
        said = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested too deep. Save the student anew.") from None
    except ValueError as error:  # of the text, of its encoding, or of a number of 5000 digits
        raise ValueError(f"{path} is no JSON ({error}). Save the student anew.") from None
    if not isinstance(said, dict):
        raise ValueError(f"{path} holds {shown(said)}, expected a mapping. Save the student anew.")
    if said.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {shown(said.get('format'))}, expected {FORMAT}. "
            "Load it with the version of limbeck that wrote it, or a later one."
        )
    return said


def _checked(path: Path, said: Mapping[str, Any]) -> Card:
    weights = _of_type(said.get("weights"), dict, "weights")
    if weights.get("file", WEIGHTS) != WEIGHTS:
        raise ValueError(
            f"weights.file is {shown(weights['file'])}, expected {WEIGHTS!r}, in the folder."
        )
    base, metadata, licence = said.get("base"), said.get("metadata"), said.get("licence")
    return Card(
        path=path,
        build=_build(said.get("build"), "build"),
        base=None if base is None else _build(base, "base"),
        quantization=_quantization(said.get("quantization")),
        classes=_classes(said.get("classes")),
        metadata={} if metadata is None else _of_type(metadata, dict, "metadata"),
        sha256=_of_type(weights.get("sha256"), str, "weights.sha256"),
        licence=None if licence is None else _of_type(licence, str, "licence"),
    )


def _build(said: Any, where: str) -> Build:
    said = _of_type(said, dict, where)
    class_path = _of_type(said.get("class_path"), str, f"{where}.class_path")
    init_args = _of_type(said.get("init_args"), dict, f"{where}.init_args")
    others = said.keys() - {"class_path", "init_args"}
    if others:
        raise ValueError(
            f"{where} has {shown(sorted(others))}, expected class_path and init_args alone."
        )
    _refuse_deep(init_args, f"{where}.init_args")
    return Build(class_path, init_args)


def _quantization(said: Any) -> Quantization | None:
    if said is None:
        return None
    said = _of_type(said, dict, "quantization")
    layers = _of_type(said.get("layers"), dict, "quantization.layers")
    folded = _of_type(said.get("folded"), dict, "quantization.folded")
    for path, rounds_output in layers.items():
        if not isinstance(rounds_output, bool):
            raise ValueError(
                f"quantization.layers[{shown(path)}] is {shown(rounds_output)}, expected true or "
                "false."
            )
    for path, convolution in folded.items():
        _of_type(convolution, str, f"quantization.folded[{shown(path)}]")
    return Quantization(layers, folded)


def _refuse_deep(value: Any, where: str) -> None:
    """Refuse values that are nested deeper than any model's arguments."""
    layer = [value]
    for _ in range(_DEEPEST):
        values = [each.values() if isinstance(each, dict) else each for each in layer]
        layer = [inner for each in values for inner in each if isinstance(inner, dict | list)]
    if layer:
        raise ValueError(f"{where} is nested more than {_DEEPEST} deep.")


def _classes(said: Any) -> tuple[str, ...]:
    names = [] if said is None else _of_type(said, list, "classes")
    for place, name in enumerate(names):
        _of_type(name, str, f"classes[{place}]")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"classes[{place}] is {name!r}, which has half a letter.")
    return tuple(names)


def _of_type(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        told = {"dict": "a mapping", "str": "a text", "list": "a list of texts"}[kind.__name__]
        found = "is missing or null" if value is None else f"is {shown(value)}"
        raise ValueError(f"{where} {found}, expected {told}.")
    return value
