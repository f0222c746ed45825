"""``limbeck inspect``: where a model can be tapped, and what is in a weights file."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from textwrap import shorten
from typing import Any

# Before the libraries that write float | int, which Python would take for Lightning's int | float:
# a number of batches, 8, would be read as 8.0.
import lightning.pytorch  # noqa: F401
import timm
import torch
import torchvision
from torch import nn

from limbeck.checkpoints import Contents, library_of, open_checkpoint, read_file
from limbeck.checkpoints.architecture import trunk_of
from limbeck.checkpoints.formats import STATE_DICT_SUFFIXES, SUFFIXES, format_of_file
from limbeck.commands.building import said_of_building
from limbeck.commands.errors import RecipeError
from limbeck.commands.memory import refuse_oversized
from limbeck.commands.method_picture import draw_method
from limbeck.commands.outputs import refuse_no_picture, refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.recipe_files import read_recipe
from limbeck.frame import network_frame, own_size, takes_list
from limbeck.landmarks import landmarks
from limbeck.models import load_student
from limbeck.models.card import CARD
from limbeck.ranges import COUNT, SIDE, Range, refuse_outside
from limbeck.tap import tensors_in
from limbeck.taps import Taps
from limbeck.terminal import Table, say
from limbeck.texts import YAML_SUFFIXES

_RANGES = {"size": SIDE, "depth": Range(0), "images": COUNT}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck inspect``. Its targets are any number of words.

    Args:
        arguments: The verb, and what follows it.
    """
    parser = VerbParser(prog="limbeck inspect", allow_abbrev=False)
    parser.add_argument(
        "target",
        nargs="+",
        type=str,
        help="Recipes (.yaml), students' folders, weights files, or models by name.",
    )
    parser.add_function_arguments(inspect, skip={"target"}, as_positional=True)
    inspect(**parser.parse_args(arguments[1:]).as_dict())


@dataclass(frozen=True)
class Place:
    """A module that was called in a forward pass.

    Attributes:
        path: The path of the module.
        kind: The name of its class.
        calls: How often it was called.
        shapes: The shapes of the tensors in its last output.
    """

    path: str
    kind: str
    calls: int
    shapes: tuple[tuple[int, ...], ...]


def inspect(
    target: list[str],
    size: tuple[int, int] | None = None,
    depth: int = 4,
    method: str | None = None,
    picture: Path = Path("method.png"),
    images: int = 4,
    checkpoint: Path | None = None,
) -> None:
    """Show the landmarks and tappable paths of a model, what a weights file holds, or a method.

    With --method, what that method of a run shows of the first training images is drawn, such as
    the masks of FineGrainedImitation, the regions of HEAD, or how far maps are apart. All recipes
    of the run are given then, as `limbeck fit` gets them; and a --checkpoint where what is shown
    lies behind adapters, or is found in training, as the flow matrices of MGD are.

    Args:
        target: A recipe (.yaml), a student's folder, a weights file (.pth, .pt, .pkl,
            .ckpt, .safetensors, darknet's .weights), or a model by name
            (torchvision:retinanet_resnet50_fpn, resnet18, timm:mobilenetv3_large_100); or several.
        size: The height and the width of the image that is run through the model, in pixels. None:
            those that the model was made for (an SSD, a ViT), 256 where it takes any.
        depth: How many levels of module paths are listed.
        method: The name of a method in the recipes. None: models and files are shown.
        picture: The file that is written with --method.
        images: How many images are drawn, at most a batch.
        checkpoint: With --method, a checkpoint of the run, such as `checkpoints/last.ckpt` in its
            folder. None: the models and the method are as they begin.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A number is out of its range, or a target is none of these.
    """
    refuse_outside(_RANGES, {"size": size, "depth": depth, "images": images}, "--")
    for path in target:
        if path.endswith((*SUFFIXES, *YAML_SUFFIXES)) and not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist")
    if method is not None:
        refuse_unwritable_target(picture, "--picture")
        refuse_no_picture(picture, "--picture")
        draw_method(target, method, picture, images, checkpoint)
        return
    for path in target:
        _show(path, size, depth)


