"""The families of detectors: how LibreYOLO builds each, what it calls its parts, and its losses.

They are those of LibreYOLO, which is only imported where one is built:

* YOLOX: Ge et al., arXiv:2107.08430; YOLOv9: Wang et al., ECCV 2024, arXiv:2402.13616;
* RTMDet: Lyu et al., arXiv:2212.07784; PP-YOLOE: Xu et al., arXiv:2203.16250, as SuperGradients
  has it; PicoDet: Yu et al., arXiv:2111.00902.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.models.detection.libreyolo.images import Preprocessing
from limbeck.models.detection.libreyolo.last_layers import Channels
from limbeck.models.detection.libreyolo.targets import centred, lists_of, padded_rows, rows_of
from limbeck.models.detection.parts.transform import Targets
from limbeck.tap import Tap

INSTALL = "pip install 'limbeck[libreyolo]'"

_EVERY_CHANNEL = slice(None)
_ZEROS, _ONES, _GREY_LEVEL = (0.0,) * 3, (1.0,) * 3, (1 / 255,) * 3


def library(module: str) -> Any:
    """A module of LibreYOLO; an error says how the library is installed."""
    try:
        return importlib.import_module(f"libreyolo.{module}")
    except ImportError as error:
        raise ImportError(
            f"LibreYOLODetector needs the library LibreYOLO ({error}). Install it: {INSTALL}."
        ) from error


class Family(ABC):
    """What one family of detectors is to LibreYOLO.

    Attributes:
        name: The name of the family in the library.
        wrapper: The name of its class, which builds networks and opens files of weights.
        licence: The licence of the weights that the library publishes. None: it is not known.
        preprocessing: What is done with images.
        centres: Whether images may lie in the centre of their frame.
        backbone: The places of C3, C4 and C5 in the network.
        pyramid: The path of what gives the maps that the head sees.
        coarsest_first: Whether it gives the coarsest map first.
        levels: The k of its maps, whose strides are 2**k pixels.
        objectness: The paths of layers that say whether there is an object at all.
    """

    name: ClassVar[str]
    wrapper: ClassVar[str]
    licence: ClassVar[str | None] = None
    preprocessing: ClassVar[Preprocessing] = Preprocessing()
    centres: ClassVar[bool] = False
    backbone: ClassVar[tuple[str, str, str]]
    pyramid: ClassVar[str] = "neck"
    coarsest_first: ClassVar[bool] = False
    levels: ClassVar[Sequence[int]] = (3, 4, 5)
    objectness: ClassVar[Sequence[str]] = ()

    @property
    def own_class(self) -> Any:
        """The library's class of such a detector."""
        return getattr(library(f"models.{self.name}.model"), self.wrapper)

    def published(self, size: str) -> str:
        """The name under which the library publishes the weights of a size."""
        return f"{self.own_class.FILENAME_PREFIX}{size}.pt"

    def build(self, size: str, num_classes: int, class_channels: int | None) -> Any:
        """The network of a size, with random weights.

        Args:
            size: The library's name of the size, such as ``s``.
            num_classes: The number of foreground classes.
            class_channels: The width of the layers before the class logits. None: the library's.

        Returns:
            The network, as the library begins to train it.

        Raises:
            ValueError: The family has no such width to choose.
        """
        if class_channels is not None:
            raise ValueError(
                f"class_channels is {class_channels}; {self.name} has no such width to choose. "
                "Leave it out."
            )
        return self.own_class(None, size=size, nb_classes=num_classes, device="cpu").model

    def class_channels(self, network: Any) -> int | None:
        """The width of a network's layers before the class logits, where it can be chosen."""
        return None

    def criterion(self, network: Any) -> Any:
        """The library's loss of such a network; None where the network has it in itself."""
        return None

    @abstractmethod
    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The last layers of the head for classes and boxes, the finest level first."""

    @abstractmethod
    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of a batch, in training mode.

        Args:
            network: The network.
            criterion: What :meth:`criterion` gave.
            pixels: The batch (B, 3, H, W), as the network takes it.
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image.

        Returns:
            The losses by their names, whose sum is the loss of the library.
        """

    def decoded(self, output: Any) -> Any:
        """What the family's post-processing takes of a network's output."""
        return output

    def found(self, output: Any, ratio: float, letterbox: str, **asked: Any) -> dict[str, Any]:
        """The detections of one image, by the family's own post-processing.

        Args:
            output: What :meth:`decoded` gave, of this image alone.
            ratio: What the letterbox multiplied the sides of the image by.
            letterbox: Where the image lies in it.
            **asked: The thresholds and sizes that post-processing takes in every family.

        Returns:
            The ``boxes``, ``scores`` and ``classes``, lists of as many items.
        """
        processing = library(f"postprocess.{self.name}")
        found: dict[str, Any] = processing.postprocess(output, ratio=ratio, **asked)
        return found

    @property
    def places(self) -> dict[str, Tap]:
        """The landmarks of such a network: C3 to C5, the maps of the pyramid, and all of these."""
        found = {
            f"C{k}": Tap.parse(f"network.{path}")
            for k, path in zip((3, 4, 5), self.backbone, strict=True)
        }
        path = f"network.{self.pyramid}"
        for number, k in enumerate(self.levels):
            place = len(self.levels) - 1 - number if self.coarsest_first else number
            found[f"P{k}"] = Tap(path, keys=(str(place),))
        select: Callable[[Any], Any] = _turned if self.coarsest_first else list
        maps = Tap(path, select=select, kind="levels")
        return found | {"fpn": maps, "maps": maps}


