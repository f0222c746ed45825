"""``FeatureTeacher``: a network with an input form of its own, as a teacher of features."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.frame import Extent, Frame, takes_list
from limbeck.landmarks import landmarks
from limbeck.models.build import LimbeckModel
from limbeck.models.precision import in_full_precision
from limbeck.models.vision_transformers import Colours, Layout, built, colours_of, layout_of
from limbeck.ranges import COUNT, SIDE, Range, refuse_outside
from limbeck.tap import Tap, TapError

_RANGES = {
    "mean": Range(-1e3, 1),  # of images in [0, 1], and not in 0 to 255
    "std": Range(0, 1e3, open=True),
    "size": SIDE,
    "patch": COUNT,
    "prefix": Range(0, 1_000_000),
}


class FeatureTeacher(nn.Module):
    """A network with an input form of its own, such as a vision transformer, as a teacher.

    It takes what any student takes, images (B, 3, H, W) or a list of (3, H, W) in [0, 1], and
    brings them to what its network takes:

    * each image is normalised by the network's own mean and standard deviation;
    * a list is padded, below and to the right, to the frame of the student: to the size H x W of
      the batch that the student itself sees. The padding has the mean colour, which is 0 in a
      normalised image. The network does not know it from a plain area: tokens of the padding are
      computed, and the others attend to them. Batches of images of one size have none;
    * the frame is resized to the size that the network takes: to ``size``, or to the multiples of
      its patch that are nearest to H and W; bilinear, with ``align_corners=False``, and pixels are
      averaged where it becomes smaller (``antialias``). The aspect changes with it.

    The tokens of a vision transformer become maps (B, C, h, w), without class and register tokens,
    at the places ``grid`` (behind the last norm, or behind the last block of a network that norms
    only what it pools, as EVA-02 and BEiT do) and ``grid.0``, ``grid.1``, ... (behind each
    block). A map covers the frame of the student: token (i, j) has its centre at
    ((i + 1/2) H / h, (j + 1/2) W / w) pixels of it, as a cell of a student's map has. Boxes are
    those of the frame. Maps of two sizes are brought to one by bilinear resizing with
    ``align_corners=False``, as :class:`limbeck.methods.FeatureCosine` and
    :class:`limbeck.methods.PKD` do, by which centres stay where they are. Any other network has the
    landmarks that it has alone.

    It gives features and no predictions, so it is not measured beside the student.

    Args:
        network: The network, or its name: ``timm:vit_small_patch16_dinov3.lvd1689m``, or
            ``transformers:`` and a folder or a name on the hub of Hugging Face (DINOv2, with and
            without registers, DINOv3, SigLIP; ``pip install 'limbeck[transformers]'``).
        weights: The weights of a network that is given by name, read without code. Of timm: a file
            of its state dict, or ``timm:backbone`` for those that timm publishes. Of transformers:
            a folder or a name on the hub with safetensors. Default (None): random ones.
        arguments: Further arguments of timm's builder, such as ``{dynamic_img_size: true}``, with
            which its vision transformers take images of any size. Default (None): no others.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as published with the
            network, otherwise ImageNet's.
        std: The standard deviation of each input channel, in the same way.
        size: The (height, width) to which frames are resized, in pixels, multiples of the patch.
            Default (None): the only size that the network takes; the nearest multiples of its patch
            where it takes any; the frame's own size where it has no patches.
        patch: The side of a patch, in pixels. Default (None): as the network says.
        blocks: The path of the network's list of blocks, whose outputs are tokens (B, P + h * w,
            C), or begin with them. Default (None): as the network says.
        norm: The path of the norm behind the last block. Default (None): as the network says; where
            ``blocks`` is stated, ``grid`` is the last block's output.
        prefix: The number P of class and register tokens before the others. Default (None): as the
            network says, otherwise 0.
        listed: Whether the network takes a list of images (3, h, w), and no batch (B, 3, h, w).

    Attributes:
        model: The network.
        layout: Where its tokens are. None: it has none.

    Raises:
        FileNotFoundError: There is no such folder or file, or the hub is not reached.
        ImportError: ``transformers`` is needed and not installed.
        ValueError: There is no such network or path, the weights do not fit, the network is a
            detector, or a number is out of its range or does not suit the others.

    Example:
        >>> import timm, torch
        >>> from limbeck import Taps
        >>> from limbeck.models import FeatureTeacher
        >>> small = {"embed_dim": 32, "depth": 3, "num_heads": 2}
        >>> teacher = FeatureTeacher("timm:vit_small_patch16_dinov3", arguments=small).eval()
        >>> with Taps(teacher, ["grid.1"], stop_early=True) as seen:
        ...     teacher([torch.rand(3, 90, 120)], (96, 128))
        >>> seen["grid.1"].shape
        torch.Size([1, 32, 6, 8])
    """

    takes_any_size: ClassVar[bool] = True
    described_by: ClassVar[Sequence[str]] = ("network",)  # by which a card would have it fetched
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: str | nn.Module,
        *,
        weights: str | Path | None = None,
        arguments: Mapping[str, Any] | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        size: Extent | None = None,
        patch: int | None = None,
        blocks: str | None = None,
        norm: str | None = None,
        prefix: int | None = None,
        listed: bool = False,
    ) -> None:
        super().__init__()
        refuse_outside(_RANGES, locals(), "FeatureTeacher's ")
        self.model, colours = _made(network, weights, arguments)
        own = layout_of(self.model)
        self.layout = _stated_layout(own, patch, blocks, norm, prefix)
        self.size = _settled_size(size, self.layout, type(self.model).__name__)
        self.listed = listed
        for path in (self.layout.blocks, self.layout.norm) if self.layout else ():
            _refuse_missing(self.model, path)
        taken = signature(self.model.forward).parameters
        # Of transformers' networks that keep positions of one size, as SigLIP's.
        self._further = {n: True for n in ("interpolate_pos_encoding",) if n in taken}
        self._grid: Extent = (0, 0)
        for name, values in (("mean", mean or colours.mean), ("std", std or colours.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor | list[Tensor], size: Extent | None = None) -> Any:
        """What the network returns.

        Args:
            images: The images, (B, 3, H, W) or a list of (3, H, W), RGB in [0, 1].
            size: The (height, width) of the student's frame, to which a list is padded, in pixels.
                Default (None): that of the largest image.

        Returns:
            Whatever the network returns.
        """
        batch = self.prepared(images, size)
        if self.layout is not None:
            height, width = batch.shape[-2:]
            self._grid = height // self.layout.patch, width // self.layout.patch
        return self.model(list(batch) if self.listed else batch, **self._further)

    def prepared(self, images: Tensor | list[Tensor], size: Extent | None = None) -> Tensor:
        """The images as the network takes them.

        Args:
            images: As :meth:`forward` takes them.
            size: As :meth:`forward` takes it.

        Returns:
            The batch (B, 3, h, w), normalised, padded and resized.
        """
        if isinstance(images, Tensor):
            batch = (images - self.mean) / self.std
        else:
            height, width = size or _largest(images)
            batch = images[0].new_zeros(len(images), 3, height, width)
            for place, image in zip(batch, images, strict=True):
                place[:, : image.shape[1], : image.shape[2]] = (image - self.mean) / self.std
        own = self._taken((batch.shape[-2], batch.shape[-1]))
        if own == batch.shape[-2:]:
            return batch
        full = in_full_precision(batch)  # half precision has no antialias on CPUs
        resized = F.interpolate(full, own, mode="bilinear", align_corners=False, antialias=True)
        return resized.to(batch.dtype)

    def _taken(self, frame: Extent) -> Extent:
        """The size to which a frame is resized."""
        if self.size is not None or self.layout is None:
            return self.size or frame
        height, width = (max(1, round(s / self.layout.patch)) * self.layout.patch for s in frame)
        return height, width

    @property
    def landmarks(self) -> dict[str, Tap]:
        """The frame, and the maps of the tokens or else the landmarks of the network."""
        frame = {"frame": Tap("", "input", select=_frame, kind="frame")}
        if self.layout is None:
            inner = landmarks(self.model)
            maps = {n: t for n, t in inner.items() if t.kind in ("tensor", "levels")}
            return frame | {n: replace(t, path=f"model.{t.path}") for n, t in maps.items()}
        blocks = f"model.{self.layout.blocks}"
        paths = [f"{blocks}.{name}" for name, _ in self.get_submodule(blocks).named_children()]
        last = paths[-1] if self.layout.norm is None else f"model.{self.layout.norm}"
        named = {"grid": last} | {f"grid.{number}": path for number, path in enumerate(paths)}
        return frame | {name: Tap(path, select=self._map) for name, path in named.items()}

    def _map(self, found: Any) -> Tensor:
        """The map (B, C, h, w) of what a block or the norm returned."""
        tokens = found[0] if isinstance(found, tuple | list) else found
        (height, width), prefix = self._grid, 0 if self.layout is None else self.layout.prefix
        shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        if not isinstance(tokens, Tensor) or tokens.dim() != 3:
            raise TapError(
                f"a block of {type(self.model).__name__} gave {shape}; expected tokens (B, P + h * "
                "w, C). Give blocks, the path of the list of blocks that do."
            )
        if tokens.shape[1] != prefix + height * width:
            raise TapError(
                f"a block of {type(self.model).__name__} gave tokens {shape}; expected {prefix} "
                f"before those of {height} x {width} patches. Correct prefix or patch."
            )
        of_patches = tokens[:, prefix:].transpose(1, 2)  # (B, C, h * w)
        return of_patches.reshape(*of_patches.shape[:2], height, width)


def _made(
    network: str | nn.Module, weights: str | Path | None, arguments: Mapping[str, Any] | None
) -> tuple[nn.Module, Colours]:
    if isinstance(network, str):
        return built(network, None if weights is None else str(weights), arguments or {})
    if weights is not None or arguments:
        raise ValueError(
            f"weights and arguments are of a network that is given by name, and network is a "
            f"{type(network).__name__} that is built. Leave them out."
        )
    if isinstance(network, LimbeckModel | FeatureTeacher):
        raise ValueError(
            f"network is a {type(network).__name__}, which normalises its images itself and would "
            "see them normalised twice. Give it as the teacher as it is, without FeatureTeacher."
        )
    if takes_list(network):
        raise ValueError(
            f"network is a {type(network).__name__}, a detector, which takes what its student "
            "takes. Expected a network with an input form of its own. Give the detector as it is."
        )
    return network, colours_of(network)


def _stated_layout(
    own: Layout | None,
    patch: int | None,
    blocks: str | None,
    norm: str | None,
    prefix: int | None,
) -> Layout | None:
    """The layout with what the user states of it; None where nobody knows one."""
    if own is None and blocks is None and patch is None:
        if norm is not None or prefix is not None:
            raise ValueError("norm and prefix are of tokens; expected blocks and patch, too.")
        return None
    if own is None:
        if blocks is None or patch is None:
            raise ValueError(
                f"blocks is {blocks!r} and patch {patch}; expected both, where the network is none "
                "that is recognised. Give the path of its list of blocks, and the side of a patch."
            )
        return Layout(blocks, norm, prefix or 0, patch)
    return Layout(
        blocks or own.blocks,
        norm if norm is not None or blocks is not None else own.norm,
        own.prefix if prefix is None else prefix,
        patch or own.patch,
        own.size,
    )


def _settled_size(size: Extent | None, layout: Layout | None, kind: str) -> Extent | None:
    if layout is None or size is None:
        return size if layout is None else layout.size
    size = size[0], size[1]  # a recipe has a list
    if layout.size not in (None, size):
        raise ValueError(
            f"size is {size}, and the {kind} takes {layout.size} alone; expected that. Leave size "
            "out, or build the network for other sizes: with timm's argument img_size, or "
            "dynamic_img_size: true for all (arguments)."
        )
    if any(side % layout.patch for side in size):
        raise ValueError(
            f"size is {size}; expected multiples of the patch, {layout.patch} px. Give such ones."
        )
    return size


def _refuse_missing(network: nn.Module, path: str | None) -> None:
    if path is not None and path not in dict(network.named_modules()):
        raise ValueError(
            f"{type(network).__name__} has no module {path!r}; expected a path in it. Give one of "
            "those that `limbeck inspect` lists, without `model.`."
        )


def _largest(images: Sequence[Tensor]) -> Extent:
    height, width = (max(image.shape[side] for image in images) for side in (-2, -1))
    return height, width


def _frame(called: Any) -> Frame:
    """The frame of what a teacher was called with: images, or images and the size of a batch."""
    images, size = called if isinstance(called, tuple) else (called, None)
    sizes = tuple((int(image.shape[-2]), int(image.shape[-1])) for image in images)
    return Frame(size or _largest(images), sizes, None)
