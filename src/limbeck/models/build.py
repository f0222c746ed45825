"""How a model was built: its class and its arguments, as they stand in YAML and JSON."""

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from limbeck.arguments import importable_name, imported, plain_value
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.permitted import permitted
from limbeck.models.resnet import BasicBlocks


@dataclass(frozen=True)
class Build:
    """A class, or a function that returns a module, and the arguments that it is called with.

    Attributes:
        class_path: The dotted name, such as ``limbeck.models.RetinaNet`` or
            ``torchvision.models.resnet18``.
        init_args: The keyword arguments, as plain JSON values. Tuples become lists, and dataclasses
            become mappings.

    Raises:
        ValueError: An argument cannot be written as JSON.

    Example:
        >>> from limbeck.models import Build
        >>> build = Build("torchvision.models.resnet18", {"num_classes": 3})
        >>> build.make().fc
        Linear(in_features=512, out_features=3, bias=True)
    """

    class_path: str
    init_args: dict[str, Any]

    def __post_init__(self) -> None:
        plain = {name: self._plain(name, value) for name, value in self.init_args.items()}
        object.__setattr__(self, "init_args", plain)

    def _plain(self, name: str, value: Any) -> Any:
        try:
            return plain_value(value)
        except TypeError:
            raise ValueError(
                f"the argument {name!r} of {self.class_path} is a {type(value).__name__}, which "
                "JSON cannot hold. Let the class take numbers, strings, lists, mappings or "
                "limbeck.models.BasicBlocks, or pass build=Build(class_path, init_args) of another."
            ) from None

    @classmethod
    def of(cls, made: type[nn.Module], arguments: Mapping[str, Any]) -> "Build":
        """The build of a class, under the name by which it is imported again.

        Args:
            made: The class of the model, one of limbeck's or anybody else's.
            arguments: The keyword arguments of its constructor.

        Returns:
            A build whose ``class_path`` is the shortest name that means the class.

        Raises:
            ValueError: The class cannot be imported by a name, or an argument is no JSON value.
        """
        name = importable_name(made)
        if name is None:
            raise ValueError(
                f"{made.__qualname__} of {made.__module__} cannot be imported by a name, so a "
                "student of it could not be loaded again. Define the class at the top level of a "
                "module that can be imported, or pass build=Build(class_path, init_args)."
            )
        return cls(name, dict(arguments))

    def make(self, *, trust: bool = False) -> nn.Module:
        """Build the model, with fresh weights.

        Args:
            trust: Run any class or function, with any arguments. By default only models of
                limbeck, torchvision and timm are built, and no weights are fetched or opened, see
                :mod:`limbeck.models.permitted`.

        Returns:
            The model.

        Raises:
            ValueError: ``class_path`` does not exist, is not permitted, or makes no module; or an
                argument is not permitted.
            TypeError: The class or the function does not take the arguments.
        """
        maker, arguments = self._trusted() if trust else permitted(self.class_path, self.init_args)
        for name, value in arguments.items():
            # The one argument of limbeck's models that JSON cannot hold as it is.
            if isinstance(value, dict) and _takes_basic_blocks(maker, name):
                arguments[name] = BasicBlocks(**value)
        model = maker(**arguments)
        if not isinstance(model, nn.Module):
            raise ValueError(f"{self.class_path} made {type(model).__name__}, no nn.Module.")
        return model

    def _trusted(self) -> tuple[Callable[..., Any], dict[str, Any]]:
        try:
            maker: Callable[..., Any] = imported(self.class_path)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"class_path {self.class_path!r} does not exist: {error}") from None
        return maker, dict(self.init_args)