class YOLOX(Family):
    """YOLOX, whose head says by itself whether there is an object at all."""

    name = "yolox"
    wrapper = "LibreYOLOX"
    licence = "Apache-2.0"
    preprocessing = Preprocessing(_ZEROS, _GREY_LEVEL, bgr=True, letterboxed=True, antialias=True)
    backbone = ("backbone.backbone.dark3", "backbone.backbone.dark4", "backbone.backbone.dark5")
    pyramid = "backbone"
    objectness = tuple(f"head.obj_preds.{number}" for number in range(3))

    def build(self, size: str, num_classes: int, class_channels: int | None) -> Any:
        """The network of a size, whose scores are low at first, as the library trains it."""
        network = super().build(size, num_classes, class_channels)
        network.init_weights()
        return network

    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The last layers of the head for classes and boxes, the finest level first."""
        return _own_layers("cls_preds", "reg_preds")

    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of boxes, of objects and of their classes."""
        # The head keeps its grids, also where it was brought to another device since.
        network.head.grids = [torch.zeros(1)] * len(network.head.strides)
        said = network(pixels, padded_rows(targets, centred))
        return {name: said[f"{name}_loss"] for name in ("iou", "obj", "cls")}


class YOLO9(Family):
    """YOLOv9 without the branch that helps to train it."""

    name = "yolo9"
    wrapper = "LibreYOLO9"
    licence = "MIT"
    preprocessing = Preprocessing(_ZEROS, _ONES, letterboxed=True)
    centres = True
    backbone = ("backbone.elan2", "backbone.elan3", "backbone.spp")

    def build(self, size: str, num_classes: int, class_channels: int | None) -> Any:
        """The network of a size, whose class towers are as wide as is said."""
        network = super().build(size, num_classes, None)
        head = network.head
        if class_channels not in (None, head._class_hidden_channels):
            inputs = [tower[0].conv.in_channels for tower in head.cv3]
            head.cv3 = head._build_class_towers(inputs, class_channels, num_classes)
            head._class_hidden_channels = class_channels
            head._init_bias()
        return network

    def class_channels(self, network: Any) -> int | None:
        """The width of a network's layers before the class logits."""
        return int(network.head._class_hidden_channels)

    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The last layers of the head for classes and boxes, the finest level first."""
        return _own_layers("cv3", "cv2", of_tower=".2")

    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of boxes, of the distributions of their sides, and of classes."""
        own = network.head._loss_fn
        if own is not None and own.device != pixels.device:
            network.head._loss_fn = None  # it was made on another device
        height, width = pixels.shape[-2:]
        sides = torch.tensor([width, height, width, height], device=pixels.device)
        said = network(pixels, padded_rows(targets, lambda boxes: boxes / sides))
        return {name: said[f"{name}_loss"] for name in ("box", "dfl", "cls")}

    def found(self, output: Any, ratio: float, letterbox: str, **asked: Any) -> dict[str, Any]:
        """The detections of one image, by the family's own post-processing."""
        processing = library(f"postprocess.{self.name}")
        found: dict[str, Any] = processing.postprocess(output, letterbox_pad=letterbox, **asked)
        return found


class RTMDet(Family):
    """RTMDet, the detector without masks."""

    name = "rtmdet"
    wrapper = "LibreRTMDet"
    licence = "Apache-2.0"
    preprocessing = Preprocessing(
        mean=(123.675 / 255, 116.28 / 255, 103.53 / 255),
        std=(58.395 / 255, 57.12 / 255, 57.375 / 255),
        bgr=True,
        letterboxed=True,
        antialias=True,
    )
    backbone = ("backbone.stage2", "backbone.stage3", "backbone.stage4")

    def criterion(self, network: Any) -> Any:
        """The library's loss of such a network."""
        head = network.head
        return library("models.rtmdet.loss").RTMDetLoss(head.num_classes, head.strides)

    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The last layers of the head for classes and boxes, the finest level first."""
        return _own_layers("rtm_cls", "rtm_reg")

    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of classes and of boxes."""
        said = _in_full_precision(criterion, *network(pixels), *lists_of(targets))
        return {name: said[f"loss_{name}"] for name in ("cls", "bbox")}


