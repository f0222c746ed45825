"""Weights by formula, images and key names of the reference libraries' measured outputs.

The formulas and files are described in the README files beside the golden numbers.
"""

import json
import math
import pickle
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

Tensors = dict[str, Tensor]
# detectron2's anchors have sizes outside and ratios inside, torchvision's the other way round.
FROM_SIZE_MAJOR = [size * 3 + ratio for ratio in range(3) for size in range(3)]
TO_SIZE_MAJOR = [ratio * 3 + size for size in range(3) for ratio in range(3)]


def golden(file: Path) -> Tensors:
    """The arrays of an ``.npz`` file."""
    return {name: torch.from_numpy(value) for name, value in np.load(file).items()}


def head_weights(shared: Path, model: str) -> Tensors:
    """HEAD's fixtures: weights of mmdetection's model by its keys."""
    keys = json.loads((shared / "golden/head/state_dict_keys.json").read_text())[model]
    counters = "num_batches_tracked"
    return {
        key: torch.zeros(()) if key.endswith(counters) else _by_sine(key, shape)
        for key, shape in keys.items()
    }


def head_batch() -> Tensor:
    """HEAD's fixtures: the normalised batch (2, 3, 128, 160)."""
    return (4 * _uniform("input.img", (2, 3, 128, 160)) - 2).float()


def _uniform(key: str, shape: Iterable[int]) -> Tensor:
    shape = tuple(shape)
    phase = 2 * math.pi * (zlib.crc32(key.encode()) % 65536) / 65536
    value = 43758.5453 * torch.sin(12.9898 * torch.arange(math.prod(shape)).double() + phase)
    return (value - value.floor()).view(shape)


def _by_sine(key: str, shape: list[int]) -> Tensor:
    u = _uniform(key, shape)
    if key.endswith(".running_var") or (len(shape) == 1 and key.endswith(".weight")):
        return (0.8 + 0.4 * u).float()
    if len(shape) == 1:
        return (0.2 * (u - 0.5)).float()
    scales = {"rpn_reg.weight": 0.15, "retina_reg.weight": 0.3}
    scale = next((s for end, s in scales.items() if key.endswith(end)), 1.0)
    return (scale * math.sqrt(3 / math.prod(shape[1:])) * (2 * u - 1)).float()


def checkpoint_weights(shared: Path, library: str, model: str) -> Tensors:
    """The checkpoints' fixtures: weights of ``library``'s model by its keys, checked."""
    folder = shared / "golden/checkpoints"
    entries = json.loads((folder / f"keys/{library}_{model}.json").read_text())["entries"]
    check = json.loads((folder / "weights_check.json").read_text())[f"{library}/{model}"]
    shapes = {entry["name"]: entry["shape"] for entry in entries}
    weights = {
        name: torch.full(shape, check["cls_bias"][name])
        if name in check["cls_bias"]
        else _by_generator(name, shape, shapes, check["gains"])
        for name, shape in shapes.items()
    }
    total = sum(value.double().abs().sum().item() for value in weights.values())
    assert math.isclose(total, check["total_abs_sum"], rel_tol=1e-9), "numpy's stream has changed"
    return weights


def _by_generator(name: str, shape: list[int], shapes: dict, gains: list) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape)
    n = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    prefix, _, leaf = name.rpartition(".")
    normalises = f"{prefix}.running_mean" in shapes
    if leaf == "running_mean" or (normalises and leaf == "bias"):
        n = 0.1 * n
    elif leaf == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif normalises:
        n = 1 + 0.1 * n
    elif leaf == "weight":
        gain = next((gain for regex, gain in gains if re.search(regex, name)), math.sqrt(2))
        n = n * gain / math.sqrt(math.prod(shape[1:]))
    else:
        n = 0.01 * n
    return torch.from_numpy(n).float()


def checkpoint_images() -> list[Tensor]:
    """The checkpoints' fixtures: two RGB images in [0, 1]."""
    generator = np.random.default_rng(0)
    shapes = (3, 160, 224), (3, 150, 203)
    drawn = [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return [torch.from_numpy(image) / 255 for image in drawn]


def file_of(folder: Path, library: str, weights: Tensors) -> Path:
    """A file of these weights, by the library's own names, as that library keeps them."""
    if library == "detectron2":
        path = folder / "model_final.pkl"
        arrays = {name: value.numpy() for name, value in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    else:
        path = folder / "epoch_12.pth"
        torch.save({"meta": {"mmdet_version": "3.3.0", "epoch": 12}, "state_dict": weights}, path)
    return path


def renamed(shared: Path, weights: Tensors, library_model: str) -> Tensors:
    """Torchvision's names and orders for another library's weights."""
    name = f"golden/checkpoints/keys/map_{library_model}__to__torchvision.json"
    entries = json.loads((shared / name).read_text())
    assert {entry["ref"] for entry in entries} == weights.keys()
    return {e["tv"]: _reordered(weights[e["ref"]], e["transform"]) for e in entries if e["tv"]}


def _reordered(value: Tensor, transforms: list[str]) -> Tensor:
    for transform in transforms:
        if transform.startswith("input_fold(BGR->RGB"):
            value = value.flip(1)  # the scale is the detector's `std`
        elif transform.startswith("anchor_perm"):
            value = value.unflatten(0, (9, -1))[FROM_SIZE_MAJOR].flatten(0, 1)
        elif transform.startswith("background row"):
            value = torch.cat([value[-1:], value[:-1]])
        elif transform.startswith("prepend 4"):
            value = torch.cat([torch.zeros_like(value[:4]), value])
        else:  # a fold by 1
            assert transform == "input_fold(*imagenet_std*255/pixel_std)"
    return value


def as_maps(output: Tensor, height: int, width: int, order: list[int] | None = None) -> Tensor:
    """One level of a dense head, (B, H * W * A, K) -> (B, A * K, H, W), anchors in ``order``."""
    cells = output.unflatten(1, (height, width, -1))
    if order is not None:
        cells = cells[:, :, :, order]
    return cells.permute(0, 3, 4, 1, 2).flatten(1, 2)


def normalised(model: nn.Module, batch: Tensor, sizes: list[tuple[int, int]]) -> None:
    """Let ``model`` see this batch, whatever images it is given."""
    images = ImageList(batch, sizes)
    model.transform.forward = lambda _, targets=None: (images, targets)


def matches(found: dict[str, Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> int:
    """How many of these detections are found: boxes to 0.05 pixels, scores to 1e-4."""
    near = (found["boxes"][:, None] - boxes).abs().amax(dim=2) < 0.05
    near &= (found["scores"][:, None] - scores).abs() < 1e-4
    near &= found["labels"][:, None] == labels
    return int(near.any(dim=0).sum())
