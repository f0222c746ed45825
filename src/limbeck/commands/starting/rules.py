"""The rules by which ``limbeck new`` chooses numbers, each with its reason.

They are simple on purpose: what they choose is a beginning, the recipe says why, and ``limbeck
compare`` says where it was too little ("under-trained").
"""

import math

from limbeck.commands.starting.commented import Chosen
from limbeck.commands.starting.measured import Measured

_MULTIPLE = 32  # pixels: the stride of C5, to whose multiples detectors pad
_LARGEST, _SMALLEST = 800, 256  # shorter sides in pixels: COCO's, and the least for five levels
_SMALL_OBJECT = 24  # pixels that the smallest tenth of the objects is to have: three cells of P3
_CLASSIFIED = 224  # pixels, the side that ImageNet's networks were trained with
_STEPS = {"detection": 200, "classification": 120}  # times the root of the number of images
_EPOCHS = {"detection": (12, 150), "classification": (20, 200)}
_LOOKS = 10


def short_side(data: Measured, needed: int = 0) -> Chosen:
    """The shorter side of images, so that small objects have pixels, and no more than that.

    The reason: what an image costs grows with its area, and objects below three cells of the finest
    map are hardly found. Images are enlarged for a network alone that takes no smaller ones, as
    that adds no detail.

    Args:
        data: What the data are like.
        needed: The least that a network takes, in pixels, a multiple of 32.

    Returns:
        The side in pixels.
    """
    smallest = data.objects.prod(dim=1).sqrt().quantile(0.1).item()  # a share of the shorter side
    least, most = min(_SMALLEST, data.short_side), min(_LARGEST, data.short_side)
    side = min(max(_SMALL_OBJECT / smallest, least), most)
    side = max(_MULTIPLE, int(side) // _MULTIPLE * _MULTIPLE)
    if side < needed:
        return Chosen(
            needed,
            f"The shorter side of a typical image has {data.short_side} px, and {side} px would be "
            f"enough; torchvision's trunks of SSD take none below {needed}.",
        )
    return Chosen(
        side,
        f"The shorter side of a typical image has {data.short_side} px, and a tenth of the objects "
        f"are smaller than {100 * smallest:.0f} % of it. {side} px give these "
        f"{smallest * side:.0f} px; they are to have {_SMALL_OBJECT} where images are large "
        "enough. Larger images find smaller objects, and cost by their area.",
    )


def long_side(data: Measured, short: int) -> int:
    """The bound of the longer side, by which 19 of 20 images have the whole shorter side."""
    return math.ceil(short * data.aspect / _MULTIPLE) * _MULTIPLE


def last_level(short: int) -> int:
    """The coarsest level of a pyramid: P7, of a stride of 128 px, needs large images."""
    return 7 if short >= _SMALLEST * 2 else 5


def classified_side(data: Measured) -> Chosen:
    """The side of images that are classified: theirs, but not above what ImageNet's weights saw."""
    side = min(_CLASSIFIED, data.short_side)
    side = side if side < 3 * _MULTIPLE else side // _MULTIPLE * _MULTIPLE
    return Chosen(
        side,
        f"The shorter side of a typical image has {data.short_side} px; published weights were "
        f"trained with {_CLASSIFIED}. Smaller images cost less, by their area.",
    )


def batch_size(data: Measured) -> Chosen:
    """The batch, small where images are few: at the same cost, more steps taught more there."""
    if data.task == "classification":
        size = next(
            s for bound, s in ((2_000, 32), (50_000, 64), (math.inf, 256)) if data.images < bound
        )
    else:
        size = next(
            s for bound, s in ((2_000, 4), (20_000, 8), (math.inf, 16)) if data.images < bound
        )
    size = min(size, data.images)
    return Chosen(
        size,
        f"There are {data.images:,} training images. Where they are few, small batches teach more "
        "at the same cost, as there are more steps. Lower it where the memory is too small.",
    )


def epochs(data: Measured, batch: int, *, from_scratch: bool) -> Chosen:
    """The length of the student's training, by the root of the number of images.

    The reason: a student that has not learnt what it can shows no gain of distillation at equal
    time. 119 images of helmets took 1,700 steps until twice as many gained nothing, CIFAR-10 with
    4,000 images 7,500, and COCO's 118,000 are usually trained for 90,000. From scratch it takes
    twice as long.
    """
    steps = _STEPS[data.task] * math.sqrt(data.images) * (2 if from_scratch else 1)
    an_epoch = max(1, data.images // batch)
    least, most = _EPOCHS[data.task]
    count = _whole_looks(min(max(round(steps / an_epoch), least), most))
    return Chosen(
        count,
        f"{count * an_epoch:,} steps of {batch}. A student that has not learnt what it can shows "
        "no gain of distillation at equal time: raise this where `limbeck compare` calls the plain "
        "student under-trained.",
    )


def teacher_epochs(students: int) -> Chosen:
    """The length of the teacher's training: half, as it begins with weights and learns faster."""
    return Chosen(
        _whole_looks(max(1, students // 2)),
        "Half as long as the student: a large network that begins with weights learns in fewer "
        "epochs. A better teacher teaches more, so raise this first.",
    )


def evaluation_interval(count: int) -> int:
    """The number of epochs between two validations: ten looks in all, so that they cost little."""
    return max(1, count // _LOOKS)


def _whole_looks(count: int) -> int:
    """A number of epochs that ends with a validation, a tenth less at most."""
    return count - count % evaluation_interval(count)
