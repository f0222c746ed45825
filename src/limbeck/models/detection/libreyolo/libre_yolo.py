"""``LibreYOLODetector``: YOLOX, YOLOv9, RTMDet, PP-YOLOE and PicoDet of the library LibreYOLO."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from limbeck.arguments import plain_value, shown
from limbeck.checkpoints.tensors import Tensors
from limbeck.frame import Extent, is_unresized
from limbeck.guard import refuse_bad_targets, refuse_malformed
from limbeck.models.build import LimbeckModel
from limbeck.models.card import is_on_hub
from limbeck.models.detection.libreyolo.families import FAMILIES, Family, library
from limbeck.models.detection.libreyolo.images import FRAME_MULTIPLE, Letterbox, LibraryTransform
from limbeck.models.detection.libreyolo.last_layers import PLACES, LastLayers
from limbeck.models.detection.libreyolo.weights import load_library_weights, read_weights
from limbeck.models.detection.parts.transform import Targets
from limbeck.models.detection.settling import first_not_none, refuse_impossible
from limbeck.models.weights import load_weights, open_weights, stated_by
from limbeck.tap import Tap, map_tensors

FILE = "libreyolo.pt"  # of a student's folder, which the library opens


class LibreYOLODetector(LimbeckModel):
    """A detector of the library LibreYOLO: YOLOX, YOLOv9, RTMDet, PP-YOLOE or PicoDet.

    It needs ``pip install 'limbeck[libreyolo]'``. It is called as limbeck's other detectors are,
    and gives what they give, so it is a teacher or a student of any of them.

    In training mode it gives the losses of the library. In evaluation mode it gives what the
    library's own post-processing finds. No code of a file of weights is run.

    A student's folder also has a file ``libreyolo.pt``, which the library opens without limbeck.

    Args:
        network: The library's names of the family and the size, such as ``yolox-s``, ``yolo9-t``,
            ``rtmdet-m``, ``ppyoloe-l`` or ``picodet-s``.
        num_classes: The number of foreground classes.
        weights: The weights: a file of the library's or of those whose detectors it has (.pt, .pth,
            .safetensors), its address, a name under which the library publishes weights, such as
            ``LibreYOLOXs.pt``, which are then downloaded; or a student's folder, which has to be
            of as many classes. Layers of the library's weights that are of another number of
            classes keep their initial weights. Default (None): the network is
            initialised at random.
        image_size: The (height, width) in pixels of the frame that evaluation brings images to,
            multiples of 32. Default (None): as the weights say, otherwise as is usual in the
            library for that network.
        letterbox: Where an image lies in the frame in evaluation mode: in its ``topleft`` corner,
            or in YOLOv9 also in its ``center``. Default (None): as the weights say, otherwise
            ``topleft``.
        class_channels: The width of the layers before the class logits in YOLOv9. Default (None):
            as the weights say, otherwise what the library computes from the number of classes.
        score_threshold: The score above which detections are kept; usually that of the library's
            own validation.
        nms_threshold: The overlap (IoU) from which the lower of two detections of a class is
            suppressed; usually that of the library's own validation.
        detections_per_image: The largest number of detections of an image.

    Attributes:
        network: The network of the library.
        num_classes: The number of foreground classes.
        licence: The licence of the weights, where the library published them and says it. None: it
            is not known.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ImportError: The library is not installed.
        ValueError: There is no such network, the weights do not fit, or a number is out of its
            range.

    Example:
        >>> from limbeck.models import LibreYOLODetector
        >>> detector = LibreYOLODetector("yolox-n", num_classes=3)  # doctest: +SKIP
    """

    companion_files: ClassVar[Sequence[str]] = (FILE,)
    numerics: ClassVar[Mapping[str, Any]] = {
        "image_size": None,
        "letterbox": None,
        "class_channels": None,
    }
    network: Any
    transform: LibraryTransform
    num_classes: int
    licence: str | None

    def __init__(
        self,
        network: str,
        num_classes: int,
        *,
        weights: str | Path | None = None,
        image_size: Extent | None = None,
        letterbox: Letterbox | None = None,
        class_channels: int | None = None,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.6,
        detections_per_image: int = 300,
    ) -> None:
        super().__init__()
        given = {
            "image_size": image_size,
            "letterbox": letterbox,
            "class_channels": class_channels,
        }
        outputs = {
            "score_threshold": score_threshold,
            "nms_threshold": nms_threshold,
            "detections_per_image": detections_per_image,
        }
        refuse_impossible(given | outputs | {"num_classes": num_classes})
        self.family, self.size = family_and_size(network)
        is_student = weights is not None and (is_on_hub(weights) or Path(weights).is_dir())
        student = open_weights(weights) if is_student else None
        theirs = None
        if weights is not None and not is_student:
            theirs = read_weights(weights, self.family, self.size)
        stated = stated_by(student, self.numerics) if theirs is None else theirs.stated
        self.num_classes = num_classes
        settled = self._settled(given, stated)
        self.network = self.family.build(self.size, num_classes, settled["class_channels"])
        settled["class_channels"] = self.family.class_channels(self.network)
        self.criterion = self.family.criterion(self.network)
        layers = self.family.layers(num_classes)
        self.last_layers = LastLayers(self.network, layers, self.family.objectness)
        self.transform = LibraryTransform(
            self.family.preprocessing, settled["image_size"], settled["letterbox"]
        )
        self.outputs = outputs
        own = {"network": network, "num_classes": num_classes} | settled | outputs
        self.arguments = plain_value(own)
        self.published = ()
        self.licence = None
        if theirs is not None:
            self.licence = theirs.licence
            of_classes = [path for path, _ in layers["cls_maps"]]
            load_library_weights(self.network, theirs, of_classes, num_classes)
        elif student is not None:
            load_weights(self, student)

    def forward(self, images: list[Tensor], targets: Targets | None = None) -> Any:
        """Losses by their names in training mode, otherwise the detections of each image.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1].
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in training mode.

        Returns:
            A dict of losses in training mode; otherwise the ``boxes`` (D, 4), ``scores`` (D,) and
            ``labels`` (D,) of each image.

        Raises:
            ValueError: There are no targets, a box has a side of 0, or a label is of no class.
        """
        if self.training:
            refuse_malformed(images, targets, detects=True, raw=True)
            refuse_bad_targets(targets or [], self.num_classes)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        if self.training:
            parts = self.network, self.criterion
            losses = self.family.losses(*parts, batch.tensors, targets or [])
            self.last_layers()
            return losses
        output = self.family.decoded(self.network(batch.tensors))
        self.last_layers()
        return self.decode(output, batch, sizes)

    def decode(
        self, output: Any, batch: ImageList, sizes: Sequence[Extent]
    ) -> list[dict[str, Tensor]]:
        """What the family's own post-processing finds.

        Args:
            output: What the network gave for the batch.
            batch: The batch, normalised and padded.
            sizes: The (height, width) of each image as it came in.

        Returns:
            The ``boxes`` (D, 4), xyxy in the pixels of the image that came in, ``scores`` (D,),
            best first, and ``labels`` (D,) of each image.
        """
        device, resized = batch.tensors.device, not is_unresized(self.transform)
        found = []
        for number, (height, width) in enumerate(sizes):
            of_image = self.family.found(
                map_tensors(output, partial(_of_image, number)),  # without its gradient
                ratio=self.transform.ratio((height, width)) if resized else 1.0,
                letterbox=self.arguments["letterbox"],
                conf_thres=self.outputs["score_threshold"],
                iou_thres=self.outputs["nms_threshold"],
                max_det=self.outputs["detections_per_image"],
                input_size=self.transform.size if resized else (height, width),
                original_size=(width, height),
            )
            labels = torch.tensor(of_image["classes"], dtype=torch.int64, device=device) + 1
            boxes = torch.tensor(of_image["boxes"], dtype=torch.float32, device=device)
            scores = torch.tensor(of_image["scores"], dtype=torch.float32, device=device)
            found.append({"boxes": boxes.reshape(-1, 4), "scores": scores, "labels": labels})
        return found

    @property
    def backbone(self) -> nn.Module:
        """The backbone of the network, which is what is compiled."""
        backbone: nn.Module = self.network.backbone
        return backbone

    @property
    def landmarks(self) -> dict[str, Tap]:
        """The places that go by the field's names."""
        return self.family.places | PLACES

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The network and its tensors, with or without this detector's prefix."""
        return self.network, {n.removeprefix("network."): v for n, v in tensors.items()}

    def plain(self) -> nn.Module:
        """The network of the library, whose tensors have its names."""
        network: nn.Module = self.network
        return network

    def without_limbeck(self) -> str:
        """Python that loads the folder of a student with the library."""
        kind = self.family.wrapper
        return (
            f"from libreyolo import {kind}\n"
            f'model = {kind}("{FILE}, beside this file", size="{self.size}")\n'
            f"results = model(image, imgsz={self._side()})\n"
        )

    def companions(
        self, weights: str, tensors: Tensors, classes: Sequence[str]
    ) -> dict[str, bytes]:
        """The file that the library opens.

        Args:
            weights: The name of the file of the weights in the folder.
            tensors: The weights, by the names that they have in the library.
            classes: The names of the foreground classes. Empty: they are not known.

        Returns:
            The contents of the file by its name.
        """
        height, width = self.arguments["image_size"]
        further: dict[str, Any] = {"letterbox_pad": self.arguments["letterbox"]}
        if height != width:
            further |= {"imgsz_h": height, "imgsz_w": width}
        kept = library("utils.serialization").wrap_libreyolo_checkpoint(
            tensors,
            model_family=self.family.name,
            size=self.size,
            task="detect",
            nc=self.num_classes,
            names=dict(enumerate(classes)) or None,
            imgsz=max(height, width),
            **further,
        )
        file = io.BytesIO()
        torch.save(kept, file)
        return {FILE: file.getvalue()}

    def _settled(self, given: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that were left open, as the weights say or as is usual."""
        side = self.family.own_class.INPUT_SIZES[self.size]
        usual = {"image_size": (side, side), "letterbox": "topleft"}
        settled = {n: first_not_none(v, stated.get(n), usual.get(n)) for n, v in given.items()}
        if any(each % FRAME_MULTIPLE for each in settled["image_size"]):
            raise ValueError(
                f"image_size is {tuple(settled['image_size'])}; this network needs a height and a "
                f"width that are multiples of {FRAME_MULTIPLE}. Give such."
            )
        if stated.get("letterbox") not in (None, settled["letterbox"]):
            raise ValueError(
                f"letterbox is {settled['letterbox']!r}; the weights were trained with "
                f"{stated['letterbox']!r}. Leave it out."
            )
        if settled["letterbox"] == "center" and not self.family.centres:
            raise ValueError(
                f"letterbox is 'center'; images of {self.family.name} lie in the topleft corner. "
                "Leave it out."
            )
        return settled

    def _side(self) -> Any:
        height, width = self.arguments["image_size"]
        return height if height == width else (height, width)


def family_and_size(network: str) -> tuple[Family, str]:
    """The family and the size that a name means.

    Args:
        network: The name, such as ``yolox-s``.

    Returns:
        The family, and the library's name of the size.

    Raises:
        ImportError: The library is not installed.
        ValueError: There is no such family, or none of that size.
    """
    name, _, size = str(network).partition("-")
    family = FAMILIES.get(name)
    if family is None:
        raise ValueError(
            f"network is {shown(network)}; expected one of the families {', '.join(FAMILIES)} and "
            "a size, such as yolox-s. Give one of these."
        )
    sizes = list(family.own_class.INPUT_SIZES)
    if size not in sizes:
        raise ValueError(
            f"network is {shown(network)}; {name} has the sizes {', '.join(sizes)}. Give one of "
            f"these, such as {name}-{sizes[0]}."
        )
    return family, size


def _of_image(number: int, tensor: Tensor) -> Tensor:
    return tensor[number : number + 1].detach()
