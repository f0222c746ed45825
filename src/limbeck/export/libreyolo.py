"""What is exported of LibreYOLO's detectors: the decoding of each family, in tensors.

It is that of the library's post-processing, which gives lists; ``limbeck export`` compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert

from limbeck.export.graph import Decoded, DetectorGraph
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from limbeck.models import LibreYOLODetector
from limbeck.models.detection.libreyolo.families import library

_MOST_CANDIDATES = {"yolo9": 30_000, "rtmdet": 30_000, "ppyoloe": 1024, "picodet": 1000}
_OF_LEVELS = ("rtmdet", "picodet")
_STRIDES = (8, 16, 32, 64)


class LibreYOLOGraph(DetectorGraph):
    """A detector of LibreYOLO's.

    Args:
        model: The detector.
        framing: How images come into the frame.
    """

    dynamic = ("batch",)

    def __init__(self, model: LibreYOLODetector, framing: Framing) -> None:
        super().__init__()
        self.model = model
        self.framing = framing
        self.suppression = _suppression(model)
        if framing.size is not None:
            with torch.no_grad():  # what the network keeps of a size is made before the export
                found = self.decoded(torch.zeros(1, 3, *framing.size))
            self.suppression = replace(self.suppression, levels=tuple(found.levels))

    def decoded(self, images: Tensor) -> Decoded:
        """The boxes and scores of all anchors."""
        model, family = self.model, self.model.family
        pixels = (images - model.transform.mean) / model.transform.std
        if family.preprocessing.bgr:
            pixels = pixels.flip(1)
        output = family.decoded(model.network(pixels))
        model.last_layers()  # which forgets the maps that it has seen
        return _DECODED[family.name](output)

    def halve(self) -> None:
        """Refuse: the library's heads compute coordinates, which need more than 11 bits."""
        raise ValueError(
            f"{self.model.arguments['network']} cannot be exported with --half: LibreYOLO's heads "
            "compute coordinates of boxes within the network, in float32. Leave --half out, and "
            "let the runtime choose its precision (OpenVINO: INFERENCE_PRECISION_HINT)."
        )


def _suppression(model: LibreYOLODetector) -> Suppression:
    """What the family's own post-processing does."""
    name = model.family.name
    last = name == "ppyoloe"  # its boxes are clipped at the end
    return Suppression(
        tuple(range(1, model.num_classes + 1)),
        model.outputs["score_threshold"],
        model.outputs["nms_threshold"],
        int(model.outputs["detections_per_image"]),
        best_class=name == "yolox",
        topk=_MOST_CANDIDATES.get(name),
        topk_of="level" if name in _OF_LEVELS else "image",
        clip_first=not last,
        smallest=None if last else 0.0,
    )


def _yolox(output: Sequence[Tensor]) -> Decoded:
    rows = library("postprocess.yolox").decode_outputs(list(output))
    boxes, sure, classes = torch.split(rows, [4, 1, rows.shape[-1] - 5], dim=-1)
    return Decoded(box_convert(boxes, "cxcywh", "xyxy"), sure * classes)


def _yolo9(output: Mapping[str, Tensor]) -> Decoded:
    rows = output["predictions"].mT
    return Decoded(rows[..., :4], rows[..., 4:])


def _rtmdet(output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Decoded:
    classes, distances = output
    corners = [_points(each, stride, 0.0) for each, stride in zip(classes, _STRIDES, strict=False)]
    scores = [_rows(each).sigmoid() for each in classes]
    return _around(corners, [_rows(each) for each in distances], scores)


def _ppyoloe(output: tuple[Tensor, Tensor]) -> Decoded:
    return Decoded(*output)


def _picodet(output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Decoded:
    classes, bins = output
    centres = [_points(each, stride, 0.5) for each, stride in zip(classes, _STRIDES, strict=False)]
    distances = []
    for each, stride in zip(bins, _STRIDES, strict=False):
        rows = torch.unflatten(_rows(each), -1, (4, -1)).softmax(-1)
        distances.append((rows * torch.arange(rows.shape[-1])).sum(-1) * stride)
    return _around(centres, distances, [_rows(each).sigmoid() for each in classes])


_DECODED: Mapping[str, Callable[[Any], Decoded]] = {
    "yolox": _yolox,
    "yolo9": _yolo9,
    "rtmdet": _rtmdet,
    "ppyoloe": _ppyoloe,
    "picodet": _picodet,
}


def _rows(maps: Tensor) -> Tensor:
    """The map (B, C, H, W) cell by cell: (B, H * W, C)."""
    return maps.flatten(2).mT


def _points(maps: Tensor, stride: int, offset: float) -> Tensor:
    """The point of each cell of a map, (H * W, 2), in pixels."""
    sides = [(torch.arange(side) + offset) * stride for side in maps.shape[-2:]]
    y, x = torch.meshgrid(*sides, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _around(points: list[Tensor], distances: list[Tensor], scores: list[Tensor]) -> Decoded:
    """Boxes by the distances (B, n, 4) of their sides from points (n, 2), level by level."""
    first, last = torch.split(torch.cat(distances, dim=1), 2, dim=-1)
    middle = torch.cat(points)
    boxes = torch.cat([middle - first, middle + last], dim=-1)
    return Decoded(boxes, torch.cat(scores, dim=1), [each.shape[1] for each in scores])
