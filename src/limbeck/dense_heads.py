"""The landmarks of a dense head: the ends of its towers, and what it gives, by level."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.tap import Call, Tap

HEAD_MAPS = ("cls_maps", "box_maps")  # whose channels each mean something

_EVERY_LEVEL = {
    "cls_tower": "head.classification_head.conv",
    "box_tower": "head.regression_head.conv",
    "cls_maps": "head.classification_head.cls_logits",
    "box_maps": "head.regression_head.bbox_reg",
}
# In GFL a factor of each level's own follows the last convolution.
_SCALED = {"box_maps": "head.regression_head.scales"}
# In SSD each level has a layer of its own.
_OWN_LAYERS = {"cls_maps": "head.classification_head", "box_maps": "head.regression_head"}


def dense_head(model: nn.Module) -> dict[str, Tap]:
    """The places of a detector's dense head; the value of each is a list over levels.

    Args:
        model: The detector.

    Returns:
        The taps as ``cls_tower``, ``box_tower``, ``cls_maps`` and ``box_maps``, as far as there
        are such layers; nothing for a model without a dense head.
    """
    modules = dict(model.named_modules())
    places = {}
    for name, path in (*_EVERY_LEVEL.items(), *_SCALED.items()):
        if path in modules:
            places[name] = replace(Tap.parse(f"{path}[*]"), kind="levels")
    for name, path in _OWN_LAYERS.items():
        if isinstance(getattr(modules.get(path), "module_list", None), nn.ModuleList):
            places[name] = Tap(path, "call", select=_of_own_layers, kind="levels")
    return places


def layers_of_tower(model: nn.Module, tower: str) -> list[tuple[str, nn.Module]]:
    """The layers of a tower by their paths, in the order in which they run."""
    layers = model.get_submodule(tower).named_modules()
    return [(f"{tower}.{n}", layer) for n, layer in layers if not isinstance(layer, nn.Sequential)]


def activations_of_tower(model: nn.Module, tower: str) -> list[int]:
    """Which of a tower's layers are the activations that end its convolutions."""
    layers = layers_of_tower(model, tower)
    return [i for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.ReLU)]


def _of_own_layers(call: Call) -> list[Tensor]:
    """The maps (B, A*K, H, W) of each level, from one call of a head of SSD."""
    head: Any = call.module
    rows: Tensor = call.output  # (B, the sum of H*W*A, K)
    grids = [feature.shape[-2:] for feature in call.args[0]]
    layers = [list(layer.modules())[-1] for layer in head.module_list]
    per_cell = [layer.out_channels // rows.shape[-1] for layer in layers]
    sizes = [grid.numel() * anchors for grid, anchors in zip(grids, per_cell, strict=True)]
    levels = zip(torch.split(rows, sizes, dim=1), grids, strict=True)
    return [of_level.reshape(len(rows), *g, -1).movedim(3, 1) for of_level, g in levels]
