"""Files made to run code, to start programs, to reach elsewhere, or to take all memory."""

import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from campaign import material, pickles
from campaign.results import Result
from campaign.sandbox import GIB, Limits, Outcome, limbeck
from campaign.sound import Sound

Words = tuple[object, ...]
Check = Callable[[Path, Outcome], list[str]]
BAIT = "bait"


@dataclass(frozen=True)
class Hostile:
    """One attack.

    Attributes:
        name: What it is.
        point: Of issue 15.
        make: Writes its files into a folder, and returns the words after ``limbeck``.
        check: What else must hold after it.
        refused: Whether it has to be refused.
        room: Bytes that the process may take before it is stopped.
    """

    name: str
    point: int
    make: Callable[[Path], Words]
    check: Check | None = None
    refused: bool = False
    room: int = 4 * GIB


def everything(sound: Sound) -> Iterator[Hostile]:
    """All of them."""
    yield from _pickles(sound)
    yield from _cards(sound)
    yield from _bombs(sound)
    yield from _numbers(sound)
    yield from _pictures(sound)
    yield from _names(sound)
    yield from _links(sound)


# -- pickles that name functions -------------------------------------------------------------------


def _pickles(sound: Sound) -> Iterator[Hostile]:
    for number, function in enumerate(pickles.FUNCTIONS):
        for kind, write in pickles.FILES.items():
            ways = list(pickles.WAYS.values())
            way = ways[(number + len(kind)) % len(ways)]
            verb = ("inspect", "convert")[number % 2]
            title = f"{kind} names {function[0]}.{function[1]}"
            yield Hostile(title, 1, _evil_file(function, way, kind, write, verb), refused=True)
    for number, function in enumerate(pickles.FUNCTIONS[:12]):
        way = list(pickles.WAYS.values())[number % 4]
        yield Hostile(
            f"last.ckpt names {function[0]}.{function[1]}",
            1,
            _evil_run(sound, function, way, "resume"),
            refused=True,
        )
        yield Hostile(
            f"--ckpt_path names {function[0]}.{function[1]}",
            1,
            _evil_run(sound, function, way, "validate"),
            refused=True,
        )
    for function in pickles.FUNCTIONS[:6]:
        yield Hostile(
            f"a recipe's weights name {function[0]}.{function[1]}",
            1,
            _evil_weights(sound, function),
            refused=True,
        )


def _filled(folder: Path, function: tuple[str, str, str]) -> tuple[str, str, str]:
    """With a canary, a bait and a script of this folder."""
    bait = folder / BAIT
    bait.write_text("bait")
    script = folder / "script.py"
    script.write_text(f"open({str(folder / 'canary')!r}, 'w')")
    module, name, argument = function
    return (
        module,
        name,
        argument.format(canary=str(folder / "canary"), bait=str(bait), script=str(script)),
    )


