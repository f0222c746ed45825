"""Sound files to start from: a run with its checkpoints, and weights in every format."""

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from campaign import material
from campaign.sandbox import Child, Limits


@dataclass(frozen=True)
class Sound:
    """Where the sound files are.

    Attributes:
        folder: Of all of them.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """A finished run of a detector of three classes."""
        return self.folder / "run"

    @property
    def student(self) -> Path:
        """Its student."""
        return self.run / "student"

    @property
    def classifier(self) -> Path:
        """The student of a classifier of three classes."""
        return self.folder / "classifier" / "student"

    @property
    def images(self) -> Path:
        """Pictures in four formats, one each."""
        return self.folder / "images"

    @property
    def coco(self) -> Path:
        """The dataset of the run."""
        return self.folder / "coco"


def make(folder: Path) -> Sound:
    """Train and write them, if they are not there."""
    sound = Sound(folder)
    if (folder / "made").exists():
        return sound
    folder.mkdir(parents=True, exist_ok=True)
    val = material.coco(sound.coco, 8)
    train = val | {"init_args": val["init_args"] | {"training": True}}
    recipes = {"run": material.recipe(train, val, max_steps=2, max_epochs=-1)}
    images = material.image_folder(folder / "classes")
    recipes["classifier"] = material.recipe(images, images, material.network(), max_epochs=1)
    for name, stated in recipes.items():
        stated["model"]["learning_rate"] = {"shape": "constant", "warm_up": 0}
        path = material.write_recipe(folder / f"{name}.yaml", stated)
        words = ("fit", "--config", path, "--trainer.default_root_dir", folder / name)
        must(Child(words, folder))
    must(Child((), folder, Limits(), lambda: _weights(folder)))
    sound.images.mkdir()
    material.picture(sound.images / "a.png", 1)
    opened = Image.open(sound.images / "a.png")
    for suffix in ("jpg", "webp", "gif"):
        opened.save(sound.images / f"a_{suffix}.{suffix}")
    (folder / "made").write_text("")
    return sound


def must(child: Child) -> None:
    """Wait, and stop the campaign where something sound fails."""
    outcome = child.wait()
    if outcome.code != 0:
        raise RuntimeError(f"limbeck {child.words} on sound files: {outcome.output[-3000:]}")


def _weights(folder: Path) -> None:
    """In the formats of the libraries, by limbeck's own writers, a few channels wide."""
    import torch

    from limbeck.cli import main
    from limbeck.models import BasicBlocks, RetinaNet, YOLOv2, save_student

    torch.manual_seed(0)
    small = {"fpn_channels": 8, "head_depth": 1, "min_size": 64, "max_size": 96}
    save_student(RetinaNet("mobilenet_v2", 3, **small), folder / "tv", classes=material.CLASSES)
    save_student(RetinaNet("resnet18", 3, **small), folder / "resnet", classes=material.CLASSES)
    for source, target, to in (
        ("tv", "weights.pth", "torchvision"),
        ("resnet", "mmdetection.pth", "mmdetection"),
        ("resnet", "detectron2.pkl", "detectron2"),
    ):
        main(["convert", str(folder / source), str(folder / target), "--to", to])
    state = torch.load(folder / "weights.pth", weights_only=True)
    narrow = {name: value[:4].clone() if value.ndim else value for name, value in state.items()}
    torch.save(narrow, folder / "zip.pth")
    torch.save(narrow, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    whole = torch.load(folder / "mmdetection.pth", weights_only=False)
    whole["state_dict"] = {n: _narrow(v) for n, v in whole["state_dict"].items()}
    torch.save(whole, folder / "mm_narrow.pth", _use_new_zipfile_serialization=False)
    pickled = pickle.loads((folder / "detectron2.pkl").read_bytes())
    inner = pickled.get("model", pickled)
    for name, value in inner.items():
        inner[name] = value[tuple(slice(0, max(1, side // 8)) for side in value.shape[:2])].copy()
    (folder / "d2_narrow.pkl").write_bytes(pickle.dumps(pickled))
    model = YOLOv2(0.05, num_classes=3, image_size=(64, 64))
    numbers = torch.cat([v.flatten().float() for v in model.state_dict().values()])
    header = struct.pack("<iiiq", 0, 2, 0, 77)
    (folder / "dark.weights").write_bytes(header + numbers.numpy().tobytes())
    del BasicBlocks


def _narrow(value: object) -> object:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    return value[tuple(slice(0, max(1, side // 8)) for side in value.shape[:2])].clone()
