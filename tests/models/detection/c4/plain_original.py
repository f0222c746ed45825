"""Fine-grained Feature Imitation's Faster R-CNN in plain tensors, by its own names and boxes.

Written from its description, loop by loop, on inclusive boxes; nothing of limbeck's is used.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import vgg

Tensors = dict[str, Tensor]
MEANS = torch.tensor([102.9801, 115.9465, 122.7717])  # BGR
CONFIGS = {"vgg11": "A", "vgg16": "D"}


def original_tensors(name: str, classes: int, width: int, agnostic: bool = False) -> Tensors:
    """Lively weights of a detector on a VGG as wide as ``vgg.cfgs`` says."""
    generator = torch.Generator().manual_seed(7)
    tensors: Tensors = {}

    def add(layer: str, outputs: int, *shape: int, gain: float = 1.0) -> None:
        weight = torch.randn(outputs, *shape, generator=generator)
        tensors[f"{layer}.weight"] = weight * gain / math.prod(shape) ** 0.5
        tensors[f"{layer}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    channels, index = 3, 0
    for step in vgg.cfgs[CONFIGS[name]]:
        if step == "M":
            index += 1
            continue
        add(f"RCNN_base.{index}", step, channels, 3, 3, gain=0.1 if channels == 3 else 2**0.5)
        channels, index = step, index + 2
    add("RCNN_rpn.RPN_Conv", channels, channels, 3, 3)
    add("RCNN_rpn.RPN_cls_score", 18, channels, 1, 1, gain=0.3)
    add("RCNN_rpn.RPN_bbox_pred", 36, channels, 1, 1, gain=0.03)
    add("RCNN_top.0", width, channels * 49)
    add("RCNN_top.3", width, width)
    add("RCNN_cls_score", classes + 1, width, gain=0.5)
    add("RCNN_bbox_pred", 4 if agnostic else 4 * (classes + 1), width, gain=0.5)
    return tensors


def detect(tensors: Tensors, image: Tensor, min_size: int) -> Tensor:
    """Detections (D, 6): class, score, x1, y1, x2, y2 of an RGB image (3, H, W) in [0, 1]."""
    pixels = image.flip(0) * 255 - MEANS[:, None, None]
    scale = min_size / min(image.shape[-2:])
    size = [round(side * scale) for side in image.shape[-2:]]
    resized = F.interpolate(pixels[None], size, mode="bilinear")
    features = base(tensors, resized)
    regions = proposals(tensors, features, size)
    pooled = torch.stack([align(features[0], region) for region in regions])
    x = pooled.flatten(1)
    for layer in ("RCNN_top.0", "RCNN_top.3"):
        x = F.relu(F.linear(x, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]))
    scores = F.softmax(_linear(tensors, "RCNN_cls_score", x), dim=1)
    deltas = _linear(tensors, "RCNN_bbox_pred", x)
    found = []
    for label in range(1, scores.shape[1]):
        own = deltas if deltas.shape[1] == 4 else deltas[:, 4 * label : 4 * label + 4]
        boxes = clipped(decoded(regions, own * torch.tensor([0.1, 0.1, 0.2, 0.2])), size)
        kept = suppressed(boxes, scores[:, label].argsort(descending=True), 0.3)
        boxes = boxes * torch.tensor([image.shape[2] / size[1], image.shape[1] / size[0]] * 2)
        rows = [torch.cat([torch.tensor([label, scores[i, label]]), boxes[i]]) for i in kept]
        found += rows
    best = sorted(found, key=lambda row: -float(row[1]))[:100]
    return torch.stack(best)


def _linear(tensors: Tensors, layer: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])


def _convolved(tensors: Tensors, layer: str, x: Tensor) -> Tensor:
    weight = tensors[f"{layer}.weight"]
    return F.conv2d(x, weight, tensors[f"{layer}.bias"], padding=weight.shape[-1] // 2)


def base(tensors: Tensors, x: Tensor) -> Tensor:
    """The map of stride 16."""
    places = sorted(int(name.split(".")[1]) for name in tensors if name.startswith("RCNN_base"))
    index = 0
    for place in dict.fromkeys(places):
        if place != index:  # a pooling between
            x = F.max_pool2d(x, 2)
        x = F.relu(_convolved(tensors, f"RCNN_base.{place}", x))
        index = place + 2
    return x


def anchors(height: int, width: int) -> Tensor:
    """(height * width * 9, 4) inclusive boxes."""
    boxes = []
    for y in range(height):
        for x in range(width):
            for ratio in (0.5, 1.0, 2.0):
                w = round(math.sqrt(256 / ratio))
                h = round(w * ratio)
                for scale in (8, 16, 32):
                    dx, dy = (w * scale - 1) / 2, (h * scale - 1) / 2
                    cx, cy = 16 * x + 7.5, 16 * y + 7.5
                    boxes.append([cx - dx, cy - dy, cx + dx, cy + dy])
    return torch.tensor(boxes)


def decoded(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Inclusive boxes, whose x2 and y2 lack their -1."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    sides = sides * deltas[:, 2:].exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=1)


def clipped(boxes: Tensor, size: list[int]) -> Tensor:
    """Inclusive boxes inside an image."""
    height, width = size
    return torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2] - 1) for i in range(4)], dim=1)


def suppressed(boxes: Tensor, order: Tensor, threshold: float) -> list[int]:
    """Indices of what NMS keeps."""
    kept: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    for i in order.tolist():
        others = boxes[kept]
        overlap = torch.minimum(boxes[i, 2:], others[:, 2:]) - torch.maximum(
            boxes[i, :2], others[:, :2]
        )
        common = (overlap + 1).clamp(min=0).prod(1)
        if not (common / (areas[i] + areas[kept] - common) > threshold).any():
            kept.append(i)
    return kept


def proposals(tensors: Tensors, features: Tensor, size: list[int]) -> Tensor:
    """At most 300 inclusive boxes."""
    x = F.relu(_convolved(tensors, "RCNN_rpn.RPN_Conv", features))
    scores = _convolved(tensors, "RCNN_rpn.RPN_cls_score", x)
    pairs = F.softmax(scores.view(1, 2, -1, scores.shape[-1]), dim=1).view_as(scores)
    foreground = pairs[0, 9:].permute(1, 2, 0).flatten()
    deltas = _convolved(tensors, "RCNN_rpn.RPN_bbox_pred", x)[0].permute(1, 2, 0).reshape(-1, 4)
    boxes = clipped(decoded(anchors(*features.shape[-2:]), deltas), size)
    return boxes[suppressed(boxes, foreground.argsort(descending=True), 0.7)[:300]]


def align(features: Tensor, region: Tensor) -> Tensor:
    """(C, H, W) -> (C, 7, 7)."""
    height, width = features.shape[-2:]
    x1, y1, x2, y2 = (region / 16).tolist()
    nodes = torch.zeros(len(features), 8, 8)
    for i in range(8):
        for j in range(8):
            y, x = y1 + i * (y2 - y1 + 1) / 7, x1 + j * (x2 - x1 + 1) / 7
            if y >= height or x >= width:
                continue
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            v, u = y - top, x - left
            upper = features[:, top, left] * (1 - u) + features[:, top, left + 1] * u
            lower = features[:, top + 1, left] * (1 - u) + features[:, top + 1, left + 1] * u
            nodes[:, i, j] = upper * (1 - v) + lower * v
    return F.avg_pool2d(nodes[None], 2, stride=1)[0]