class LimbeckModel(nn.Module, ABC):
    """A module that knows how it was built, and which published weights are its own.

    A class derived from one of limbeck's models knows it, too: it is kept, and loaded again, as
    what it is, with the arguments that its own constructor got.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, each with its
            usual value: the one that counts where neither the user nor the weights say another.
            ``None`` stands for the value that the preset has under that name or, where it has
            none, for what the constructor computes. Where a class has no such argument, the value
            here is a fact about it. A student's weights are only loaded where these are equal.
        described_by: The arguments that describe the network, or as texts name a folder or an
            address where its description is. A student's folder has the descriptions themselves.
        companion_files: The names of the files that :meth:`companions` gives.
        arguments: Every argument that limbeck's own constructor got, settled, as plain JSON values,
            without the weights.
        published: The models whose published weights fit this one or its trunk, the trunk's first,
            such as ``torchvision:resnet50`` or ``timm:resnet18``.
    """

    numerics: ClassVar[Mapping[str, Any]] = {}
    described_by: ClassVar[Sequence[str]] = ()
    companion_files: ClassVar[Sequence[str]] = ()
    arguments: dict[str, Any]
    published: tuple[str, ...]
    _constructed_with: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note what the constructor of the model's own class is called with."""
        model = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(model, *args, **kwargs)
        model.__dict__["_constructed_with"] = _named(bound)
        return model

    @property
    def build(self) -> Build:
        """The class of this model, whoever wrote it, and the arguments of its constructor.

        Raises:
            ValueError: The class cannot be imported by a name, or its arguments cannot be written
                as JSON.
        """
        if self.is_limbecks:
            return Build.of(type(self), self.arguments)
        given = self._constructed_with
        # What was left open was settled by limbeck's constructor, if that has such an argument.
        open_ones = [n for n in inspect.signature(type(self)).parameters if given.get(n) is None]
        settled = {n: self.arguments[n] for n in open_ones if self.arguments.get(n) is not None}
        return Build.of(type(self), given | settled)

    @property
    def is_limbecks(self) -> bool:
        """Whether the class of this model is one of limbeck's, and not derived from one."""
        return _is_limbecks(type(self))

    @property
    def base(self) -> type[nn.Module]:
        """The class of limbeck's that this model is an instance of, or is derived from."""
        return next(parent for parent in type(self).__mro__ if _is_limbecks(parent))

    @abstractmethod
    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """Which part of this model a state dict fills, and the state dict of that part alone.

        Args:
            tensors: The weights of this whole model, or of the classifier whose trunk it has.

        Returns:
            The module to load into, and its tensors under that module's own names.
        """

    @abstractmethod
    def plain(self) -> nn.Module:
        """The network as torchvision or timm know it, which is what a student's file holds."""

    def companions(
        self, weights: str, tensors: Tensors, classes: Sequence[str]
    ) -> Mapping[str, str | bytes]:
        """Further files of a student's folder, by which another library loads it.

        Args:
            weights: The name of the file of the weights there.
            tensors: The weights, by the names that they have in :meth:`plain`.
            classes: The names of the foreground classes. Empty: they are not known.

        Returns:
            The contents by the names of the files, texts or bytes; by default none.
        """
        return {}

    @abstractmethod
    def without_limbeck(self) -> str | None:
        """Python that builds and loads :meth:`plain` without limbeck; None where nothing can."""


def _named(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The arguments of a constructor's call by their names, without the model and its weights."""
    _, *parameters = bound.signature.parameters.values()
    named: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in bound.arguments:
            value = bound.arguments[parameter.name]
            named |= value if parameter.kind is parameter.VAR_KEYWORD else {parameter.name: value}
    named.pop("weights", None)
    return named


def _is_limbecks(made: type) -> bool:
    return made.__module__.partition(".")[0] == "limbeck"


def _takes_basic_blocks(maker: Any, argument: str) -> bool:
    """Whether an argument of a class or builder may be basic blocks, also one that it hands on."""
    makers: list[Any] = [maker]
    if inspect.isclass(maker):
        makers = [vars(each).get("__init__") for each in maker.__mro__]
    for each in makers:
        try:
            hint = typing.get_type_hints(each).get(argument)
        except (NameError, TypeError):  # of imports for type checkers alone, or of no function
            continue
        if hint is not None:
            return hint is BasicBlocks or BasicBlocks in typing.get_args(hint)
    return False
