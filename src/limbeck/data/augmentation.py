"""The base class of every augmentation, and how one is written into a student's card and read."""

import inspect
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.transforms import v2

from limbeck.arguments import (
    importable_name,
    plain_value,
    refuse_absurd,
    refuse_misfits,
    shown,
)
from limbeck.data.base import Task

Transform = Callable[..., Any]

_OWN = re.compile(r"limbeck\.data(\.[a-zA-Z]\w*)+", re.ASCII)


class Augmentation(ABC):
    """What happens to the images of a dataset on their way to the models.

    A subclass is stated in a recipe as ``data.augmentation`` by its class path and arguments, and
    in Python as an argument of :class:`limbeck.training.data.DataModule`. Its transforms are made
    of ``torchvision.transforms.v2``, or are callables like those: they take and give
    ``(image, target)`` as :class:`limbeck.data.VisionDataset` describes them. The image that they
    give is uint8 (0 to 255), or float32 in [0, 1] where a step of theirs needs fractions. uint8 is
    a quarter of the bytes, and is scaled to [0, 1] where the models are. They draw their random
    numbers from torch's default generator, which is seeded for each image. Normalisation belongs to
    the models.

    Attributes:
        task: The task of the datasets that it is made for, ``"detection"`` or
            ``"classification"``.

    Example:
        >>> from limbeck.data import Augmentation, Shapes
        >>> from torchvision.transforms import v2
        >>> class Flipped(Augmentation):
        ...     task = "classification"
        ...
        ...     def __init__(self, probability: float = 0.5) -> None:
        ...         self.probability = probability
        ...
        ...     def training(self) -> v2.Transform:
        ...         return v2.RandomHorizontalFlip(self.probability)
        >>> image, target = Flipped().training()(*Shapes("classification", count=1)[0])
        >>> image.dtype
        torch.uint8
    """

    task: ClassVar[Task]

    @abstractmethod
    def training(self) -> Transform:
        """The transform of each training image with its target."""

    def training_batch(self) -> Transform | None:
        """The transform of all samples of a training batch, which follows that of each.

        It takes the list of their ``(image, target)`` and gives such a list of the same length.
        None (the default) leaves them as they are. Images come as :meth:`training` gives them:
        where that is uint8, begin with :func:`to_float` to compute with values in [0, 1].
        """
        return None

    def evaluation(self) -> Transform:
        """The transform of each validation image, by default none.

        ``limbeck predict`` calls it with an image that has no target.
        """
        return unchanged

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, from which this augmentation can be built again.

        They are read from the attributes of the same names, which a dataclass always has. A class
        that keeps its arguments in another way overrides this method.

        Returns:
            The values by the names of the arguments. Each can be written as JSON.

        Raises:
            ValueError: An argument of the constructor is not kept as an attribute.
        """
        names = list(inspect.signature(type(self)).parameters)
        unkept = [name for name in names if not hasattr(self, name)]
        if unkept:
            raise ValueError(
                f"{type(self).__name__} does not keep its argument {unkept[0]!r} as an attribute "
                "of this name, so the student's folder could not say what it was measured with. "
                "Keep it, or override the method `arguments`."
            )
        return {name: getattr(self, name) for name in names}


def unchanged(image: Tensor, *target: Any) -> Any:
    """The transform that leaves an image, and its target if it has one, as they are."""
    return (image, *target) if target else image


def to_float() -> Transform:
    """The conversion of an image to float32 in [0, 1], which leaves floats as they are."""
    convert: Transform = v2.ToDtype(torch.float32, scale=True)
    return convert


def to_recipe(augmentation: Augmentation) -> dict[str, Any]:
    """An augmentation as a recipe states it.

    Args:
        augmentation: The augmentation to describe.

    Returns:
        Its ``class_path`` and ``init_args``, as plain JSON values.

    Raises:
        ValueError: Its arguments are not known, or cannot be written as JSON.
    """
    kind = type(augmentation)
    arguments = augmentation.arguments()
    try:
        plain = plain_value(arguments)
    except TypeError as error:
        raise ValueError(
            f"the arguments of {kind.__name__} cannot be written into the student's folder "
            f"({error}): {arguments}. Expected plain values; override the method `arguments` so "
            "that it gives such."
        ) from error
    path = importable_name(kind) or f"{kind.__module__}.{kind.__qualname__}"
    return {"class_path": path, "init_args": plain}


def from_recipe(
    entry: Mapping[str, Any], *, trust: bool = False, task: Task | None = None
) -> Augmentation:
    """The augmentation that :func:`to_recipe` has described.

    Args:
        entry: Its ``class_path`` and ``init_args``.
        trust: Whether to build a class that is not limbeck's own, whose code then runs.
        task: The task that it has to be for. Default (None): any.

    Returns:
        A new augmentation.

    Raises:
        ValueError: The class does not exist, is no augmentation, is not trusted, or is for another
            task; or its arguments do not suit.
    """
    path, arguments = entry.get("class_path"), entry.get("init_args")
    if not isinstance(path, str) or not isinstance(arguments, dict):
        raise ValueError(
            f"the student was measured with the augmentation {shown(entry)}, expected a "
            "mapping with a class_path, which is a text, and init_args, a mapping. Save the "
            "student anew."
        )
    kind = _augmentation(path, trust=trust)
    try:
        if kind.__module__.startswith("limbeck."):
            refuse_misfits(kind, arguments, f"init_args of {path}")
            refuse_absurd(arguments, f"init_args of {path}")
        made = kind(**arguments)
    except Exception as error:  # whatever a constructor raises for arguments from anywhere
        raise ValueError(
            f"the student was measured with the augmentation {path}, which is not built: {error}"
        ) from error
    if task not in (None, made.task):
        raise ValueError(
            f"the student was measured with the augmentation {path}, which is for {made.task}: "
            f"expected one for {task}, which is the student's task. Save the student anew."
        )
    return made


def _augmentation(path: str, *, trust: bool) -> type[Augmentation]:
    """The class of that name; without trust, nothing is imported but limbeck's data."""
    untrusted = ValueError(
        f"the student was measured with the augmentation {shown(path)[1:-1]}, which is not "
        "limbeck's own. Building it runs its code: pass --trust (in Python trust=True) if you "
        "trust whoever wrote it."
    )
    if not trust and not _OWN.fullmatch(path):
        raise untrusted
    try:
        kind = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the student was measured with the augmentation {path}, which cannot be imported "
            f"({error}). Install its package, or add its folder to PYTHONPATH."
        ) from error
    if not (inspect.isclass(kind) and issubclass(kind, Augmentation)):
        raise ValueError(f"{path} is no limbeck.data.Augmentation. Save the student anew.")
    if not trust and not kind.__module__.startswith("limbeck.data."):
        raise untrusted
    return kind
