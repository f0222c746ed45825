"""Recipes that cannot be right, as users write them."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign import material
from campaign.bad_values import MEANT, SIMPLE, UNKNOWN, VAL
from campaign.material import Recipe, dataset, detector, network, shapes


@dataclass(frozen=True)
class Bad:
    """One bad recipe.

    Attributes:
        name: What is wrong, in words.
        recipe: It.
        key: A regular expression for the key in the message.
        found: One for what was found.
        allowed: Where it can be meant: a warning that names both is as good as a refusal.
    """

    name: str
    recipe: Recipe
    key: str
    found: str
    allowed: bool = False


def changed(base: Recipe, path: str, value: Any) -> Recipe:
    """A copy with one key set; None of the path's last part removes nothing."""
    made = copy.deepcopy(base)
    inner = made
    *outer, last = path.split(".")
    for part in outer:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return made


def everything(folder: Path) -> Iterator[Bad]:
    """All of them."""
    base = material.generated()
    for path, value in SIMPLE:
        key = path.removeprefix("model.student.init_args.").removeprefix("data.train.init_args.")
        # Of a key that there is not, the key is what was found.
        found = _last(key) if path in UNKNOWN else _shown(value)
        name, meant = f"{path} = {value}", (path, value) in MEANT
        yield Bad(name, changed(base, path, value), _last(key), found, allowed=meant)
    yield from _combinations(base)
    yield from _of_data(folder)
    yield from _of_teachers(base)
    yield from _callbacks(base)


def _shown(value: Any) -> str:
    """A regular expression for a value, however it is written."""
    if isinstance(value, dict):
        first = next(iter(value))
        if first in ("spine", "head", "backbone"):
            return first
        return r"depths|widths" if first == "depths" else _last(str(value["class_path"]))
    if isinstance(value, bool):
        return f"{str(value).lower()}|{value}"
    if isinstance(value, list):
        leaves = [_shown(leaf) for leaf in value]
        return (
            r"[\[\](),\s]*".join(f"(?:{leaf})" for leaf in leaves) or r"\[\s*\]|\(\s*\)|empty|no "
        )
    if isinstance(value, float | int):
        return f"{re.escape(str(value))}|{re.escape(f'{value:g}')}"
    return re.escape(str(value))


def _last(key: str) -> str:
    return re.escape(key.rpartition(".")[2])


def _combinations(base: Recipe) -> Iterator[Bad]:
    """Keys that are right by themselves and do not go together."""
    classifier = network(5)
    yield Bad(
        "a classifier on boxes", changed(base, "model.student", classifier), "student", "Classifier"
    )
    on_classes = changed(material.classified(), "model.student", detector(num_classes=5))
    yield Bad("a detector on classes", on_classes, "student", "RetinaNet")
    steps = changed(base, "model.learning_rate", {"shape": "step"})
    yield Bad("steps without milestones", steps, "milestones", "step")
    negative = changed(
        base, "model.learning_rate", {"shape": "step", "milestones": [-1], "warm_up": 0}
    )
    yield Bad("a negative milestone", negative, "milestones", "-1")
    gamma = changed(
        base,
        "model.learning_rate",
        {"shape": "step", "milestones": [1], "gamma": -0.1, "warm_up": 0},
    )
    yield Bad("a negative gamma", gamma, "gamma", "-0.1")
    cycle = changed(base, "model.learning_rate", {"shape": "one_cycle", "interval": "epoch"})
    yield Bad("one_cycle by epoch", cycle, "interval", "epoch")
    endless = changed(base, "trainer.max_epochs", -1)
    yield Bad("no end of training", endless, "max_epochs", "")
    kitti = changed(base, "model.metric", "kitti")
    yield Bad("KITTI's metric on other data", kitti, "metric", "kitti|KITTI", allowed=True)
    voc = changed(base, "model.metric", "voc")
    yield Bad(
        "VOC's metric on data without difficult", voc, "metric|difficult", "voc|VOC", allowed=True
    )
    wider = changed(base, "model.metric", "widerface")
    yield Bad("WIDER FACE's metric on other data", wider, "metric", "widerface|WIDER")
    for side in ("student", "optimizer", "val"):
        gone = copy.deepcopy(base)
        inner = gone["data"] if side == "val" else gone["model"]
        if side == "optimizer":
            inner["optimizer"] = None
        else:
            del inner[side]
        yield Bad(f"without {side}", gone, side, "")
    gone = copy.deepcopy(base)
    del gone["data"]["train"]
    yield Bad("fit without data.train", gone, "train", "")
    same = changed(base, "data.val", copy.deepcopy(base["data"]["train"]))
    yield Bad(
        "the same images for training and validation",
        same,
        "data.val|data.train",
        "same|16",
        allowed=True,
    )
    unknown = changed(base, "model.student", {"class_path": "limbeck.models.RetinaNett"})
    yield Bad("a class that does not exist", unknown, "student|class_path", "RetinaNett")
    function = changed(base, "model.student", {"class_path": "os.path.join"})
    yield Bad("a function as the student", function, "student", "join")
    text = changed(base, "model.student", "a resnet")
    yield Bad("a text as the student", text, "student", "a resnet")
    listed = changed(base, "model.methods", [{"class_path": "limbeck.methods.KD"}])
    yield Bad("a list of methods", listed, "methods", "list|KD")
    yield Bad("a list as the recipe", ["model", "data"], "recipe|config|yaml", "list")  # type: ignore[arg-type]
    yield Bad("an empty recipe", {}, "student|model", "")
    none = changed(base, "trainer", None)
    yield Bad("trainer: null", none, "trainer", "None|null")