def _evil_file(
    function: tuple[str, str, str], way: Any, kind: str, write: Any, verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = write(way(*_filled(folder, function)), folder / kind)
        return (verb, path) if verb == "inspect" else (verb, path, folder / "out.safetensors")

    return make


def _evil_run(
    sound: Sound, function: tuple[str, str, str], way: Any, verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copytree(sound.run, folder / "run")
        last = folder / "run/checkpoints/last.ckpt"
        pickles.in_zip(way(*_filled(folder, function)), last)
        if verb == "resume":
            return "fit", "--resume", folder / "run"
        return "validate", "--config", sound.folder / "run.yaml", "--ckpt_path", last

    return make


def _evil_weights(sound: Sound, function: tuple[str, str, str]) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = pickles.in_zip(pickles.by_global(*_filled(folder, function)), folder / "evil.pth")
        return (
            "validate",
            "--config",
            sound.folder / "run.yaml",
            "--model.student.init_args.weights",
            path,
        )

    return make


# -- student.json ----------------------------------------------------------------------------------


def _cards(sound: Sound) -> Iterator[Hostile]:
    for verb in ("predict", "inspect", "teacher"):
        for trust in (True, False):
            title = f"student.json names load_student, trust {trust}, of an inner folder, in {verb}"
            yield Hostile(title, 1, _inner(sound, verb, trust), refused=True)
    for number, (path, arguments) in enumerate(CALLABLES):
        verb = ("predict", "inspect")[number % 2]
        title = f"student.json names {path}({', '.join(arguments)}) in {verb}"
        yield Hostile(title, 1, _named(sound, path, arguments, verb), refused=True)
    for path, arguments in AUGMENTATIONS:
        title = f"student.json's augmentation is {path}"
        yield Hostile(title, 1, _augmented(sound, path, arguments), refused=True)
    for name, change in MALFORMED.items():
        for verb in ("predict", "inspect"):
            yield Hostile(
                f"malformed student.json in {verb}: {name}",
                9,
                _malformed(sound, change, verb),
                refused=name not in LENIENT,
            )


CODE = {"class_path": "os.system", "init_args": {"command": "touch {canary}"}}
# Callables of the three trusted packages that fetch, open, or run more than they build.
CALLABLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("limbeck.models.load_student", {"folder": "{bait}"}),
    ("limbeck.models.student.load_student", {"folder": "{bait}", "trust": True}),
    (
        "limbeck.models.Classifier",
        {"network": "resnet18", "num_classes": 3, "weights": "{bait}.pth"},
    ),
    (
        "limbeck.models.Classifier",
        {"network": "resnet18", "num_classes": 3, "weights": "https://bait.example/w.pth"},
    ),
    (
        "limbeck.models.Classifier",
        {"network": "resnet18", "num_classes": 3, "weights": "torchvision"},
    ),
    (
        "limbeck.models.Classifier",
        {"network": "timm:resnet18", "num_classes": 3, "weights": "timm"},
    ),
    (
        "limbeck.models.RetinaNet",
        {"backbone": "resnet18", "num_classes": 3, "weights": "{bait}.pth"},
    ),
    (
        "limbeck.models.RetinaNet",
        {"backbone": "resnet18", "num_classes": 3, "weights": "torchvision:backbone"},
    ),
    (
        "limbeck.models.RetinaNet",
        {"backbone": "resnet18", "num_classes": 3, "weights": "http://bait.example/w.pth"},
    ),
    (
        "limbeck.models.FasterRCNN",
        {
            "backbone": "resnet50",
            "num_classes": 3,
            "weights": "detectron2:http://bait.example/w.pkl",
        },
    ),
    ("torchvision.models.resnet18", {"weights": "DEFAULT"}),
    ("torchvision.models.get_model", {"name": "resnet18", "weights": "DEFAULT"}),
    ("torchvision.models.detection.retinanet_resnet50_fpn", {"weights_backbone": "DEFAULT"}),
    ("torchvision.models.detection.fcos_resnet50_fpn", {}),
    ("timm.create_model", {"model_name": "resnet18", "pretrained": True}),
    ("timm.create_model", {"model_name": "hf-hub:bait/model"}),
    ("timm.create_model", {"model_name": "local-dir:{bait}_dir"}),
    ("timm.create_model", {"model_name": "resnet18", "checkpoint_path": "{bait}.pth"}),
    (
        "timm.create_model",
        {
            "model_name": "resnet18",
            "pretrained": True,
            "pretrained_cfg_overlay": {"file": "{bait}.pth"},
        },
    ),
    (
        "timm.create_model",
        {
            "model_name": "resnet18",
            "pretrained": True,
            "pretrained_cfg": {"url": "http://bait.example/w.pth"},
        },
    ),
    ("timm.models.resnet18", {"pretrained": True}),
    ("timm.models.resnet.resnet18", {"pretrained": True, "pretrained_cfg": {"file": "{bait}.pth"}}),
    ("timm.models.load_model_config_from_hf", {"model_id": "bait/model"}),
    (
        "timm.models.create_model",
        {"model_name": "resnet18", "scriptable": True, "checkpoint_path": "{bait}.pth"},
    ),
    ("timm.models._factory.create_model", {"model_name": "hf_hub:bait/model"}),
    (
        "timm.models._builder.build_model_with_cfg",
        {"model_cls": "os.system", "variant": "touch {canary}", "pretrained": False},
    ),
    ("timm.layers.create_conv2d", {"in_channels": 3, "out_channels": 3, "kernel_size": 3}),
    ("timm.utils.model.freeze", {"root_module": "{bait}"}),
    ("torchvision.models.feature_extraction.create_feature_extractor", {"model": "{bait}"}),
    ("torchvision.models._utils.IntermediateLayerGetter", {"model": "{bait}", "return_layers": {}}),
    ("torchvision.ops.misc.ConvNormActivation", {"in_channels": 3, "out_channels": 3}),
    ("torchvision.transforms.v2.Lambda", {"function": "{bait}"}),
    (
        "torchvision._internally_replaced_utils.load_state_dict_from_url",
        {"url": "http://bait.example/w.pth"},
    ),
    (
        "torchvision.models._api.torch.hub.load",
        {"repo_or_dir": "{bait}_dir", "source": "local", "model": "evil", "trust_repo": True},
    ),
    ("torchvision.models.resnet.torch.jit.load", {"f": "{bait}.pth"}),
    ("torchvision.models.resnet.nn.Identity", {}),
    ("limbeck.cli.main", {"arguments": ["--version"]}),
    ("limbeck.cli.os.system", {"command": "touch {canary}"}),
    ("limbeck.commands.quickstart.run", {"arguments": ["quickstart"]}),
    ("limbeck.commands.fit.run", {"arguments": ["fit"]}),
    ("limbeck.models.save_student", {"model": None, "folder": "{canary}"}),
    ("limbeck.Distillation", {"student": None}),
    ("limbeck.models.build.Build.make", {}),
    ("limbeck.models.build.typing.cast", {"typ": 1, "val": 2}),
    ("os.system", {"command": "touch {canary}"}),
    ("subprocess.run", {"args": ["touch", "{canary}"]}),
    ("builtins.eval", {"source": "1"}),
    ("limbeck_evil.Model", {}),
    ("timm", {}),
    ("limbeck", {}),
    ("", {}),
    (".", {}),
    ("limbeck..models", {}),
    (
        "limbeck.models:RetinaNet",
        {"backbone": "resnet18", "num_classes": 3, "weights": "{bait}.pth"},
    ),
    ("timm.models.resnet:resnet18", {"pretrained": True}),
    ("torchvision:os.system", {"command": "touch {canary}"}),
)
AUGMENTATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("os.system", {"command": "touch {canary}"}),
    ("limbeck.models.load_student", {"folder": "{bait}", "trust": True}),
    ("limbeck.cli.main", {"arguments": ["--version"]}),
    ("limbeck.data.Augmentation", {}),
    ("limbeck.data.COCO", {"images": "{bait}", "annotations": "{bait}"}),
    ("limbeck.data.DetectionAugmentation", {"short_sides": [-3], "long_side": "many"}),
    ("limbeck.data.ClassificationAugmentation", {"size": 10**9}),
    ("limbeck.data.ClassificationAugmentation", {}),
    ("limbeck.data.NoSuchThing", {}),
)