class PPYOLOE(Family):
    """PP-YOLOE, whose ground truth is matched by how well classes and boxes agree throughout."""

    name = "ppyoloe"
    wrapper = "LibrePPYOLOE"
    backbone = ("backbone.stages.1", "backbone.stages.2", "backbone.stages.3")
    coarsest_first = True

    def criterion(self, network: Any) -> Any:
        """The library's loss of such a network."""
        return library("models.yolonas.loss").PPYoloELoss(network.head.num_classes)

    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The last layers of the head for classes and boxes, the finest level first."""
        found = _own_layers("pred_cls", "pred_reg")
        return {kind: layers[::-1] for kind, layers in found.items()}

    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of classes, of boxes, and of the distributions of their sides."""
        rows = [
            torch.cat([torch.full_like(of_image[:, :1], number), of_image], dim=1)
            for number, of_image in enumerate(rows_of(targets, centred))
        ]
        # Its forward() gives the gradient of the sum alone.
        *sums, matched = _in_full_precision(
            criterion._forward_batched, network(pixels), torch.cat(rows)
        )
        count = library("training.distributed").all_reduce_avg_scalar(matched)
        weights = {
            "cls": criterion.classification_loss_weight,
            "iou": criterion.iou_loss_weight,
            "dfl": criterion.dfl_loss_weight,
        }
        pairs = zip(weights.items(), sums, strict=True)
        return {name: weight * of_all / count for (name, weight), of_all in pairs}

    def decoded(self, output: Any) -> Any:
        """The boxes and the scores, without what the loss takes."""
        return output[0]


class PicoDet(Family):
    """PicoDet, whose last layers give classes and boxes at once."""

    name = "picodet"
    wrapper = "LibrePICODET"
    backbone = ("backbone/0", "backbone/1", "backbone/2")
    levels = (3, 4, 5, 6)

    def criterion(self, network: Any) -> Any:
        """The library's loss of such a network, which keeps the part of the classes."""
        head = network.head
        criterion = library("models.picodet.loss").PICODETLoss(
            head.num_classes, head.reg_max, head.strides
        )
        criterion.vfl = _Kept(criterion.vfl)
        return criterion

    def layers(self, num_classes: int) -> dict[str, list[Channels]]:
        """The channels of the last layers for classes and boxes, the finest level first."""
        paths = [f"head.gfl_cls.{number}" for number in range(len(self.levels))]
        return {
            "cls_maps": [(path, slice(num_classes)) for path in paths],
            "box_maps": [(path, slice(num_classes, None)) for path in paths],
        }

    def losses(
        self, network: Any, criterion: Any, pixels: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """The losses of classes, and of boxes with the distributions of their sides."""
        said = _in_full_precision(criterion, *network(pixels), *lists_of(targets))
        # The library gives the gradients of the sum alone; that of the classes was kept.
        classes: Tensor = criterion.vfl.taken()
        return {"cls": classes, "boxes": said["total_loss"] - classes}


FAMILIES: Mapping[str, Family] = {
    each.name: each for each in (YOLOX(), YOLO9(), RTMDet(), PPYOLOE(), PicoDet())
}


class _Kept(nn.Module):
    """A loss of the library's, whose value is kept with its gradient until it is taken."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self._values: list[Tensor] = []

    def forward(self, *arguments: Any, **keywords: Any) -> Tensor:
        value: Tensor = self.loss(*arguments, **keywords)
        self._values.append(value)
        return value

    def taken(self) -> Tensor:
        return self._values.pop()


def _own_layers(classes: str, boxes: str, of_tower: str = "") -> dict[str, list[Channels]]:
    """The last layers of heads that have one for classes and one for boxes at each level."""
    return {
        kind: [(f"head.{name}.{number}{of_tower}", _EVERY_CHANNEL) for number in range(3)]
        for kind, name in (("cls_maps", classes), ("box_maps", boxes))
    }


def _turned(maps: Sequence[Tensor]) -> list[Tensor]:
    return list(maps)[::-1]


def _in_full_precision(loss: Callable[..., Any], output: Any, *arguments: Any) -> Any:
    """A loss of maps in float32, which autocast would bring to half precision again."""
    first = output[0] if isinstance(output, list | tuple) else output
    with torch.autocast(first.device.type, enabled=False):
        return loss(output, *arguments)