def _of_data(folder: Path) -> Iterator[Bad]:
    """Datasets that are not there, or are others."""
    coco = material.coco(folder / "coco", 8)
    voc = material.voc(folder / "voc", 8)
    images = material.image_folder(folder / "images", 4)
    kitti = material.kitti(folder / "kitti")
    right = material.recipe(
        coco | {"init_args": coco["init_args"] | {"training": True}}, shapes(4, 0)
    )
    right["data"]["val"] = copy.deepcopy(coco)

    def train(stated: Recipe, **more: Any) -> Recipe:
        made = changed(right, "data.train", copy.deepcopy(stated))
        made["data"]["train"]["init_args"] |= more
        return made

    yield Bad(
        "annotations that are not there",
        train(coco, annotations="no.json"),
        "annotations|no.json",
        "no.json",
    )
    yield Bad(
        "a folder as annotations",
        train(coco, annotations=str(folder)),
        "annotations|not a file",
        re.escape(str(folder)),
    )
    yield Bad("images that are not there", train(coco, images="nowhere"), "images", "nowhere")
    yield Bad("a split that is not there", train(voc, split="tset"), "split", "tset")
    yield Bad("a VOC root that is not there", train(voc, root="nowhere"), "root|nowhere", "nowhere")
    yield Bad(
        "a class that no image has",
        train(voc, classes=["zebra"]),
        "classes",
        "zebra|blue|num_classes",
    )
    yield Bad("a class twice", train(voc, classes=["red", "red", "blue"]), "class", "red")
    yield Bad("no classes", train(voc, classes=[]), "class", r"\[\]|no |0")
    yield Bad(
        "classes for training, boxes for validation",
        train(images),
        "data|task",
        "classification|boxes",
    )
    yield Bad(
        "training and validation of other classes",
        changed(
            train(coco), "data.val", changed(voc, "init_args.classes", ["red", "green", "blue"])
        ),
        "class",
        "green|red|blue",
    )
    yield Bad(
        "COCO without training: true",
        train(coco, training=False),
        "training",
        "false|False|not|without",
        allowed=True,
    )
    yield Bad(
        "validation with training: true",
        changed(right, f"{VAL}.training", True),
        "training",
        "true|True",
        allowed=True,
    )
    yield Bad("an argument of another dataset", train(coco, split="train"), "split", "split")
    yield Bad(
        "KITTI's types that are none",
        train(kitti, classes=["Boat"]),
        "class",
        "Boat",
    )
    odd = train(coco)
    odd["data"]["augmentation"] = dataset(
        "DetectionAugmentation", short_sides=[-240], long_side=320
    )
    yield Bad("a negative side of the augmentation", odd, "short_sides", "-240")
    odd = train(coco)
    odd["data"]["augmentation"] = dataset("DetectionAugmentation", short_sides=[640], long_side=320)
    yield Bad("a short side above the long one", odd, "side", "640")
    for name, value in (("flip", 1.5), ("flip", -0.5), ("jitter", -0.2)):
        odd = train(coco)
        odd["data"]["augmentation"] = dataset(
            "DetectionAugmentation", short_sides=[64], long_side=64, **{name: value}
        )
        yield Bad(f"augmentation.{name} = {value}", odd, name, re.escape(str(value)))
    sized = material.classified()
    sized["data"]["augmentation"] = dataset("ClassificationAugmentation", size=-48)
    yield Bad("a negative size of crops", sized, "size", "-48")
    sized = material.classified()
    sized["data"]["augmentation"] = dataset("ClassificationAugmentation", size=48, scale=[1.0, 0.5])
    yield Bad("a range of scales upside down", sized, "scale", "1.0")