def _show(target: str, given: tuple[int, int] | None, depth: int) -> None:
    known = format_of_file(target)
    if known is not None:
        contents = known.load(Path(target))
        say(rows_table(target, known.described(contents)))
        return
    if Path(target).suffix in STATE_DICT_SUFFIXES:
        contents = read_file(target)
        say(summary(contents))
        say(weights_table(contents))
        return
    for name, model in models_of(target).items():
        size = given or own_size(model) or (256, 256)
        say(landmark_table(model, size, f"{name}: landmarks"))
        say(path_table(model, size, depth, f"{name}: paths, to a depth of {depth}"))


def models_of(target: str) -> dict[str, nn.Module]:
    """The models that a target names.

    Args:
        target: A recipe, a student's folder, or a model by name.

    Returns:
        The models by their names.

    Raises:
        ValueError: The target is none of these.
    """
    if target.endswith(YAML_SUFFIXES):
        return models_in(Path(target))
    for folder in (Path(target), Path(target, "student")):
        if (folder / CARD).is_file():
            return {target: load_student(folder)}
    library, _, name = target.rpartition(":")
    if library == "timm" and timm.is_model(name):
        return {target: timm.create_model(name, pretrained=False)}
    if library not in ("", "torchvision") or name not in torchvision.models.list_models():
        where = library if library in ("timm", "torchvision") else "torchvision"
        raise ValueError(
            f"{target!r} is no recipe, folder of a student or of a run, or weights file, and "
            f"{where} has no model of that name. Write timm:NAME for timm's."
        )
    taken = signature(torchvision.models.get_model_builder(name)).parameters
    bare = {"weights_backbone": None} if "weights_backbone" in taken else {}
    return {target: torchvision.models.get_model(name, weights=None, **bare)}


def models_in(recipe: Path) -> dict[str, nn.Module]:
    """The student of a recipe, and the teachers if there are any; no data is needed for it."""
    parser = VerbParser(prog=f"limbeck inspect {recipe}")
    stated = read_recipe(recipe).get("model") or {}
    sides = {side: stated[side] for side in ("teacher", "teachers", "student") if stated.get(side)}
    if not sides:
        raise RecipeError(
            f"{recipe} has neither model.student nor model.teacher. Expected a recipe with one of "
            "them. Give one that has it."
        )
    for side in sides:
        kind: Any = dict[str, nn.Module] if side == "teachers" else nn.Module
        parser.add_argument(f"--model.{side}", type=kind)
    parsed = parser.parse_object({"model": sides})
    with said_of_building(parsed), refuse_oversized(parsed):
        built = parser.instantiate_classes(parsed).model
    further = {f"teacher {name}": model for name, model in built.get("teachers", {}).items()}
    alone = {side: built[side] for side in sides if side != "teachers"}
    return {**{k: v for k, v in alone.items() if k == "teacher"}, **further, **alone}


def run_once(model: nn.Module, size: tuple[int, int]) -> None:
    """Run a model on one black image, in the network's frame.

    Args:
        model: The model.
        size: The height and the width of the image, in pixels.

    Raises:
        ValueError: The model does not take it.
    """
    height, width = size
    image = torch.zeros(3, height, width)
    try:
        with torch.no_grad(), network_frame(model):
            model.eval()([image] if takes_list(model) else image[None])
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} does not take an image of {height} x {width} px ({error}). "
            "Try another size, such as --size [224,224]."
        ) from error


def places(model: nn.Module, size: tuple[int, int]) -> list[Place]:
    """Every module that a forward pass calls and that gives tensors, in the order of calls."""
    found: dict[str, Place] = {}
    with _recording(model, found):
        run_once(model, size)
    return list(found.values())