def _student(sound: Sound, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of the sound student with another card, whose checksum is right."""
    target = folder / "student"
    shutil.copytree(sound.student, target)
    card = json.loads((target / "student.json").read_text())
    made = change(card)
    text = made if isinstance(made, str) else json.dumps(card if made is None else made)
    (target / "student.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    return target


def _verb(verb: str, student: Path, sound: Sound) -> Words:
    if verb == "predict":
        return "predict", student, sound.images / "a.png", "--output", student.parent / "out"
    if verb == "inspect":
        return "inspect", student
    return (
        *("validate", "--config", sound.folder / "run.yaml"),
        *("--model.teacher", "limbeck.models.load_student"),
        *("--model.teacher.init_args.folder", student),
    )


def _inner(sound: Sound, verb: str, trust: bool) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        inner = folder / "inner"
        inner.mkdir()
        command = f"touch {folder / 'canary'}"
        card = json.loads((sound.student / "student.json").read_text())
        card["build"] = {"class_path": "os.system", "init_args": {"command": command}}
        (inner / "student.json").write_text(json.dumps(card))
        shutil.copy(sound.student / "student.safetensors", inner)
        arguments: dict[str, Any] = {"folder": str(inner)} | ({"trust": True} if trust else {})
        build = {"class_path": "limbeck.models.load_student", "init_args": arguments}
        return _verb(verb, _student(sound, folder, lambda card: card.update(build=build)), sound)

    return make


def _filled_arguments(folder: Path, arguments: Any) -> Any:
    """Canary and bait in every text of the arguments; what is baited with exists."""
    shutil.rmtree(folder / "bait_dir", ignore_errors=True)
    (folder / "bait_dir").mkdir()
    (folder / "bait_dir/hubconf.py").write_text(f"open({str(folder / 'canary')!r}, 'w')")
    (folder / "bait_dir/config.json").write_text('{"architecture": "resnet18"}')
    (folder / "bait.pth").write_bytes(
        pickles.by_global("os", "system", f"touch {folder / 'canary'}")
    )
    text = json.dumps(arguments)
    return json.loads(
        text.replace("{canary}", str(folder / "canary")).replace("{bait}", str(folder / BAIT))
    )


def _named(
    sound: Sound, path: str, arguments: dict[str, Any], verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        build = {"class_path": path, "init_args": _filled_arguments(folder, arguments)}
        return _verb(verb, _student(sound, folder, lambda card: card.update(build=build)), sound)

    return make


def _augmented(sound: Sound, path: str, arguments: dict[str, Any]) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        stated = {"class_path": path, "init_args": _filled_arguments(folder, arguments)}
        return _verb(
            "predict",
            _student(sound, folder, lambda card: card["metadata"].update(augmentation=stated)),
            sound,
        )

    return make


def _malformed(
    sound: Sound, change: Callable[[dict[str, Any]], Any], verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        return _verb(verb, _student(sound, folder, change), sound)

    return make


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """A change of a card: one key."""

    def change(card: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        inner = card
        for part in outer:
            inner = inner[part]
        inner[last] = value

    return change


def _without(path: str) -> Callable[[dict[str, Any]], Any]:
    def change(card: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        inner = card
        for part in outer:
            inner = inner[part]
        del inner[last]

    return change


LENIENT = {
    "without metadata",
    "without versions",
    "without input",
    "versions null",
    "classes empty",
    "metadata null",
    "input null",
    "classes null",
    "without classes",
    "metadata list",
    "metadata.augmentation null",
    "without base",
    "an unknown key",
}
MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "empty": lambda card: "",
    "null": lambda card: "null",
    "a list": lambda card: "[]",
    "a number": lambda card: "1",
    "a text": lambda card: '"student"',
    "an empty object": lambda card: "{}",
    "deep": lambda card: "[" * 100_000 + "]" * 100_000,
    "NaN": lambda card: '{"format": NaN}',
    "a huge number": lambda card: '{"format": ' + "9" * 5000 + "}",
    "a lone surrogate": _set("build.class_path", "limbeck.\udc80"),
    "a BOM": lambda card: "\ufeff" + json.dumps(card),
    **{
        f"without {key}": _without(key)
        for key in (
            "format",
            "build",
            "classes",
            "metadata",
            "weights",
            "versions",
            "input",
            "build.class_path",
            "build.init_args",
            "weights.sha256",
            "weights.file",
        )
    },
    **{
        f"{key} null": _set(key, None)
        for key in (
            "format",
            "build",
            "classes",
            "metadata",
            "weights",
            "versions",
            "input",
            "build.class_path",
            "build.init_args",
            "weights.sha256",
            "metadata.augmentation",
            "metadata.task",
        )
    },
    **{
        f"{key} list": _set(key, [1, 2])
        for key in (
            "format",
            "build",
            "metadata",
            "weights",
            "build.class_path",
            "build.init_args",
            "weights.sha256",
            "metadata.augmentation",
            "metadata.task",
        )
    },
    "classes a text": _set("classes", "red"),
    "classes a number": _set("classes", 3),
    "classes a mapping": _set("classes", {"red": 1}),
    "classes of numbers": _set("classes", [1, 2, 3]),
    "classes of null": _set("classes", [None, None, None]),
    "classes of lists": _set("classes", [[], [], []]),
    "too few classes": _set("classes", ["red"]),
    "too many classes": _set("classes", ["a"] * 50),
    "classes twice the same": _set("classes", ["a", "a", "a"]),
    "classes empty": _set("classes", []),
    "format 2": _set("format", 2),
    "format true": _set("format", True),
    "format 1.0e0 text": _set("format", "1"),
    "build.extra": _set("build.trust", True),
    "an unknown key": _set("trust", True),
    "another file of weights": _set("weights.file", "../../bait.safetensors"),
    "num_classes text": _set("build.init_args.num_classes", "three"),
    "num_classes negative": _set("build.init_args.num_classes", -3),
    "num_classes 4": _set("build.init_args.num_classes", 4),
    "num_classes 10**12": _set("build.init_args.num_classes", 10**12),
    "num_classes 10**30": _set("build.init_args.num_classes", 10**30),
    "num_classes 1e400": lambda card: json.dumps(card).replace(
        '"num_classes": 3', '"num_classes": 1e400'
    ),
    "fpn_channels 10**6": _set("build.init_args.fpn_channels", 10**6),
    "fpn_channels 0": _set("build.init_args.fpn_channels", 0),
    "head_depth 10**6": _set("build.init_args.head_depth", 10**6),
    "head_depth -1": _set("build.init_args.head_depth", -1),
    "levels 3 to 40": _set("build.init_args.levels", [3, 40]),
    "levels 3 to 10**9": _set("build.init_args.levels", [3, 10**9]),
    "depths 10**6": _set("build.init_args.backbone.depths", [10**6, 1, 1]),
    "depths unequal": _set("build.init_args.backbone.depths", [1, 1]),
    "widths 10**9": _set("build.init_args.backbone.widths", [8, 8, 10**9]),
    "backbone unknown key": _set("build.init_args.backbone.trust", True),
    "backbone a number": _set("build.init_args.backbone", 18),
    "min_size 10**9": _set("build.init_args.min_size", 10**9),
    "max_size 10**6, min_size 10**6": lambda card: card["build"]["init_args"].update(
        min_size=10**6, max_size=10**6
    ),
    "min_size -64": _set("build.init_args.min_size", -64),
    "min_size 0": _set("build.init_args.min_size", 0),
    "min_size text": _set("build.init_args.min_size", "64"),
    "anchors 10**6 of one level": _set("build.init_args.anchor_sizes", [[14.0] * 10**6, [28.0]]),
    "aspect_ratios text": _set("build.init_args.aspect_ratios", "wide"),
    "detections_per_image 10**12": _set("build.init_args.detections_per_image", 10**12),
    "detections_per_image -1": _set("build.init_args.detections_per_image", -1),
    "topk_candidates -1": _set("build.init_args.topk_candidates", -1),
    "score_threshold null": _set("build.init_args.score_threshold", None),
    "std 0": _set("build.init_args.std", [0.0, 0.0, 0.0]),
    "mean of two": _set("build.init_args.mean", [0.5, 0.5]),
    "an unknown argument": _set("build.init_args.spine", 3),
    "device cuda": _set("build.init_args.device", "cuda"),
}


# -- memory and time -------------------------------------------------------------------------------


def _bombs(sound: Sound) -> Iterator[Hostile]:
    yield Hostile("a torch zip with a compressed record", 7, _zip_bomb(1 * GIB))
    yield Hostile("a torch zip with a compressed data.pkl", 7, _pkl_bomb)
    yield Hostile("a torch zip whose record claims to be larger", 7, _oversized, refused=True)
    yield Hostile("a torch zip of 200,000 records", 7, _many_records)
    for name, program in {
        "growing tuples": lambda: pickles.growing(10_000),
        "a list of 8 MB of dicts": lambda: pickles.memo(8),
        "a list of 8 MB of lists": lambda: pickles.lists(8),
        "a list of itself": lambda: pickles.doubling(1000),
        "deep tuples": lambda: b"\x80\x02K\x01" + b"\x85" * 1_000_000 + b".",
        "a long integer": lambda: (
            b"\x80\x02\x8b" + struct.pack("<i", 8 << 20) + b"\x7f" * (8 << 20) + b"."
        ),
        "a text that claims 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xff" + b"a" * 100,
        "bytes that claim 2**63": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a" * 100,
        "a frame that claims 2**62": lambda: (
            b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"a" * 100
        ),
        "a decimal of 8 MB": lambda: b"I" + b"7" * (8 << 20) + b"\n.",
        "8 MB of marks": lambda: b"\x80\x02" + b"(" * (8 << 20) + b".",
        "memo index 2**31": lambda: b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        "an array that claims 2**40": lambda: pickles.by_global(
            "numpy.core.multiarray", "_reconstruct", "x"
        ),
    }.items():
        for kind, write in pickles.FILES.items():
            yield Hostile(f"{kind}: {name}", 7, _program(program, kind, write), refused=True)
    yield Hostile(
        "safetensors: a header of 2**62 bytes",
        7,
        _safetensors(struct.pack("<Q", 2**62) + b"{}"),
        refused=True,
    )
    yield Hostile("safetensors: a million tensors", 7, _safetensors_many)
    yield Hostile("safetensors: a million keys of metadata", 7, _safetensors_metadata)
    yield Hostile("student.json: a million keys of metadata", 7, _many_keys(sound))
    yield Hostile("student.json: 100 MB", 7, _long_card(sound))
    for name, text in YAML.items():
        yield Hostile(f"a recipe: {name}", 7, _yaml_recipe(text, "fit"), refused=True)
        yield Hostile(
            f"a recipe: {name}, in inspect", 7, _yaml_recipe(text, "inspect"), refused=True
        )
        yield Hostile(f"Detectron2's configuration: {name}", 7, _yaml_beside(sound, text))
    for name, text in PYTHON.items():
        yield Hostile(f"mmdetection's configuration: {name}", 7, _python_beside(sound, text))
    yield Hostile("COCO: deep JSON", 7, _coco_text(sound, "[" * 1_000_000), refused=True)
    yield Hostile(
        "COCO: a huge number",
        7,
        _coco_text(sound, '{"images": ' + "9" * 10_000_000 + "}"),
        refused=True,
    )
    yield Hostile("VOC: entities of entities", 7, _voc_text(LAUGHS), refused=True)
    yield Hostile("VOC: an external entity", 1, _voc_text(EXTERNAL), refused=True)
    yield Hostile("VOC: deep XML", 7, _voc_text("<a>" * 500_000), refused=True)
    yield Hostile(
        "WIDER FACE: a count of 10**12",
        7,
        _wider_text("0--Parade/a.jpg\n1000000000000\n1 1 9 9 0 0 0 0 0 0\n"),
        refused=True,
    )
    yield Hostile("darknet: sizes beyond the file", 7, _darknet, refused=False)


def _program(program: Callable[[], bytes], kind: str, write: Any) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        return "inspect", write(program(), folder / kind)

    return make


# A tensor of one storage, as torch.save pickles it.
def _tensor(elements: int) -> bytes:
    t = pickles.text
    storage = (
        b"("
        + t("storage")
        + b"ctorch\nFloatStorage\n"
        + t("0")
        + t("cpu")
        + b"\x8a\x05"
        + elements.to_bytes(5, "little")
        + b"tQ"
    )
    size = b"\x8a\x05" + elements.to_bytes(5, "little") + b"\x85"
    call = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00"
        + size
        + b"K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02}" + t("layer.weight") + call + b"s."


def _zip_bomb(size: int) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = folder / "bomb.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.writestr("archive/data.pkl", _tensor(6 * size // 4))
            archive.writestr("archive/version", b"3\n")
            with archive.open("archive/data/0", "w", force_zip64=True) as record:
                for _ in range(6 * size >> 26):
                    record.write(bytes(1 << 26))
        return "inspect", path

    return make


def _pkl_bomb(folder: Path) -> Words:
    path = folder / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as record:
            record.write(b"\x80\x04\x8e" + struct.pack("<Q", 3 << 30))
            for _ in range(3 << 4):
                record.write(bytes(1 << 26))
            record.write(b".")
        archive.writestr("archive/version", b"3\n")
    return "inspect", path


def _oversized(folder: Path) -> Words:
    path = folder / "bomb.pth"
    pickles.in_zip(_tensor(1 << 31), path, **{"0": bytes(64)})
    raw = path.read_bytes()
    path.write_bytes(
        raw.replace(struct.pack("<II", 64, 64), struct.pack("<II", 0xFFFFFF00, 0xFFFFFF00))
    )
    return "inspect", path


def _many_records(folder: Path) -> Words:
    path = folder / "many.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _tensor(16))
        for number in range(200_000):
            archive.writestr(f"archive/data/{number}", bytes(64) if not number else b"")
    return "inspect", path


def _safetensors(content: bytes) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "w.safetensors").write_bytes(content)
        return "inspect", folder / "w.safetensors"

    return make


def _safetensors_many(folder: Path) -> Words:
    header = {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(1_000_000)
    }
    text = json.dumps(header).encode()
    return _safetensors(struct.pack("<Q", len(text)) + text)(folder)


def _safetensors_metadata(folder: Path) -> Words:
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = {"__metadata__": {f"k{i}": "v" for i in range(1_000_000)}, "w": tensor}
    text = json.dumps(header).encode()
    return _safetensors(struct.pack("<Q", len(text)) + text + bytes(4))(folder)


def _many_keys(sound: Sound) -> Callable[[Path], Words]:
    def change(card: dict[str, Any]) -> None:
        card["metadata"] |= {f"key{i}": i for i in range(3_000_000)}

    return lambda folder: _verb("predict", _student(sound, folder, change), sound)


def _long_card(sound: Sound) -> Callable[[Path], Words]:
    def change(card: dict[str, Any]) -> str:
        return json.dumps(card) + " " * 100_000_000

    return lambda folder: _verb("predict", _student(sound, folder, change), sound)


def _aliases(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, levels):
        inner = ", ".join([f"*a{i - 1}"] * width)
        lines.append(f"a{i}: &a{i} [{inner}]")
    return (
        "\n".join(
            [*lines, f"model: {{student: *a{levels - 1}}}", "MODEL: {META_ARCHITECTURE: RetinaNet}"]
        )
        + "\n"
    )


def _merges(levels: int) -> str:
    keys = ", ".join(f"k{i}: {i}" for i in range(100))
    lines = [f"m0: &m0 {{{keys}}}"]
    for i in range(1, levels):
        inner = ", ".join([f"*m{i - 1}"] * 10)
        lines.append(f"m{i}: &m{i} {{<<: [{inner}]}}")
    return (
        "\n".join(
            [*lines, f"model: {{student: *m{levels - 1}}}", "MODEL: {META_ARCHITECTURE: RetinaNet}"]
        )
        + "\n"
    )


YAML = {
    "aliases of aliases": _aliases(10, 10),
    "aliases of aliases of aliases": _aliases(30, 10),
    "merges of merges": _merges(8),
    "an alias of itself": "model: &a {student: *a}\nMODEL: *a\n",
    "a list of itself": "model: &a [*a]\nMODEL: *a\n",
    "deep lists": "model: " + "[" * 20_000 + "\n",
    "a deep mapping": "model: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n",
    "a million keys": "".join(f"k{i}: {i}\n" for i in range(1_000_000)),
    "a number of a million digits": "model: {student: "
    + "9" * 1_000_000
    + "}\nMODEL: {A: "
    + "9" * 1_000_000
    + "}\n",
    "a sexagesimal number": "model: {student: " + ":".join(["59"] * 20_000) + "}\n",
    "a Python object": "model: !!python/object/apply:os.system ['touch canary']\nMODEL: 1\n",
    "a Python name": "model: {student: !!python/name:os.system }\nMODEL: 1\n",
    "a NUL": "model: {student: \0}\n",
    "binary": "\x01\x02\x03\x04",
    "tabs": "model:\n\tstudent: 1\n",
    "a text": "just a text\n",
    "a number": "3\n",
    "null": "null\n",
    "a list": "- a\n- b\n",
    "two documents": "model: 1\n---\nmodel: 2\n",
    "keys of lists": "? [a, b]\n: 1\n",
    "keys of numbers": "1: 2\nmodel: {3: 4}\n",
    "the same key twice": "model: 1\nmodel: 2\nMODEL: 1\n",
}
PYTHON = {
    "nested additions": "model = " + "(" * 50_000 + "1" + ")" * 50_000 + "\n",
    "an import": "import os\nos.system('touch canary')\nmodel = dict(type='RetinaNet')\n",
    "a call": "model = dict(type=__import__('os').system('touch canary'))\n",
    "a power": "model = dict(type='RetinaNet', x=9**9**9**9)\n",
    "a repetition": "model = dict(type='RetinaNet', x='a' * 10**12)\n",
    "a comprehension": "model = dict(type='RetinaNet', x=[i for i in range(10**12)])\n",
    "deep lists": "model = " + "[" * 5000 + "]" * 5000 + "\n",
    "a million keys": "model = dict(" + ", ".join(f"k{i}={i}" for i in range(300_000)) + ")\n",
    "an f-string": "model = dict(type=f'{9**9**9}')\n",
    "a base": "_base_ = ['../../../bait.py']\nmodel = dict(type='RetinaNet')\n",
    "a lambda": "model = (lambda f: f(f))(lambda f: f(f))\n",
    "absurd numbers": "model = dict(type='RetinaNet', neck=dict(num_outs=10**18, out_channels=1e308))\n",
    "a NUL": "model = dict(type='\0')\n",
}
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    + "]><annotation><object><name>&l9;</name></object></annotation>"
)
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    "<annotation><object><name>&e;</name></object></annotation>"
)


def _yaml_recipe(text: str, verb: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = folder / "recipe.yaml"
        path.write_text(text)
        where = ("--trainer.default_root_dir", folder / "run")
        return (verb, path) if verb == "inspect" else (verb, "--config", path, *where)

    return make


def _yaml_beside(sound: Sound, text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copy(sound.folder / "detectron2.pkl", folder / "model.pkl")
        (folder / "config.yaml").write_text(text)
        (folder / "model.yaml").write_text(text)
        return "convert", folder / "model.pkl", folder / "out.safetensors"

    return make


def _python_beside(sound: Sound, text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copy(sound.folder / "mmdetection.pth", folder / "model.pth")
        (folder / "model.py").write_text(text)
        (folder / "config.py").write_text(text)
        return "convert", folder / "model.pth", folder / "out.safetensors"

    return make


def _validate(folder: Path, data: material.Recipe) -> Words:
    classes = {"KITTI": 3, "WIDERFace": 1}.get(data["class_path"].rpartition(".")[2], 3)
    stated = material.recipe(data, data, material.detector(num_classes=classes))
    return "validate", "--config", material.write_recipe(folder / "recipe.yaml", stated)


def _coco_text(sound: Sound, text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.coco(folder / "coco")
        (folder / "coco/ann.json").write_text(text)
        return _validate(folder, data)

    return make


def _voc_text(text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.voc(folder / "voc")
        (folder / "voc/Annotations/0000.xml").write_text(text)
        return _validate(folder, data)

    return make


def _wider_text(text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.wider_face(folder / "wider")
        (folder / "wider/wider_face_split/wider_face_val_bbx_gt.txt").write_text(text)
        return _validate(folder, data)

    return make


def _darknet(folder: Path) -> Words:
    (folder / "a.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 2**62) + b"\xff" * 4096)
    return "inspect", folder / "a.weights"


def _numbers(sound: Sound) -> Iterator[Hostile]:
    """Absurd numbers in recipes, which are bounded, and said."""
    for path, value in ABSURD:

        def make(folder: Path, path: str = path, value: object = value) -> Words:
            where = ("--trainer.default_root_dir", folder / "run")
            return ("fit", "--config", sound.folder / "run.yaml", *where, f"--{path}={value}")

        yield Hostile(f"a recipe with {path} = {value}", 7, make, refused=True)


ABSURD: tuple[tuple[str, object], ...] = (
    ("data.batch_size", 10**12),
    ("model.student.init_args.fpn_channels", 10**6),
    ("model.student.init_args.fpn_channels", 10**12),
    ("model.student.init_args.head_depth", 10**6),
    ("model.student.init_args.num_classes", 10**9),
    ("model.student.init_args.min_size", 10**6),
    ("model.student.init_args.max_size", 10**15),
    ("model.student.init_args.levels", "[3,1000]"),
    ("model.student.init_args.levels", "[3,1000000000]"),
    ("model.student.init_args.backbone", "{depths: [1000000,1,1], widths: [8,8,16]}"),
    ("model.student.init_args.backbone", "{depths: [1,1,1], widths: [8,8,100000000]}"),
    ("model.student.init_args.aspect_ratios", "[1e300]"),
    ("model.student.init_args.anchor_sizes", "[[1e300,20],[28,40]]"),
    ("seed_everything", 10**30),
    (
        "data.augmentation",
        "{class_path: limbeck.data.DetectionAugmentation, init_args: {short_sides: [1000000], long_side: 1000000}}",
    ),
)


# -- pictures --------------------------------------------------------------------------------------


def png(
    path: Path, width: int, height: int, depth: int = 16, colour: int = 2, rows: int | None = None
) -> Path:
    """A black PNG of any size, which is small on the disk."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + width * channels * depth // 8)
    packer, packed = zlib.compressobj(9), b""
    for _ in range(height if rows is None else rows):
        packed += packer.compress(row)
    packed += packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def _pictures(sound: Sound) -> Iterator[Hostile]:
    def big(width: int, height: int, depth: int, colour: int) -> Callable[[Path], Words]:
        return lambda folder: _on_images(sound, png(folder / "a.png", width, height, depth, colour))

    yield Hostile(
        "a PNG of 13300 x 13300 in 16 bit, predict", 7, big(13300, 13300, 16, 2), room=8 * GIB
    )
    yield Hostile(
        "a grey PNG of 13300 x 13300 in 16 bit, predict", 7, big(13300, 13300, 16, 0), room=8 * GIB
    )
    yield Hostile("a PNG of 100 x 1000000, predict", 7, big(100, 1_000_000, 8, 2))
    yield Hostile("a PNG of 1 x 3000000, predict", 7, big(1, 3_000_000, 8, 2))
    yield Hostile(
        "a PNG that claims 2**31 - 1 squared",
        7,
        lambda f: _on_images(
            sound, png(f / "a.png", 2**31 - 1, 2**31 - 1, 1, 0, rows=0) if False else _claiming(f)
        ),
        refused=True,
    )
    for name, make in {"png": _png_frames, "gif": _gif_frames, "webp": _webp_frames}.items():
        yield Hostile(
            f"{name}: many frames or chunks", 7, lambda f, make=make: _on_images(sound, make(f))
        )

    def annotated(folder: Path) -> Words:
        data = material.coco(folder / "coco")
        png(folder / "coco/images/0000.png", 13300, 13300)
        return _validate(folder, data)

    yield Hostile(
        "a PNG of 13300 x 13300 where the annotation says 64 x 64", 7, annotated, room=8 * GIB
    )
    for suffix in ("png", "jpg", "gif", "webp"):

        def ghost(folder: Path, suffix: str = suffix) -> Words:
            (folder / f"a.{suffix}").write_text(POSTSCRIPT)
            return _on_images(sound, folder / f"a.{suffix}")

        yield Hostile(f"a .{suffix} that is PostScript, predict", 7, ghost, refused=True)
    for layout in ("coco", "voc", "kitti", "image_folder", "wider_face"):

        def within(folder: Path, layout: str = layout) -> Words:
            data = getattr(material, layout)(folder / "data")
            first = sorted(p for p in (folder / "data").rglob("*") if p.suffix in (".png", ".jpg"))[
                0
            ]
            first.write_text(POSTSCRIPT)
            if layout == "image_folder":
                stated = material.recipe(data, data, material.network())
                return "validate", "--config", material.write_recipe(folder / "recipe.yaml", stated)
            return _validate(folder, data)

        yield Hostile(f"a picture that is PostScript, in {layout}", 7, within, refused=True)
    for kind, content in OTHER_FORMATS.items():

        def other(folder: Path, content: bytes = content) -> Words:
            (folder / "a.png").write_bytes(content)
            return _on_images(sound, folder / "a.png")

        yield Hostile(f"a .png that is {kind}", 7, other, refused=True)


OTHER_FORMATS = {
    "a FITS file": b"SIMPLE  =                    T" + b" " * 2850,
    "an icon": b"\0\0\1\0\1\0" + b"\x10\x10" + b"\0" * 40,
    "a WMF": b"\xd7\xcd\xc6\x9a" + b"\0" * 100,
    "an XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000",\n"a"};',
    "a GBR": struct.pack(">5I", 28, 2, 1, 1, 4) + b"GIMP" + b"\0" * 16,
    "a PPM with a comment of 8 MB": b"P6\n#" + b"a" * (8 << 20) + b"\n1 1\n255\nabc",
    "a TIFF": b"II*\0\x08\0\0\0\0\0",
    "a PDF": b"%PDF-1.4\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


def _claiming(folder: Path) -> Path:
    path = png(folder / "a.png", 1, 1, 8, 2)
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    path.write_bytes(bytes(raw))
    return path


def _png_frames(folder: Path) -> Path:
    """A text chunk that unpacks to a gigabyte."""
    path = png(folder / "a.png", 64, 64, 8, 2)
    raw = path.read_bytes()
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    data = b"Comment\0\0" + packed
    chunk = (
        struct.pack(">I", len(data))
        + b"zTXt"
        + data
        + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    )
    path.write_bytes(raw[:33] + chunk + raw[33:])
    return path


def _gif_frames(folder: Path) -> Path:
    from PIL import Image

    frames = [Image.new("P", (64, 64), i % 256) for i in range(3000)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    return folder / "a.gif"


def _webp_frames(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (16383, 16383)).save(folder / "a.webp", quality=0, method=0)
    return folder / "a.webp"


def _on_images(sound: Sound, *paths: Path) -> Words:
    return "predict", sound.student, *paths, "--output", paths[0].parent / "out"


# -- names that are paths, markup, keys ------------------------------------------------------------

NAMES = (
    "../../x",
    "/tmp/campaign_absolute",
    "a/b",
    "..",
    ".",
    "con",
    "NUL.txt",
    "a\\b",
    "[bold]",
    "[/red]",
    "sign [/red]",
    "[link=http://bait.example]",
    "a\nb: c",
    "a: b",
    "- a",
    "{a}",
    "*a",
    "&a",
    "!!python/name:os.system",
    "'",
    '"',
    "#",
    "%s",
    "{0}",
    "a,b",
    "a\tb",
    "\x1b[31mred",
    "\x00",
    " ",
    "é",
    "e\u0301",
    "\u202egnp.exe",
    "x" * 300,
    "True",
    "null",
    "1e3",
    "~",
    "AP",
    "AP/x",
    "=1+1",
    "train/total",
    "Red",
    "red",
    "red ",
    "😀",
    "\ud800",
)


def _names(sound: Sound) -> Iterator[Hostile]:
    for name in NAMES:
        shown = ascii(name)[:40]
        yield Hostile(
            f"a class {shown}: validate --detections", 3, _class_named(name), _inside("detections")
        )
        yield Hostile(
            f"a class {shown}: fit, predict, and the student", 3, _class_fit(name), _inside("run")
        )
        yield Hostile(
            f"a class {shown}: convert to Detectron2",
            3,
            _class_converted(sound, name),
            _yaml_whole(name),
        )
    for number, pair in enumerate(
        (
            ("a/b", "a_b"),
            ("a b", "a_b"),
            ("x" * 300, "x" * 300 + "y"),
            ("Red", "red"),
            ("a:b", "a_b"),
            ("é", "e\u0301"),
        )
    ):
        yield Hostile(
            f"classes that are equal after escaping, {number}: {ascii(pair)[:60]}",
            3,
            _class_named(*pair),
            _files_of_classes,
        )
    for name in (
        "[bold].png",
        "[/red].png",
        "a\nb.png",
        " .png",
        "-x.png",
        "--output.png",
        "é.png",
        "x" * 200 + ".png",
        "%s.png",
        "a'b.png",
        "\x1b[31m.png",
    ):
        yield Hostile(f"a picture called {ascii(name)[:40]}", 3, _picture_named(sound, name))
    yield Hostile(
        "predict onto its own pictures", 3, _onto_itself(sound), _pictures_kept, refused=True
    )
    yield Hostile(
        "predict onto its own pictures by a link",
        3,
        _onto_itself(sound, link=True),
        _pictures_kept,
        refused=True,
    )
    yield Hostile("predict onto the student", 3, lambda f: _onto_student(sound, f), _student_kept)
    yield Hostile("predict with --output a file", 9, lambda f: _output_file(sound, f), refused=True)
    yield Hostile(
        "two pictures of one name but for case or suffix", 3, lambda f: _same_stem(sound, f)
    )


def _dataset_of(folder: Path, *names: str) -> material.Recipe:
    data = material.coco(folder / "coco", 8)
    content = json.loads((folder / "coco/ann.json").read_text())
    for number, name in enumerate(names):
        content["categories"][number]["name"] = name
    (folder / "coco/ann.json").write_text(json.dumps(content))
    return data


def _class_named(*names: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        words = _validate(folder, _dataset_of(folder, *names))
        return (*words, "--detections", folder / "deep/er/detections")

    return make


def _class_fit(name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = _dataset_of(folder, name)
        train = data | {"init_args": data["init_args"] | {"training": True}}
        path = material.write_recipe(folder / "recipe.yaml", material.recipe(train, data))
        return "fit", "--config", path, "--trainer.default_root_dir", folder / "deep/er/run"

    return make


def _class_converted(sound: Sound, name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copytree(sound.folder / "resnet", folder / "student")
        card = json.loads((folder / "student/student.json").read_text())
        card["classes"][0] = name
        (folder / "student/student.json").write_text(json.dumps(card))
        (folder / "deep/er").mkdir(parents=True)
        return "convert", folder / "student", folder / "deep/er/out.pkl", "--to", "detectron2"

    return make


def _inside(name: str) -> Check:
    """Nothing but the folder that was given, flat; the console shows names as they are."""

    def check(folder: Path, outcome: Outcome) -> list[str]:
        made = (
            {p.name for p in (folder / "deep/er").iterdir()}
            if (folder / "deep/er").exists()
            else set()
        )
        above = {p.name for p in folder.iterdir()} - {"coco", "recipe.yaml", "deep"}
        outside = (
            (made - {name})
            | above
            | ({"tmp"} if Path("/tmp/campaign_absolute").exists() else set())
        )
        if name == "detections" and outcome.code == 0:
            files = [p for p in (folder / "deep/er" / name).rglob("*") if p.is_file()]
            if len(files) != 3 or any(p.parent.name != name for p in files):
                outside.add(f"{len(files)} files for 3 classes, or in folders")
        return [f"wrote outside: {sorted(outside)}"] if outside else []

    return check


def _yaml_whole(name: str) -> Check:
    def check(folder: Path, outcome: Outcome) -> list[str]:
        import yaml

        beside = folder / "deep/er/out.yaml"
        if outcome.code != 0 or not beside.exists():
            return []
        try:
            keys = set(yaml.safe_load(beside.read_text()))
        except yaml.YAMLError as error:
            return [f"the written configuration is no YAML ({type(error).__name__})"]
        keys -= {"MODEL", "VERSION", "INPUT", "TEST", "DATASETS"}
        return [f"the written configuration has the keys {sorted(map(str, keys))}"] if keys else []

    return check


def _files_of_classes(folder: Path, outcome: Outcome) -> list[str]:
    files = [p for p in (folder / "deep/er/detections").rglob("*") if p.is_file()]
    lower = {str(p).lower() for p in files}
    return [] if outcome.code or len(lower) == 3 else [f"{len(lower)} files for 3 classes"]


def _picture_named(sound: Sound, name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "in").mkdir()
        shutil.copy(sound.images / "a.png", folder / "in" / name)
        return _on_images(sound, folder / "in")

    return make


def _onto_itself(sound: Sound, *, link: bool = False) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "in").mkdir()
        shutil.copy(sound.images / "a.png", folder / "in/a.png")
        (folder / "hash").write_text(sha256((folder / "in/a.png").read_bytes()).hexdigest())
        (folder / "link").symlink_to("in") if link else None
        return (
            "predict",
            sound.student,
            folder / "in",
            "--output",
            folder / ("link" if link else "in"),
            "--threshold",
            0,
        )

    return make


def _pictures_kept(folder: Path, outcome: Outcome) -> list[str]:
    same = sha256((folder / "in/a.png").read_bytes()).hexdigest() == (folder / "hash").read_text()
    return [] if same else ["the photograph was overwritten"]


def _onto_student(sound: Sound, folder: Path) -> Words:
    shutil.copytree(sound.student, folder / "student")
    shutil.copy(sound.images / "a.png", folder / "student.png")
    return (
        "predict",
        folder / "student",
        folder / "student.png",
        "--output",
        folder / "student",
        "--threshold",
        0,
    )


def _student_kept(folder: Path, outcome: Outcome) -> list[str]:
    found = {p.name for p in (folder / "student").iterdir()}
    return [] if {"student.json", "student.safetensors"} <= found else ["the student is gone"]


def _output_file(sound: Sound, folder: Path) -> Words:
    (folder / "out").write_text("")
    return "predict", sound.student, sound.images / "a.png", "--output", folder / "out"


def _same_stem(sound: Sound, folder: Path) -> Words:
    (folder / "in").mkdir()
    for name in ("a.png", "A.PNG", "b.png"):
        shutil.copy(sound.images / "a.png", folder / "in" / name)
    return _on_images(sound, folder / "in")


# -- links out of a folder -------------------------------------------------------------------------


def _links(sound: Sound) -> Iterator[Hostile]:
    def weights(folder: Path) -> Words:
        student = _student(sound, folder, lambda card: None)
        (student / "student.safetensors").rename(folder / "bait.safetensors")
        (student / "student.safetensors").symlink_to(folder / "bait.safetensors")
        return _verb("predict", student, sound)

    def card(folder: Path) -> Words:
        student = _student(sound, folder, lambda card: None)
        (student / "student.json").unlink()
        (student / "student.json").symlink_to("/etc/passwd")
        return _verb("predict", student, sound)

    def endless(name: str) -> Callable[[Path], Words]:
        def make(folder: Path) -> Words:
            student = _student(sound, folder, lambda card: None)
            (student / name).unlink()
            (student / name).symlink_to("/dev/zero")
            return _verb("predict", student, sound)

        return make

    def pipe(folder: Path) -> Words:
        os.mkfifo(folder / "a.png")
        return _on_images(sound, folder / "a.png")

    def pipe_weights(folder: Path) -> Words:
        os.mkfifo(folder / "a.pth")
        return "inspect", folder / "a.pth"

    def part(folder: Path) -> Words:
        (folder / "bait.txt").write_text("kept")
        (folder / "out").mkdir()
        (folder / "out/predictions.json").symlink_to(folder / "bait.txt")
        return "predict", sound.student, sound.images / "a.png", "--output", folder / "out"

    yield Hostile("student.safetensors is a link out of the folder", 1, weights, refused=True)
    yield Hostile("student.json is a link to /etc/passwd", 1, card, refused=True)
    yield Hostile("student.json is /dev/zero", 7, endless("student.json"), refused=True)
    yield Hostile(
        "student.safetensors is /dev/zero", 7, endless("student.safetensors"), refused=True
    )
    yield Hostile("a picture that is a pipe", 7, pipe, refused=True)
    yield Hostile("weights that are a pipe", 7, pipe_weights, refused=True)
    yield Hostile("predictions.json is a link to another file", 3, part, _link_kept)


def _link_kept(folder: Path, outcome: Outcome) -> list[str]:
    return [] if (folder / "bait.txt").read_text() == "kept" else ["wrote through a link"]


# -- all of them -----------------------------------------------------------------------------------


def campaign(
    folder: Path, sound: Sound, share: float, tell: Callable[[str], None], only: str = ""
) -> Result:
    """Every hostile file, or of a small campaign every third.

    Args:
        folder: To work in.
        sound: Files to start from.
        share: Of the files that are tried.
        tell: Takes a line at a time.
        only: A word in the names of those that are tried.
    """
    result = Result("hostile files")
    names = (
        "code",
        "programs",
        "network",
        "outside",
        "above 2 GB",
        "above 30 s",
        "crash",
        "traceback",
    )
    result.counts = dict.fromkeys(names, 0)
    gs = _fake_programs(folder)
    each_of = [h for h in everything(sound) if only in h.name]
    for number, hostile in enumerate(each_of[:: max(1, round(1 / share))]):
        place = folder / f"{number:03}"
        place.mkdir(parents=True)
        words = hostile.make(place)
        path = f"{gs}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {
            "PATH": path,
            "CANARY": str(place / "canary"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HOME": str(place / "home"),
            "TORCH_HOME": str(place / "home"),
            "HF_HOME": str(place / "home"),
        }
        limits = Limits(environment, bait=f"{place.name}/{BAIT}", room=hostile.room)
        outcome = limbeck(words, place, limits, patience=90)
        found = [*outcome.faults]
        if (place / "canary").exists():
            found.append("code")
        if hostile.refused and outcome.code == 0:
            found.append("accepted")
        if hostile.check is not None and not found:
            found += hostile.check(place, outcome)
        result.tried += 1
        if found:
            key = (
                hostile.name if hostile.name not in result.failed else f"{hostile.name} ({number})"
            )
            how = f"`limbeck {' '.join(str(w) for w in words)}`"
            more = "; ".join([*outcome.started, *outcome.connected, *outcome.opened])[:200]
            what = f"{outcome.memory / GIB:.1f} GiB, {outcome.seconds:.0f} s, exit {outcome.code if outcome.code is not None else outcome.signal}"
            result.failed[key] = (
                f"[{hostile.point}] {', '.join(found)} ({what}); {how}: {more} {outcome.said[:200]}"
            )
            result.count([name for name in found if name in names])
            tell(f"{hostile.name}: {', '.join(found)}")
        else:
            shutil.rmtree(place)
    return result


def _fake_programs(folder: Path) -> Path:
    """Programs that pictures may start, which leave a canary where they are."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("gs", "gswin64c", "djpeg", "ppmquant", "xdg-open"):
        path = programs / name
        path.write_text('#!/bin/sh\ntouch "$CANARY"\n')
        path.chmod(0o755)
    return programs
