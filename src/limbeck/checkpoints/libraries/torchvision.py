"""RetinaNet, Faster R-CNN and SSD of torchvision: our names, but not always our class columns.

Its RetinaNet has a column 0 that no label uses; ours, as those of the other libraries, has one
column for each class. Its models of COCO have 91 classes, the identifiers of the dataset, of which
80 occur. The names are those of torchvision 0.13 and later; older ones are brought up to date.
"""

import re
from collections.abc import Iterable

from limbeck.checkpoints.libraries.rules import renamed
from limbeck.checkpoints.tensors import COCO_IDS, SAME, Tensors, Transform, slots

_COCO_SLOTS = 91
_OLDER = {  # until torchvision 0.12, see the _load_from_state_dict of these modules
    "backbone.fpn.inner_blocks.{i}": "backbone.fpn.inner_blocks.{i}.0",
    "backbone.fpn.layer_blocks.{i}": "backbone.fpn.layer_blocks.{i}.0",
    "head.classification_head.conv.{2i}": "head.classification_head.conv.{i}.0",
    "head.regression_head.conv.{2i}": "head.regression_head.conv.{i}.0",
    "rpn.head.conv": "rpn.head.conv.0.0",
}
_PREFIXES = ("backbone.body.", "head.classification_head.module_list.")  # the latter of an SSD
_LOGITS = "head.classification_head.cls_logits"
_DELTAS = "head.regression_head.bbox_reg.weight"
_SSD_SCORES = re.compile(r"head\.classification_head\.module_list\.\d+(\.1)?\.bias")
_SCORES = "roi_heads.box_predictor.cls_score"
_BOXES = "roi_heads.box_predictor.bbox_pred"


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a detector of torchvision, limbeck's own included."""
    return any(name.startswith(_PREFIXES) for name in names)


def up_to_date(tensors: Tensors) -> Tensors:
    """The same tensors under the names of torchvision 0.13 and later."""
    return {_current(name): value for name, value in tensors.items()}


def read(tensors: Tensors, *, coco_ids: bool = False) -> Tensors:
    """To the current names, and RetinaNet with K columns.

    Args:
        tensors: of a whole detector of torchvision, or of limbeck's with torchvision's preset.
        coco_ids: keep the 80 classes that occur of COCO's 91.

    Raises:
        ValueError: There are no such columns.
    """
    current = up_to_date(tensors)
    changes = _changes(current, coco_ids, stock=True)
    return {k: changes.get(k.rpartition(".")[0], SAME).to_ours(v) for k, v in current.items()}


def write(tensors: Tensors, *, coco_ids: bool = False) -> Tensors:
    """The inverse of :func:`read`; columns that are never used get a score of 0.

    Args:
        tensors: of a whole detector, RetinaNet with K columns.
        coco_ids: the 80 classes are COCO's, and get their places among 91.

    Raises:
        ValueError: There are not 80 classes.
    """
    kept = {name: value for name, value in tensors.items() if name != "loss_normaliser"}
    changes = _changes(kept, coco_ids, stock=False)
    return {k: changes.get(k.rpartition(".")[0], SAME).to_theirs(v) for k, v in kept.items()}


def _current(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    found = (renamed(layer, old, new) for old, new in _OLDER.items())
    return f"{next(filter(None, found), layer)}.{leaf}"


def _changes(tensors: Tensors, coco_ids: bool, *, stock: bool) -> dict[str, Transform]:
    """What is done to which layers; ``stock`` tensors are torchvision's, others are ours."""
    logits, scores = tensors.get(f"{_LOGITS}.weight"), tensors.get(f"{_SCORES}.weight")
    if logits is not None:
        if _DELTAS not in tensors:
            raise ValueError(f"{_LOGITS}.weight has no {_DELTAS} beside it. Give the whole file.")
        anchors = len(tensors[_DELTAS]) // 4
        columns = len(logits) // anchors
        if coco_ids:
            _check_coco(columns, _COCO_SLOTS if stock else len(COCO_IDS))
            return {_LOGITS: slots(anchors, _COCO_SLOTS, COCO_IDS)}
        count = columns if stock else columns + 1
        return {_LOGITS: slots(anchors, count, range(1, count))}
    if scores is not None and coco_ids:
        _check_coco(len(scores), _COCO_SLOTS if stock else len(COCO_IDS) + 1)
        used = (0, *COCO_IDS)  # 0 is the background, which both have
        count = _COCO_SLOTS
        return {_SCORES: slots(1, count, used), _BOXES: slots(1, count, used, bias=0.0)}
    return _ssd_changes(tensors, stock=stock) if coco_ids else {}


def _ssd_changes(tensors: Tensors, *, stock: bool) -> dict[str, Transform]:
    """Of the layers that score the anchors of each level; background is class 0 of both sides."""
    changes = {}
    for name in filter(_SSD_SCORES.fullmatch, tensors):
        anchors = len(tensors[name.replace("classification", "regression")]) // 4
        _check_coco(len(tensors[name]) // anchors, _COCO_SLOTS if stock else len(COCO_IDS) + 1)
        changes[name.removesuffix(".bias")] = slots(anchors, _COCO_SLOTS, (0, *COCO_IDS))
    return changes


def _check_coco(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"the detector has {found} columns of classes, and one of COCO has {expected}. Leave "
            "out coco_ids."
        )
