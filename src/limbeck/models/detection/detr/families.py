"""The families of transformer detectors: what each calls its parts, its losses and its maps.

They are those of Hugging Face's ``transformers``, which is only imported where one is built:

* RT-DETR: Zhao et al., CVPR 2024, arXiv:2304.08069; RT-DETRv2: Lv et al., arXiv:2407.17140;
* D-FINE: Peng et al., ICLR 2025, arXiv:2410.13842; DEIMv2: Huang et al., arXiv:2509.20787;
* LW-DETR: Chen et al., arXiv:2406.03459; RF-DETR: Robinson et al., arXiv:2511.09554;
* DETR: Carion et al., ECCV 2020, arXiv:2005.12872; Deformable DETR: Zhu et al., ICLR 2021,
  arXiv:2010.04159.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.tap import Tap

_STEM = re.compile(r"(loss_)?(?P<stem>[a-z]+(_error)?)(_(aux|dn))?(_\d+)?(_enc)?")
_UNTRAINED = "cardinality_error"  # is counted, and has no gradient


@dataclass(frozen=True)
class Family:
    """What one family of detectors calls its parts.

    Attributes:
        network: The name of its class in ``transformers``.
        backbone: The path of the backbone in the network.
        pyramid: The path of what gives the maps that the decoder sees.
        masked: Whether the network is told where a batch is padded. Its boxes are then shares of
            each image, and of the padded batch otherwise.
        weighted: Whether the terms of its loss have their weights already.
        background: Whether the last column of its logits stands for no object, under a softmax.
            Otherwise each column has a sigmoid.
    """

    network: str
    backbone: str = "model.backbone"
    pyramid: str = "model.encoder"
    masked: bool = False
    weighted: bool = True
    background: bool = False

    def losses(self, terms: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
        """The terms of all layers, added up by what they are about.

        Args:
            terms: The terms as the network gives them, such as ``loss_giou_aux_1``.
            config: The configuration of the network, which has the weights.

        Returns:
            The losses by their names, such as ``giou``, whose sum is the loss of the library.
        """
        losses: dict[str, Tensor] = {}
        for name, term in terms.items():
            match = _STEM.fullmatch(name)
            stem = name if match is None else match["stem"]
            if stem != _UNTRAINED:
                weighted = term if self.weighted else _weight(stem, config) * term
                losses[stem] = losses[stem] + weighted if stem in losses else weighted
        return losses

    def unreached(self, config: Any) -> Sequence[str]:
        """The parts of a network that its loss in ``transformers`` gives no gradient.

        Args:
            config: The configuration of the network.

        Returns:
            The paths of the modules: of a two-stage Deformable DETR those of the proposals, whose
            own loss the library lacks.
        """
        if not getattr(config, "two_stage", False):
            return []
        last = config.decoder_layers
        heads = [f"model.decoder.{each}.{last}" for each in ("bbox_embed", "class_embed")]
        return ["model.enc_output", "model.enc_output_norm", *heads]

    def places(self, config: Any) -> dict[str, Tap]:
        """The landmarks of a network of this family.

        Args:
            config: The configuration of the network.

        Returns:
            ``C<k>`` of the backbone and ``P<k>`` of what the decoder sees, as far as strides are
            powers of two, and ``maps`` for all of the latter.
        """
        found: dict[str, Tap] = {}
        strides = _strides(config)
        if hasattr(config, "feat_strides"):
            path = f"network.{self.backbone}"
            found |= {f"C{k}": Tap(path, select=_Map(n)) for n, k in _levels(strides)}
        path = f"network.{self.pyramid}"
        found |= {f"P{k}": Tap(path, select=_Map(n)) for n, k in _levels(strides)}
        return found | {"maps": Tap(path, select=maps_in, kind="levels")}


FAMILIES: Mapping[str, Family] = {
    "rt_detr": Family("RTDetrForObjectDetection"),
    "rt_detr_v2": Family("RTDetrV2ForObjectDetection"),
    "d_fine": Family("DFineForObjectDetection"),
    "deimv2": Family("Deimv2ForObjectDetection", backbone="model.conv_encoder"),
    "rf_detr": Family(
        "RfDetrForObjectDetection", pyramid="model.backbone", masked=True, weighted=False
    ),
    "lw_detr": Family(
        "LwDetrForObjectDetection", pyramid="model.backbone", masked=True, weighted=False
    ),
    "detr": Family(
        "DetrForObjectDetection",
        pyramid="model.input_projection",
        masked=True,
        weighted=False,
        background=True,
    ),
    "deformable_detr": Family(
        "DeformableDetrForObjectDetection", pyramid="model.backbone", masked=True, weighted=False
    ),
}


def queries_of(config: Any) -> int:
    """The number of queries that a network has in evaluation mode."""
    two_stage = getattr(config, "two_stage", False)
    return int(config.two_stage_num_proposals if two_stage else config.num_queries)


def maps_in(value: Any) -> list[Tensor]:
    """The maps (B, C, H, W) in what a backbone or an encoder returns, finest first.

    Args:
        value: A map, a list of maps, pairs of a map and its mask, or an output that holds them.

    Returns:
        The maps.
    """
    for name in ("feature_maps", "last_hidden_state"):
        value = getattr(value, name, value)
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple) and all(isinstance(each, Tensor) for each in value):
        return [value[0]]  # a map and its mask
    return [each[0] if isinstance(each, tuple) else each for each in value]


def frame_multiple(config: Any) -> int:
    """What the sides of a batch have to be multiples of, in pixels.

    Args:
        config: The configuration of the network.

    Returns:
        The stride of the coarsest map; of transformers with windows, the side of a window.
    """
    backbone = config.backbone_config
    patch = getattr(backbone, "patch_size", None)
    windows = getattr(backbone, "num_windows", 1)
    if config.model_type == "lw_detr":  # it states the windows of a map, the others those of a side
        windows = math.isqrt(windows)
    return max(32 if patch is None else patch * windows, *map(round, _strides(config)))


def _weight(stem: str, config: Any) -> float:
    """The weight of a term in the loss, as the configuration has it."""
    named = {"ce": "class_loss_coefficient"}.get(stem, f"{stem}_loss_coefficient")
    return float(getattr(config, named, 1.0))


def _strides(config: Any) -> Sequence[float]:
    """The strides of the maps that the decoder sees, in pixels."""
    if hasattr(config, "feat_strides"):
        return list(config.feat_strides)
    backbone = config.backbone_config
    patch = getattr(backbone, "patch_size", None)
    if patch is not None:
        factors = getattr(config, "projector_scale_factors", None) or [1.0]
        return [patch / factor for factor in factors]
    count = 1 if config.model_type == "detr" else len(backbone.out_indices)
    coarsest = 16 if getattr(config, "dilation", False) else 32
    return [coarsest / 2**n for n in reversed(range(count))]


def _levels(strides: Sequence[float]) -> list[tuple[int, int]]:
    """The number of each map, and the k of its stride of 2**k."""
    levels = [(number, math.log2(stride)) for number, stride in enumerate(strides)]
    return [(number, int(level)) for number, level in levels if level.is_integer()]


@dataclass(frozen=True)
class _Map:
    """Picks one map of a backbone or an encoder."""

    number: int

    def __call__(self, value: Any) -> Tensor:
        return maps_in(value)[self.number]
