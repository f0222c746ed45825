"""Weights as another library's file, with what that library has to be told beside it."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from limbeck.checkpoints.checkpoint import Checkpoint
from limbeck.checkpoints.formats import FORMATS, TORCHVISION, format_named
from limbeck.checkpoints.libraries.format import Format
from limbeck.checkpoints.reading.pickles import write_pickle
from limbeck.whole import write_whole, written_whole


def write_checkpoint(
    checkpoint: Checkpoint, target: Path, library: str, *, coco_ids: bool = False
) -> list[Path]:
    """Write a checkpoint under a library's names.

    Args:
        checkpoint: A checkpoint of any library: a whole detector with all ``arguments``, or a
            trunk. For torchvision its first convolution is scaled to ImageNet's standard deviation.
        target: The file. What its library cannot tell from it is written beside it, as that
            library's configuration. Each file appears whole or not at all.
        library: The name of the library that will read the file.
        coco_ids: Whether torchvision's file gets COCO's 91 identifiers for its 80 classes.

    Returns:
        The files that were written.

    Raises:
        ValueError: The library has no such file or network.
    """
    chosen = format_named(library)
    _check(chosen, checkpoint, target)
    named = chosen.write(checkpoint, coco_ids=coco_ids)
    tensors = {k: v.detach().cpu().contiguous() for k, v in named.items()}
    configuration = chosen.configuration(checkpoint)
    with written_whole(target) as partial:
        if target.suffix == ".pkl":
            write_pickle(partial, tensors, matching_heuristics=checkpoint.kind == "trunk")
        elif target.suffix == ".safetensors":
            save_file(tensors, partial)
        else:
            torch.save(chosen.container(tensors, checkpoint, configuration), partial)
    if not configuration:
        return [target]
    beside = target.with_suffix(chosen.configuration_suffix)
    write_whole(beside, configuration)
    return [target, beside]


def _check(chosen: Format, checkpoint: Checkpoint, target: Path) -> None:
    """Raise ValueError unless the library has such a file and such a network."""
    if not chosen.suffixes:
        written = ", ".join(each.name for each in FORMATS if each.suffixes)
        raise ValueError(
            f"{target}: files of {chosen.name} are read, and not written. Expected one of "
            f"{written}."
        )
    backbone = checkpoint.arguments.get("backbone")
    if str(backbone).startswith("timm:") and chosen is not TORCHVISION:
        raise ValueError(
            f"{checkpoint.source} stands on {backbone}, and {chosen.name} has no files of "
            "detectors on timm's networks. Write it as torchvision's, or keep the student's folder."
        )
    if target.suffix not in chosen.suffixes:
        raise ValueError(
            f"{target}: {chosen.name} reads {' or '.join(chosen.suffixes)}. Give it that suffix."
        )
    if checkpoint.kind not in chosen.kinds:
        fitting = (each.name for each in FORMATS if checkpoint.kind in each.kinds)
        names = [f"{name}'s" for name in (*fitting, "limbeck")]
        raise ValueError(
            f"{checkpoint.source} is of the kind {checkpoint.kind}, and {chosen.name} has none. "
            f"Write it as {' or '.join(names)}."
        )
