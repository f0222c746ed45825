"""How a model was built: a constructor's name and its arguments, as they stand in YAML and JSON."""

import dataclasses
import inspect
import json
import pkgutil
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.resnet import BasicBlocks

TRUSTED = ("limbeck", "torchvision", "timm")


@dataclass(frozen=True)
class Build:
    """A class, or a function that returns a module, and its arguments.

    Attributes:
        class_path: the dotted name, ``limbeck.models.RetinaNet``, ``torchvision.models.resnet18``.
        init_args: its keyword arguments, plain JSON values.
    """

    class_path: str
    init_args: dict[str, Any]

    def __post_init__(self) -> None:
        # Tuples become lists and dataclasses mappings here, as they will in the file.
        plain = json.loads(json.dumps(self.init_args, default=dataclasses.asdict))
        object.__setattr__(self, "init_args", plain)

    @classmethod
    def of(cls, class_path: str, arguments: Mapping[str, Any]) -> "Build":
        """From the ``locals()`` of a constructor at its first line; ``weights`` is left out."""
        kept = {k: v for k, v in arguments.items() if k not in ("self", "__class__", "weights")}
        return cls(class_path, kept)

    def make(self, *, trust: bool = False) -> nn.Module:
        """Build the model, with fresh weights.

        Args:
            trust: run any class or function; otherwise only modules, and functions annotated to
                return one, of limbeck, torchvision and timm.

        Raises:
            ValueError: ``class_path`` does not exist, or is not trusted.
            TypeError: The arguments do not suit it.
        """
        maker = self._maker(trust)
        target = maker.__init__ if inspect.isclass(maker) else maker
        arguments = dict(self.init_args)
        for name, value in arguments.items():
            # The one argument of limbeck's models that JSON cannot hold as it is.
            if isinstance(value, dict) and _takes_basic_blocks(target, name):
                arguments[name] = BasicBlocks(**value)
        model = maker(**arguments)
        if not isinstance(model, nn.Module):
            raise ValueError(f"{self.class_path} made {type(model).__name__}, no nn.Module.")
        return model

    def _maker(self, trust: bool) -> Callable[..., Any]:
        root = self.class_path.partition(".")[0]
        if root not in TRUSTED and not trust:
            raise ValueError(
                f"class_path {self.class_path!r}: only {', '.join(TRUSTED)} are run unasked. "
                "Pass trust=True if you trust whoever wrote it."
            )
        try:
            maker = pkgutil.resolve_name(self.class_path)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"class_path {self.class_path!r} does not exist: {error}") from None
        home = getattr(maker, "__module__", "").partition(".")[0]
        if not trust and not (home in TRUSTED and _makes_module(maker)):
            raise ValueError(
                f"class_path {self.class_path!r}: expected an nn.Module class of "
                f"{', '.join(TRUSTED)}, or a function of theirs annotated to return one."
            )
        return typing.cast(Callable[..., Any], maker)


class LimbeckModel(nn.Module, ABC):
    """A module that knows how it was built, and which published weights are its own.

    Attributes:
        build: the constructor and its arguments, less the weights.
        published: models whose published weights fit this one or its trunk, the trunk's first:
            ``torchvision:resnet50``, ``timm:resnet18``.
    """

    build: Build
    published: tuple[str, ...]

    @abstractmethod
    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """Which part of this model a state dict fills, and that part's own state dict."""

    @abstractmethod
    def plain(self) -> nn.Module:
        """The network as torchvision or timm know it: what is kept in a student's file."""

    @abstractmethod
    def without_limbeck(self) -> str | None:
        """Python that builds and loads :meth:`plain` without limbeck, where that is possible."""


def _takes_basic_blocks(target: Any, argument: str) -> bool:
    return BasicBlocks in typing.get_args(typing.get_type_hints(target).get(argument))


def _makes_module(maker: Any) -> bool:
    made = maker if inspect.isclass(maker) else typing.get_type_hints(maker).get("return")
    return inspect.isclass(made) and issubclass(made, nn.Module)