@contextmanager
def _recording(model: nn.Module, found: dict[str, Place]) -> Iterator[None]:
    def note(path: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            shapes = tuple(tuple(tensor.shape) for tensor in tensors_in(output))
            calls = found[path].calls + 1 if path in found else 1
            if shapes:
                found[path] = Place(path, type(module).__name__, calls, shapes)

        return hook

    handles = [m.register_forward_hook(note(path)) for path, m in model.named_modules() if path]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def landmark_table(model: nn.Module, size: tuple[int, int], title: str) -> Table:
    """The name, tap, shape and stride of every landmark.

    Args:
        model: The model.
        size: The height and the width of the image that is run through it, in pixels.
        title: The title of the table.

    Returns:
        The table.
    """
    heads = ("landmark", "tap", "value", "shape", "stride")
    table = Table(*heads, title=title, title_justify="left")
    known = landmarks(model)
    taps = Taps(model, known)
    try:
        values = taps.learn(lambda: run_once(model, size))
    finally:
        taps.close()
    for name, tap in known.items():
        shapes = [tuple(tensor.shape) for tensor in tensors_in(values[name])]
        table.add_row(name, str(tap), tap.kind, *_describe(shapes, size))
    return table


def path_table(model: nn.Module, size: tuple[int, int], depth: int, title: str) -> Table:
    """Every tappable module path with its calls, shape and stride.

    Args:
        model: The model.
        size: The height and the width of the image that is run through it, in pixels.
        depth: How many levels of paths are listed.
        title: The title of the table.

    Returns:
        The table.
    """
    heads = ("path", "module", "calls", "shape", "stride")
    table = Table(*heads, title=title, title_justify="left")
    for place in places(model, size):
        if place.path.count(".") < depth:
            table.add_row(place.path, place.kind, str(place.calls), *_describe(place.shapes, size))
    return table


def _describe(shapes: Any, size: tuple[int, int]) -> tuple[str, str]:
    """Shapes of the first three tensors, and their strides where they are maps of the image."""
    written = ["x".join(map(str, shape)) for shape in shapes]
    # Of one image there is one map; several are of its regions, or of windows in it.
    maps = [shape for shape in shapes if len(shape) == 4 and shape[0] == 1 and shape[-2]]
    strides = [f"{size[0] / shape[-2]:g}" for shape in maps]
    more = f" (+{len(written) - 3})" if len(written) > 3 else ""
    return " ".join(written[:3]) + more, " ".join(strides[:3])


def summary(contents: Contents) -> Table:
    """Whose file of weights it is, of what network, and what else it holds."""
    told = {
        "names of": library_of(contents.tensors) or "torchvision, or of a network of its own",
        "kept under": contents.container,
        "before every name": contents.prefix,
        "weights shown": contents.part if len(contents.parts) > 1 else "",
        "others in the file": ", ".join(p for p in contents.parts if p != contents.part),
        **_network(contents),
        "left out": shorten(", ".join(contents.set_aside), 300),
        **{f"metadata: {k}": reprlib.repr(v) for k, v in contents.metadata.items()},
    }
    return rows_table(str(contents.path), told)


def rows_table(title: str, rows: Mapping[str, str]) -> Table:
    """A table of names and values; empty values are left out."""
    table = Table(show_header=False, title=title, title_justify="left")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def _network(contents: Contents) -> dict[str, str]:
    """What a file of a library's that is known says of its network."""
    path, part = str(contents.path), contents.part
    try:
        found = open_checkpoint(path, part=part)
    except ValueError as error:
        return {"network": f"not one of limbeck's: {error}"}
    stated = found.arguments | found.test_arguments
    with suppress(ValueError):  # networks whose trunk no library's detectors have
        if found.kind == "trunk":
            stated = {"backbone": trunk_of(found.tensors)} | stated
        elif not stated:  # names of torchvision's say nothing of the preset
            stated = open_checkpoint(path, "torchvision", part=part).arguments
    return {
        "network": found.kind,
        "classes": shorten(", ".join(found.classes), 300),
        f"as {found.library}'s": ", ".join(f"{name}={value}" for name, value in stated.items()),
    }


def weights_table(contents: Contents) -> Table:
    """The names, shapes and types of what a weights file holds."""
    state = contents.tensors
    count = sum(tensor.numel() for tensor in state.values())
    title = f"{len(state)} tensors, {count / 1e6:.2f} M values"
    table = Table("name", "shape", "type", title=title, title_justify="left")
    for name, tensor in state.items():
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        table.add_row(name, shape, str(tensor.dtype).removeprefix("torch."))
    return table
