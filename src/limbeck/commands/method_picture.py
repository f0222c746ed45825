"""``limbeck inspect --method``: what a method shows of a batch, as a picture."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from limbeck.commands.stated import parts_of
from limbeck.data.loading import scaled
from limbeck.methods.pictures import NOTHING, Matrices, Picture
from limbeck.models.state_dicts import load_strictly
from limbeck.report import matrix_grid, overlay_grid
from limbeck.report.style import is_replaceable
from limbeck.training.checkpoints import WholeCheckpoints

log = logging.getLogger(__name__)

HALF = 0.5  # from what strength on an overlay counts as covering a pixel
SOFTWARE = "limbeck inspect"  # by which pictures of an earlier call are known
_NO_BOXES = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}


def draw_method(
    recipes: Sequence[str], method: str, picture: Path, images: int, checkpoint: Path | None = None
) -> None:
    """Draw what a method shows of the first batch of training.

    Args:
        recipes: The recipes of the run, each laid over the ones before it.
        method: The method's name in the recipes.
        picture: The file to write. A PNG says in its description what is seen.
        images: The number of images that are drawn, at most a batch.
        checkpoint: A checkpoint of the run. None: its models and methods are as they begin.

    Raises:
        FileExistsError: The file is there, and is none that this verb has written.
        ValueError: The recipes have no such method, or it has nothing to show.
    """
    if not is_replaceable(picture, SOFTWARE):
        raise FileExistsError(
            f"{picture} is there, and is no PNG that `limbeck inspect` has drawn. Nothing was "
            "written: choose another name with --picture, or move that file away."
        )
    module, data = parts_of(recipes)
    known = list(module.pair.methods)
    if method not in known:
        raise ValueError(
            f"--method {method}: these recipes have {', '.join(known) or 'no methods'}. Name one "
            "of them, and give every recipe of the run, as `limbeck fit` gets them."
        )
    if checkpoint is not None:
        state = WholeCheckpoints().load_checkpoint(checkpoint)["state_dict"]
        advice = "It is of another run: give the checkpoint of these recipes."
        load_strictly(module, state, str(checkpoint), advice)
    loaded, targets = next(iter(data.train_dataloader()))
    batch = scaled(loaded)
    if data.unlabelled is not None:
        module.pair.refuse_unlabelled("data.unlabelled is given")
    shown = module.pair.picture(batch, targets, method)
    if shown is None:
        kind = type(module.pair.methods[method]).__name__
        raise ValueError(f"--method {method}: {kind} {NOTHING}.")
    numbers = list(_numbers(shown))
    caption = f"{shown.caption} In numbers: {'; '.join(numbers)}."
    found = targets[:images] if data.task == "detection" and targets is not None else None
    truth = [_NO_BOXES] * len(batch[:images]) if found is None else found
    # Images for classification are one tensor.
    write(shown, list(batch[:images]), truth, data.classes, picture, caption)
    for line in numbers:
        log.info("%s", line)
    log.info("Drawn: %s", picture)


def write(
    shown: Picture,
    images: Sequence[Tensor],
    truth: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    picture: Path,
    caption: str | None = None,
) -> None:
    """Write what a method shows to a file.

    Args:
        shown: What it shows.
        images: The first images of the batch, (3, H, W) each, RGB in [0, 1], over which it is
            drawn where it lies over images.
        truth: The ``boxes`` and ``labels`` of these images.
        classes: The class names.
        picture: The file to write.
        caption: What a PNG says in its description. Default (None): the caption of the picture.
    """
    caption = shown.caption if caption is None else caption
    if isinstance(shown, Matrices):
        matrices = {name: (m.values, m.chosen) for name, m in shown.matrices.items()}
        axes = shown.rows, shown.columns, shown.values
        matrix_grid(matrices, axes, picture, SOFTWARE, caption)
    else:
        columns = {name: of_images[: len(images)] for name, of_images in shown.columns.items()}
        overlay_grid(images, truth, columns, classes, picture, SOFTWARE, caption)


def _numbers(shown: Picture) -> Iterator[str]:
    """What a picture shows, in numbers."""
    if isinstance(shown, Matrices):
        for name, matrix in shown.matrices.items():
            rows, columns = matrix.chosen.T
            chosen, every = matrix.values[rows, columns].mean(), matrix.values.mean()
            yield f"{name}: {_short(chosen)} in the mean of the dots, {_short(every)} of all pairs"
        return
    for name, of_images in shown.columns.items():
        count = len(of_images)
        maps = [each for each in of_images if isinstance(each, Tensor)]
        if maps:
            share = sum((each >= HALF).float().mean().item() for each in maps) / count
            yield f"{name}: {100 * share:.1f} % of the area, mean of {count} images"
        else:
            boxes = sum(len(each["boxes"]) for each in of_images if not isinstance(each, Tensor))
            yield f"{name}: {boxes / count:.1f} an image, mean of {count} images"


def _short(value: Tensor) -> str:
    """A number with two decimals, without a sign where these are 0."""
    return f"{round(value.item(), 2) + 0.0:.2f}"
