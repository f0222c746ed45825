"""``HuggingFaceDetector``: the transformer detectors of Hugging Face's ``transformers``."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_convert, clip_boxes_to_image

from limbeck.arguments import plain_value
from limbeck.checkpoints.tensors import Tensors
from limbeck.frame import Extent
from limbeck.guard import refuse_bad_targets, refuse_malformed
from limbeck.models.build import LimbeckModel
from limbeck.models.detection.detr.configuration import (
    built_config,
    described,
    licence_of,
    plain_config,
)
from limbeck.models.detection.detr.families import FAMILIES, Family, frame_multiple, queries_of
from limbeck.models.detection.detr.images import preprocessor_of, settled_images, transform_of
from limbeck.models.detection.detr.loading import are_the_librarys, load_the_librarys
from limbeck.models.detection.detr.queries import PLACES, Queries
from limbeck.models.detection.parts.transform import Targets, Transform
from limbeck.models.detection.settling import first_not_none, refuse_impossible
from limbeck.models.hub import CONFIG, PREPROCESSOR, transformers
from limbeck.models.precision import in_full_precision
from limbeck.models.weights import load_weights, open_weights, stated_by
from limbeck.tap import Tap, map_tensors

log = logging.getLogger(__name__)

_INDEX = "model.safetensors.index.json"  # by which transformers finds weights under other names


class HuggingFaceDetector(LimbeckModel):
    """A transformer detector of Hugging Face's ``transformers``: RT-DETR, D-FINE, RF-DETR and more.

    Families: RT-DETR, RT-DETRv2, D-FINE, DEIMv2, RF-DETR, LW-DETR, DETR and Deformable DETR. It
    needs ``pip install 'limbeck[transformers]'``. It is called as limbeck's other detectors are,
    and gives what they give, so it is a teacher or a student of any of them.

    In training mode it gives the losses of the library, added up over the layers of the decoder by
    what they are about. In evaluation mode it gives the pairs of query and class with the highest
    scores; nothing is suppressed. No code of a checkpoint's is run, and only weights in
    ``safetensors`` are read.

    A student's folder also has a ``config.json``, a ``preprocessor_config.json`` and an index of
    the weights: ``from_pretrained(folder)`` of the library loads it without limbeck.

    Args:
        network: How the network is built: a folder with a ``config.json``, a name on the hub, such
            as ``PekingU/rtdetr_r18vd``, or what such a file holds, with its ``model_type``.
        num_classes: The number of foreground classes.
        weights: The weights: a folder or a name on the hub, as for ``network``; a file of this
            network's state dict; or a student's folder. Layers of another number of classes keep
            their own initial weights. Default (None): the network is initialised at random.
        class_numbers: Of weights of the library's that have further classes or another order, the
            class that each of ours is, counted from 0 as their ``config.json`` does. Default
            (None): where exactly ``num_classes`` of their classes have a name other than ``N/A``,
            those; otherwise all, in their order.
        image_size: The (height, width) in pixels to which evaluation resizes each image, whatever
            its aspect. Default (None): as the weights of a student say, otherwise as the
            ``preprocessor_config.json`` of ``network`` says, otherwise 640 x 640.
        min_size: In place of ``image_size``, the shorter side that evaluation resizes images to, in
            pixels; their aspect is kept. Default (None): as that file says.
        max_size: The bound of the longer side, in pixels. Default (None): as that file says,
            otherwise 1333.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights of a
            student say, otherwise as that file says, otherwise ImageNet's, or 0 for RT-DETR, D-FINE
            and DEIMv2.
        std: The standard deviation of each input channel, in the same way, or 1.
        score_threshold: The score above which detections are kept.
        detections_per_image: The largest number of detections of an image. Default (None): that of
            the queries.

    Attributes:
        network: The network of the library.
        num_classes: The number of foreground classes.
        licence: The licence of the weights, as the card of the folder or of the hub says it. None:
            it is not known.

    Raises:
        FileNotFoundError: There is no such folder or file, or the hub has no such name or is not
            reached.
        ImportError: The library is not installed.
        ValueError: It is no configuration of such a detector, the weights do not fit, or a number
            is out of its range.

    Example:
        >>> from limbeck.models import HuggingFaceDetector
        >>> detector = HuggingFaceDetector(
        ...     {"model_type": "rt_detr", "backbone_config": {"model_type": "rt_detr_resnet"}},
        ...     num_classes=3,
        ... )  # doctest: +SKIP
    """

    companion_files: ClassVar[Sequence[str]] = (CONFIG, PREPROCESSOR, _INDEX)
    numerics: ClassVar[Mapping[str, Any]] = {
        "image_size": None,
        "mean": None,
        "std": None,
    }
    described_by: ClassVar[Sequence[str]] = ("network",)
    network: Any
    transform: Transform
    num_classes: int
    licence: str | None

    def __init__(
        self,
        network: str | dict[str, Any],
        num_classes: int,
        *,
        weights: str | Path | None = None,
        class_numbers: list[int] | None = None,
        image_size: Extent | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        score_threshold: float = 0.0,
        detections_per_image: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "min_size": min_size, "max_size": max_size}
        given = sizes | {"mean": mean, "std": std}
        counts = {"num_classes": num_classes, "detections_per_image": detections_per_image}
        refuse_impossible(given | counts | {"score_threshold": score_threshold})
        description = described(network)
        config = built_config(description.config, num_classes)
        self.num_classes = num_classes
        self.family: Family = FAMILIES[config.model_type]
        self.network = getattr(transformers(), self.family.network)(config)
        self.network.loss_function = _InFullPrecision(self.network.loss_function)
        _freeze(self.network, self.family.unreached(config))
        if config.backbone_config.model_type == "resnet":
            _train_stages(self.network)
        self.queries = Queries(queries_of(config), self.family.background)
        theirs = weights is not None and are_the_librarys(weights)
        opened = None if theirs else open_weights(weights)
        settled = settled_images(given, stated_by(opened, self.numerics), description)
        refuse_impossible(settled)
        self.transform = transform_of(settled, frame_multiple(config))
        own = {"network": plain_config(config), "num_classes": num_classes} | settled
        self.score_threshold = score_threshold
        most: int = first_not_none(detections_per_image, queries_of(config))
        self.detections_per_image = most
        outputs = {"score_threshold": score_threshold, "detections_per_image": most}
        self.arguments = plain_value(own | outputs)
        self.published = ()
        self.licence = None
        if theirs:
            load_the_librarys(self.network, str(weights), class_numbers)
            self.licence = licence_of(str(weights))
            if self.licence is None:
                log.warning(
                    "No licence of the weights of %s could be read from the head of its README.md: "
                    "ask who publishes them before you pass on a student.",
                    weights,
                )
        elif opened is not None:
            load_weights(self, opened)

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
        inputs: dict[str, Any] = {"pixel_values": batch.tensors}
        if self.family.masked:
            inputs["pixel_mask"] = _mask(batch)
        if self.training:
            inputs["labels"] = self._labels(batch, targets or [])
        output = self.network(**inputs)
        self.queries(output, self._sides(batch) / _frame(batch))
        if self.training:
            return self._reaching(self.family.losses(output.loss_dict, self.network.config))
        found = self.decode(output, batch)
        return self.transform.postprocess(found, batch.image_sizes, sizes)

    def decode(self, output: Any, batch: ImageList) -> list[dict[str, Tensor]]:
        """The pairs of query and class with the highest scores.

        Args:
            output: What the network returns for a batch.
            batch: The batch, normalised and padded.

        Returns:
            The ``boxes`` (D, 4), xyxy in the pixels of the frame, ``scores`` (D,), best first, and
            ``labels`` (D,) of each image.
        """
        logits, boxes = map(in_full_precision, (output.logits, output.pred_boxes))
        scores = logits.softmax(-1)[..., :-1] if self.family.background else logits.sigmoid()
        count, classes = min(self.detections_per_image, scores[0].numel()), scores.shape[-1]
        scores, chosen = scores.flatten(1).topk(count)
        boxes = box_convert(boxes, "cxcywh", "xyxy") * self._sides(batch)
        boxes = boxes.gather(1, (chosen // classes)[..., None].expand(-1, -1, 4))
        found = []
        for number, size in enumerate(batch.image_sizes):
            kept = scores[number] > self.score_threshold
            of_image = {
                "boxes": clip_boxes_to_image(boxes[number][kept], size),
                "scores": scores[number][kept],
                "labels": chosen[number][kept] % classes + 1,
            }
            found.append(of_image)
        return found

    @property
    def backbone(self) -> nn.Module:
        """The backbone of the network."""
        backbone: nn.Module = self.network.get_submodule(self.family.backbone)
        return backbone

    @property
    def landmarks(self) -> dict[str, Tap]:
        """The places that go by the field's names, and those of the queries."""
        return self.family.places(self.network.config) | PLACES

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The network and its tensors, with or without this detector's prefix."""
        return self.network, {n.removeprefix("network."): v for n, v in tensors.items()}

    def plain(self) -> nn.Module:
        """The network of the library, whose tensors have its names."""
        network: nn.Module = self.network
        return network

    def without_limbeck(self) -> str:
        """Python that loads the folder of a student with the library."""
        kind = self.family.network
        return (
            f"from transformers import {kind}\n"
            f'model = {kind}.from_pretrained("the folder of this file")\n'
            "model.eval()  # logits = model(pixel_values=(images - mean) / std).logits\n"
        )

    def companions(self, weights: str, tensors: Tensors, classes: Sequence[str]) -> dict[str, str]:
        """The files by which the library loads the folder of a student.

        Args:
            weights: The name of the file of the weights there.
            tensors: The weights, by the names that they have in the library.
            classes: The names of the foreground classes. Empty: they are not known.

        Returns:
            The contents by the names of the files.
        """
        config = json.loads(self.network.config.to_json_string())
        config["architectures"] = [self.family.network]
        if classes:
            config["id2label"] = {str(number): name for number, name in enumerate(classes)}
            config["label2id"] = {name: number for number, name in enumerate(classes)}
        shards = dict.fromkeys(self.network.state_dict(), weights)
        contents = {
            CONFIG: config,
            PREPROCESSOR: preprocessor_of(self.arguments),
            _INDEX: {"metadata": {}, "weight_map": shards},
        }
        return {name: json.dumps(value, indent=2) + "\n" for name, value in contents.items()}

    def _labels(self, batch: ImageList, targets: Targets) -> list[dict[str, Tensor]]:
        """The targets as the library takes them: shares, and classes that count from 0."""
        sides = self._sides(batch)
        return [
            {
                "class_labels": target["labels"] - 1,
                "boxes": box_convert(target["boxes"], "xyxy", "cxcywh") / of_image,
            }
            for target, of_image in zip(targets, sides, strict=True)
        ]

    def _sides(self, batch: ImageList) -> Tensor:
        """The width, height, width and height that boxes are shares of, (B, 1, 4), in pixels."""
        if not self.family.masked:
            return _frame(batch).expand(len(batch.image_sizes), 1, 4)
        sides = [[[width, height] * 2] for height, width in batch.image_sizes]
        return torch.tensor(sides, dtype=torch.float32, device=batch.tensors.device)

    def _reaching(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses, which also reach what a batch without boxes leaves out.

        Processes that are trained together wait for the gradient of every parameter.
        """
        embedding = getattr(self.network.model, "denoising_class_embed", None)
        if embedding is None:
            return losses
        name = next(iter(losses))
        return losses | {name: losses[name] + 0.0 * embedding.weight[0, 0]}


class _InFullPrecision:
    """A loss of the library's, computed in float32 whatever the autocast: its matching needs it."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def __call__(self, logits: Tensor, *arguments: Any, **keywords: Any) -> Any:
        with torch.autocast(logits.device.type, enabled=False):
            full, named = map_tensors(([logits, *arguments], keywords), _full)
            return self.loss(*full, **named)


def _full(tensor: Tensor) -> Tensor:
    return in_full_precision(tensor) if tensor.is_floating_point() else tensor


def _freeze(network: nn.Module, unreached: Sequence[str]) -> None:
    """Keep what no loss reaches out of training, as processes wait for every other gradient."""
    for path in unreached:
        network.get_submodule(path).requires_grad_(False)
    if unreached:
        log.warning(
            "The loss of transformers does not reach what proposes regions in a two-stage %s: %s "
            "keep their weights.",
            type(network).__name__,
            ", ".join(unreached),
        )


def _train_stages(network: nn.Module) -> None:
    """Train the last three stages of a ResNet, as DETR does.

    transformers means to, but looks for ``stage.1`` where its ResNet has ``stages.1``, and so
    freezes the whole trunk.
    """
    for name, parameter in network.named_parameters():
        if any(f".stages.{number}." in name for number in (1, 2, 3)):
            parameter.requires_grad_(True)


def _frame(batch: ImageList) -> Tensor:
    """The width, height, width and height of a padded batch, (1, 1, 4), in pixels."""
    height, width = batch.tensors.shape[-2:]
    sides = [[[width, height] * 2]]
    return torch.tensor(sides, dtype=torch.float32, device=batch.tensors.device)


def _mask(batch: ImageList) -> Tensor:
    """Where the images of a padded batch are, int64 (B, H, W)."""
    mask = torch.zeros_like(batch.tensors[:, 0], dtype=torch.int64)
    for of_image, (height, width) in zip(mask, batch.image_sizes, strict=True):
        of_image[:height, :width] = 1
    return mask
