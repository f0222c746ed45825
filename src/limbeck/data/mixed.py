"""Training batches of labelled images and of images without labels, in a given proportion.

A batch is of one kind: all of its images have labels, or none has. So an image without a label
never looks like one without objects, and any model takes part, also one whose forward pass makes
the losses of its whole batch.
"""

from collections.abc import Iterator
from itertools import chain, count, islice

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from limbeck.data.base import Target, Task, VisionDataset
from limbeck.data.images import Images
from limbeck.data.loading import AugmentedBatches, ClassificationBatch, DetectionBatch
from limbeck.data.sampling import KINDS, BatchOrder, Draw, ShuffledBatches, sample_seed

Batch = DetectionBatch | ClassificationBatch


class Unlabelled(VisionDataset):
    """Images without labels in the form that the transforms of a task read.

    Args:
        images: The images.
        task: The task of the transforms.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, images: Images, task: Task) -> None:
        self.images = images
        self.task = task

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        """The image, and a target that says nothing: no objects, or the class 0."""
        image = self.images[index]
        if self.task == "classification":
            return image, torch.tensor(0)
        height, width = image.shape[-2:]
        boxes = tv_tensors.BoundingBoxes(
            torch.zeros(0, 4), format="XYXY", canvas_size=(height, width)
        )
        return image, {
            "boxes": boxes,
            "labels": torch.zeros(0, dtype=torch.int64),
            "image_id": torch.tensor(index),
            "area": torch.zeros(0),
            "iscrowd": torch.zeros(0, dtype=torch.int64),
        }

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of an image in pixels, without decoding it."""
        return self.images.image_size(index)


class UnlabelledBatches(AugmentedBatches):
    """Images without labels with their transforms, read one batch of draws at a time.

    Its dataset is an :class:`Unlabelled`, whose targets end with the transforms.
    """

    def __getitem__(self, draws: list[Draw]) -> Batch | None:
        """Make one batch, whose targets are None."""
        batch = super().__getitem__(draws)
        return None if batch is None else batch._replace(targets=None)


class BatchesOfBothKinds(Dataset[Batch | None]):
    """Two datasets with their transforms, of which each batch is read from one.

    Args:
        labelled: What makes batches of the labelled images.
        unlabelled: What makes batches of the images without labels.
    """

    def __init__(self, labelled: AugmentedBatches, unlabelled: AugmentedBatches) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled

    def __getitem__(self, draws: list[Draw]) -> Batch | None:
        """Make one batch, of the kind of its draws."""
        return (self.unlabelled if draws[0].unlabelled else self.labelled)[draws]


class MixedBatches(BatchOrder):
    """Batches of labelled and of unlabelled images, in a new order for every epoch.

    An epoch has as many batches as one of the labelled images alone, so that steps and epochs mean
    the same with unlabelled images and without. Both sets are gone through in orders of their own,
    which go on where the epoch before has ended: no image comes again before all the others of its
    set, apart from what their orders leave over. The kinds of an epoch's batches are shuffled, and
    are the same on all processes.

    Args:
        labelled: The order of the labelled images.
        unlabelled: The order of the unlabelled images.
        share: The share of the batches that have unlabelled images, above 0 and up to 1.
    """

    def __init__(
        self, labelled: ShuffledBatches, unlabelled: ShuffledBatches, share: float
    ) -> None:
        super().__init__()
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.share = share

    def __len__(self) -> int:
        return len(self.labelled)

    def draws(self, epoch: int) -> Iterator[list[Draw]]:
        """This process's batches of an epoch, each of one kind."""
        before = self._unlabelled_before(epoch)
        labelled = _from(self.labelled, epoch * len(self) - before)
        unlabelled = _from(self.unlabelled, before)
        for is_unlabelled in self.kinds(epoch).tolist():
            if is_unlabelled:
                yield [draw._replace(unlabelled=True) for draw in next(unlabelled)]
            else:
                yield next(labelled)

    def kinds(self, epoch: int) -> Tensor:
        """Which batches of an epoch have unlabelled images, bool (len(self),)."""
        generator = torch.Generator().manual_seed(sample_seed(self.labelled.seed, epoch, 0, KINDS))
        wanted = self._unlabelled_before(epoch + 1) - self._unlabelled_before(epoch)
        return torch.randperm(len(self), generator=generator) < wanted

    def _unlabelled_before(self, epoch: int) -> int:
        """How many unlabelled batches the epochs before this one have."""
        return round(epoch * len(self) * self.share)

    def depends_on(self) -> dict[str, float]:
        """The numbers that decide the order of the batches over all processes, by their names."""
        unlabelled = {"unlabelled": len(self.unlabelled.groups), "unlabelled_share": self.share}
        return self.labelled.depends_on() | unlabelled


def _from(order: ShuffledBatches, first: int) -> Iterator[list[Draw]]:
    """The batches of an order, epoch after epoch, from a number on that counts through all."""
    epoch, position = divmod(first, len(order))
    return islice(chain.from_iterable(map(order.draws, count(epoch))), position, None)
