"""What the formats share whose libraries say in a configuration how a detector is run.

That is Detectron2 and mmdetection: detectors on a pyramid, and trunks, each in one of the styles of
:mod:`limbeck.checkpoints.checkpoint`.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints.architecture import Kind, architecture
from limbeck.checkpoints.checkpoint import Checkpoint, Style, style_of
from limbeck.checkpoints.libraries import torchvision, trunks
from limbeck.checkpoints.libraries.format import Format
from limbeck.checkpoints.libraries.stated import META_ARCHITECTURES, MetaArchitecture, Stated
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import Tensors

_CAFFE_STD = (1 / 255,) * 3
# What a configuration may say of a detector, by the names of limbeck's arguments.
_NUMERICS = (
    "anchor_sizes",
    "aspect_ratios",
    "p6_from",
    "relu_before_p7",
    "activation",
    "roi_aligned",
)
_OF_TESTS = ("min_size", "max_size", "score_threshold", "nms_threshold", "detections_per_image")


class ConfiguredFormat(Format):
    """A format of a library that has configurations of its own."""

    kinds: ClassVar[tuple[Kind, ...]] = ("RetinaNet", "FasterRCNN", "trunk")

    @abstractmethod
    def stated(self, contents: Contents) -> Stated:
        """What the configuration says that belongs to a file.

        Args:
            contents: What the file holds.

        Returns:
            What is said; nothing where there is no configuration.

        Raises:
            ValueError: The configuration cannot be read, or says what limbeck's detectors cannot
                be. The key is named.
        """

    def usual_style(self, *, bottlenecks: bool) -> Style:
        """The style of a trunk, with or without bottlenecks, of which nothing is said."""
        return "pytorch"

    @abstractmethod
    def read_detector(self, tensors: Tensors, stated: Stated, *, bgr: bool) -> Tensors:
        """A detector's tensors under torchvision's names; ``bgr`` is the order of its images."""

    @abstractmethod
    def write_detector(
        self, tensors: Tensors, arguments: Mapping[str, Any], *, bgr: bool
    ) -> Tensors:
        """The inverse of :meth:`read_detector`; ``arguments`` are those of the model."""

    @abstractmethod
    def write_configuration(
        self,
        arch: MetaArchitecture,
        arguments: Mapping[str, Any],
        *,
        bgr: bool,
        classes: Iterable[str],
    ) -> str:
        """The configuration for a detector of these arguments."""

    def trunk_names(self, tensors: Tensors) -> trunks.Writable:
        """The library whose names a trunk is written in."""
        return self.name  # type: ignore[return-value]  # one of those

    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        """A detector, or a trunk; see :meth:`Format.read`."""
        given, stated = contents.tensors, self.stated(contents)
        inputs, bgr = self._inputs(given, style, stated)
        if not self.recognises(given):
            trunk = trunks.read(given, bgr=bgr)
            return Checkpoint(source, self.name, "trunk", trunk, inputs, contents=contents)
        tensors = self.read_detector(given, stated, bgr=bgr)
        network = architecture(tensors)
        # A GFL has the numerics of one library alone.
        preset = {} if network.kind == "GFL" else {"preset": self.name}
        arguments = _said(stated, _NUMERICS) | network.arguments | preset | inputs
        return Checkpoint(
            source,
            self.name,
            network.kind,
            tensors,
            arguments,
            stated.classes or (),
            contents,
            _said(stated, _OF_TESTS),
        )

    def _inputs(
        self, tensors: Tensors, style: Style | None, stated: Stated
    ) -> tuple[dict[str, Any], bool]:
        """``mean``, ``std`` and ``stride_in_1x1`` of a trunk, and whether its images are BGR."""
        bottlenecks = any("conv3.weight" in name or "branch2c_w" in name for name in tensors)
        if style is not None:
            stated = Stated()  # the user knows better
        else:
            style = self.usual_style(bottlenecks=bottlenecks)
        caffe = style == "caffe"
        stride = caffe if stated.stride_in_1x1 is None else stated.stride_in_1x1
        arguments = {
            "mean": stated.mean or IMAGENET_DEFAULT_MEAN,
            "std": stated.std or (_CAFFE_STD if caffe else IMAGENET_DEFAULT_STD),
            "stride_in_1x1": bottlenecks and stride,
        }
        return arguments, caffe if stated.bgr is None else stated.bgr

    def write(self, checkpoint: Checkpoint, *, coco_ids: bool) -> Tensors:
        """A detector, or a trunk, in BGR where its standard deviation is 1 of 255."""
        tensors, bgr = checkpoint.tensors, style_of(checkpoint) == "caffe"
        if checkpoint.kind == "trunk":
            return trunks.write(tensors, self.trunk_names(tensors), bgr=bgr)
        if checkpoint.arguments.get("preset") == torchvision.NAME:
            tensors = torchvision.read(tensors)
        return self.write_detector(tensors, checkpoint.arguments, bgr=bgr)

    def configuration(self, checkpoint: Checkpoint) -> str:
        """The configuration of a detector; empty for a trunk."""
        if checkpoint.kind == "trunk":
            return ""
        return self.write_configuration(
            META_ARCHITECTURES[checkpoint.kind],
            checkpoint.arguments | checkpoint.test_arguments,
            bgr=style_of(checkpoint) == "caffe",
            classes=checkpoint.classes,
        )

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        """The style of a trunk, and what the library does otherwise."""
        style = f"the trunk is of the style {style_of(checkpoint)}, which its file does not say"
        return [style] * (checkpoint.kind == "trunk") + super().remarks(checkpoint)


def _said(stated: Stated, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(stated, name) for name in names if getattr(stated, name) is not None}
