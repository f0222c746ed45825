"""``limbeck inspect --method``: what a method sees in a batch, drawn over its images."""

import logging
from collections.abc import Sequence
from pathlib import Path

from limbeck.commands.fit import parts_of
from limbeck.data.loading import scaled
from limbeck.report import overlay_grid
from limbeck.report.style import is_replaceable

log = logging.getLogger(__name__)

SOFTWARE = "limbeck inspect"  # by which pictures of an earlier call are known


def draw_overlays(recipes: Sequence[str], method: str, picture: Path, images: int) -> None:
    """Draw a method's overlays on the first images of training.

    Args:
        recipes: The recipes of the run, each laid over the ones before it.
        method: The method's name in the recipes.
        picture: The file to write.
        images: The number of images that are drawn, at most a batch.

    Raises:
        FileExistsError: The file is there, and is none that this verb has written.
        ValueError: The recipes have no such method, it has nothing to show, or the data are not
            for detection.
    """
    if not is_replaceable(picture, SOFTWARE):
        raise FileExistsError(
            f"{picture} is there, and is no PNG that `limbeck inspect` has drawn. Nothing was "
            "written: choose another name with --picture, or move that file away."
        )
    module, data = parts_of(recipes)
    known = list(module.pair.methods)
    if method not in known or data.task != "detection":
        raise ValueError(
            f"--method {method}: these recipes have {', '.join(known) or 'no methods'}, for "
            f"{data.task}. Name a method of a detector, and give every recipe of the run, as "
            "`limbeck fit` gets them."
        )
    loaded, targets = next(iter(data.train_dataloader()))
    batch = scaled(loaded)
    overlays = module.pair.overlays(batch, targets, method)
    if not overlays:
        kind = type(module.pair.methods[method]).__name__
        raise ValueError(f"--method {method}: {kind} has nothing that could be drawn over images.")
    shown = {name: of_images[:images] for name, of_images in overlays.items()}
    overlay_grid(batch[:images], targets[:images], shown, data.classes, picture, SOFTWARE)
    for name, of_images in overlays.items():
        share = sum(m.mean().item() for m in of_images) / len(of_images)
        log.info("%s: %.1f %% of the area, mean of %d images", name, 100 * share, len(of_images))
    log.info("Drawn: %s", picture)
