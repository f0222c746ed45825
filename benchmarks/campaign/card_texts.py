"""What hostile and malformed cards of students say."""

import json
from collections.abc import Callable
from typing import Any

CALLABLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("limbeck.models.load_student", {"folder": "{bait}"}),
    ("limbeck.models.loading.load_student", {"folder": "{bait}", "trust": True}),
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


# What need not be refused, as nothing depends on it.
LENIENT = {
    "without weights.file",
    "another file of weights",
    "classes twice the same",
    "format true",
    *(
        f"{key} {what}"
        for key in ("metadata.task", "metadata.augmentation")
        for what in ("null", "list")
    ),
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
    "empty": lambda _: "",
    "null": lambda _: "null",
    "a list": lambda _: "[]",
    "a number": lambda _: "1",
    "a text": lambda _: '"student"',
    "an empty object": lambda _: "{}",
    "deep": lambda _: "[" * 100_000 + "]" * 100_000,
    "NaN": lambda _: '{"format": NaN}',
    "a huge number": lambda _: '{"format": ' + "9" * 5000 + "}",
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