def _of_teachers(base: Recipe) -> Iterator[Bad]:
    """Teachers and methods that do not go with the rest."""
    teacher = detector(num_classes=5)
    taught = changed(base, "model.teacher", teacher)
    yield Bad("a teacher without methods", taught, "teacher|methods", "method", allowed=True)
    fitnet = {"class_path": "limbeck.methods.FitNet", "init_args": {"places": ["P3"]}}

    def method(name: str, stated: Any, **arguments: Any) -> Recipe:
        made = changed(taught, "model.methods", {name: copy.deepcopy(stated)})
        if arguments:
            made["model"]["methods"][name]["init_args"] |= arguments
        return made

    alone = changed(base, "model.methods", {"fitnet": fitnet})
    yield Bad(
        "methods without a teacher", alone, "teacher", "FitNet|fitnet|None|no teacher|without"
    )
    yield Bad("a place that is not there", method("f", fitnet, places=["P9"]), "places|P9", "P9")
    yield Bad("no places", method("f", fitnet, places=[]), "places", r"\[\]|no |empty")
    yield Bad(
        "a negative weight of a method",
        method("f", fitnet, weight=-5.0),
        "weight",
        "-5",
        allowed=True,
    )
    yield Bad(
        "an argument that FitNet lacks",
        method("f", fitnet, temperature=2),
        "temperature",
        "temperature",
    )
    kd = {"class_path": "limbeck.methods.KD"}
    yield Bad("KD of detectors", method("kd", kd), "KD|kd", "RetinaNet|classif|detector|logits")
    yield Bad(
        "a method that does not exist",
        method("x", {"class_path": "limbeck.methods.Magic"}),
        "method",
        "Magic",
    )
    yield Bad("a method's name with a dot", method("a.b", fitnet), "a.b|name", r"a\.b")
    yield Bad("a method's name with a slash", method("a/b", fitnet), "a/b|name", "a/b")
    head = changed(method("f", fitnet), "model.transfer", {"head": "nose"})
    yield Bad("a transfer from nowhere", head, "transfer", "nose")
    other = method("f", fitnet)
    other["model"]["teacher"]["init_args"]["num_classes"] = 7
    yield Bad("a teacher of other classes", other, "teacher", "7", allowed=True)
    cls = material.classified()
    cls["model"] |= {
        "teacher": network(7),
        "methods": {"kd": {"class_path": "limbeck.methods.KD", "init_args": {}}},
    }
    yield Bad("KD from a teacher of 7 classes", cls, "teacher|class", "7")
    cold = copy.deepcopy(cls)
    cold["model"]["teacher"] = network(5)
    cold["model"]["methods"]["kd"]["init_args"] = {"temperature": -1.0}
    yield Bad("a negative temperature", cold, "temperature", "-1")
    lost = {"class_path": "limbeck.models.load_student", "init_args": {"folder": "nowhere"}}
    yield Bad(
        "a teacher that is not there",
        changed(method("f", fitnet), "model.teacher", lost),
        "teacher|nowhere",
        "nowhere",
    )
    dense = {"class_path": "limbeck.methods.MGD", "init_args": {"places": ["C2.pre"], "images": 0}}
    mgd = copy.deepcopy(cls)
    mgd["model"] |= {"teacher": network(5), "methods": {"mgd": dense}}
    yield Bad("MGD on no images", mgd, "images", "0")
    fgfi = {"class_path": "limbeck.methods.FineGrainedImitation", "init_args": {"factor": 7.0}}
    yield Bad("imitation above a factor of 7", method("i", fgfi), "factor", "7")


# Callbacks of Lightning's that a recipe may name, and that do nothing or something else here.
CALLBACKS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("EarlyStopping", {"monitor": "val/nonsense"}, "nonsense"),
    ("ModelCheckpoint", {"monitor": "val/nonsense"}, "nonsense"),
    (
        "GradientAccumulationScheduler",
        {"scheduling": {"0": 2}},
        "GradientAccumulationScheduler|scheduling",
    ),
    ("StochasticWeightAveraging", {"swa_lrs": 0.01}, "StochasticWeightAveraging"),
    ("BatchSizeFinder", {}, "BatchSizeFinder|batch"),
    ("LearningRateFinder", {}, "LearningRateFinder|learning"),
    ("BackboneFinetuning", {}, "BackboneFinetuning"),
    ("WeightAveraging", {}, "WeightAveraging"),
    ("EMAWeightAveraging", {}, "EMAWeightAveraging|moving_average"),
    ("Timer", {"duration": "yesterday"}, "yesterday|duration"),
)


def _callbacks(base: Recipe) -> Iterator[Bad]:
    for name, arguments, found in CALLBACKS:
        stated = {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}
        made = copy.deepcopy(base)
        made["trainer"]["callbacks"].append(stated)
        yield Bad(f"the callback {name}", made, f"callback|{name}|monitor", found, allowed=True)
