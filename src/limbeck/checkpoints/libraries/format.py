"""What a library's files of weights are: the one interface that reading and writing goes through.

A format stands in its library's module, and an object of it in
:data:`limbeck.checkpoints.formats.FORMATS`. Nothing else names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.checkpoint import Checkpoint, Style
from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.tensors import Tensors
from limbeck.presets import PRESETS, Preset, numerics_of_outputs


class Format(ABC):
    """One library's files of weights: how they are recognised, read, written and described.

    Attributes:
        name: The library's name, as users write it: ``name:file`` and ``--to name``.
        suffixes: The suffixes of the files that are written. Empty: files are read alone.
        kinds: The networks that the library has names for.
        endings: How the names of its files end, where their content does not say whose they are.
        trunks: The names of trunks in :mod:`limbeck.checkpoints.libraries.trunks` that are this
            library's.
        coco_ids: Whether its detectors of COCO have the dataset's 91 identifiers for classes.
        configuration_suffix: The suffix of the configuration that is written beside the weights.
        stated_numerics: The fields of a preset that its configuration says.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[Kind, ...]] = ()
    endings: ClassVar[tuple[str, ...]] = ()
    trunks: ClassVar[tuple[str, ...]] = ()
    coco_ids: ClassVar[bool] = False
    configuration_suffix: ClassVar[str] = ""
    stated_numerics: ClassVar[tuple[str, ...]] = ()

    # -- reading -----------------------------------------------------------------------------------

    @abstractmethod
    def recognises(self, names: Iterable[str]) -> bool:
        """Whether tensors of these names are a detector of the library's."""

    def load(self, path: Path, part: str | None = None) -> Contents:
        """What a file holds, see :func:`limbeck.checkpoints.read_file`."""
        return read_file(path, part)

    @abstractmethod
    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        """The checkpoint of a file.

        Args:
            source: Where the file is from, as it was said.
            contents: What the file holds.
            style: The style of its trunk. None: as its configuration says, otherwise as is usual.

        Returns:
            The weights under torchvision's names, with the arguments that the file determines.

        Raises:
            ValueError: The file holds something else than a network of the library's.
        """

    def fitted(self, checkpoint: Checkpoint, own: Tensors, where: str) -> Checkpoint:
        """The checkpoint for a model, where its file alone does not give the tensors their names.

        Args:
            checkpoint: What :meth:`read` gave.
            own: The state dict of the model.
            where: The file and the model, for messages.

        Returns:
            The checkpoint under the model's names; itself, unless a library needs the model.

        Raises:
            ValueError: The file does not fit the model.
        """
        return checkpoint

    def described(self, contents: Contents) -> Mapping[str, str]:
        """What ``limbeck inspect`` shows of a file that is known by its ending alone."""
        return {"file of": self.name, "tensors": str(len(contents.tensors))}

    # -- writing -----------------------------------------------------------------------------------

    def check_convertible(self, source: str) -> None:
        """Raise ValueError where no file of the library's says of what network it is."""
        return

    def write(self, checkpoint: Checkpoint, *, coco_ids: bool) -> Tensors:
        """The tensors of a checkpoint under the library's names.

        Args:
            checkpoint: A checkpoint of one of ``kinds``, of any library.
            coco_ids: Whether 80 classes get their places among COCO's 91 identifiers.

        Returns:
            The tensors.

        Raises:
            ValueError: The library has no such network.
        """
        raise ValueError(f"files of {self.name} are read, and not written.")

    def configuration(self, checkpoint: Checkpoint) -> str:
        """What the library has to be told of a checkpoint, in its own language; empty for none."""
        return ""

    def container(self, tensors: Tensors, checkpoint: Checkpoint, configuration: str) -> Any:
        """The object that ``torch.save`` keeps, around tensors of the library's names."""
        return tensors

    def told(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The arguments that no written file says, and whose user has to; empty for none."""
        return {}

    def remarks(self, checkpoint: Checkpoint) -> list[str]:
        """What the user of a written file has to know: a line for each thing to say or to expect.

        Args:
            checkpoint: The checkpoint that was written.

        Returns:
            What the library has to be told, then what it does otherwise with the same weights.
        """
        told = ", ".join(f"{name}={value}" for name, value in self.told(checkpoint).items())
        lines = [f"{self.name} has to be told: {told}"] if told else []
        ours = checkpoint.arguments.get("preset")
        presets: Mapping[Any, Preset] = PRESETS.get(checkpoint.kind, {})
        if ours not in presets or self.name not in presets:
            return lines
        for name in numerics_of_outputs(presets[ours]):
            here = checkpoint.arguments.get(name, getattr(presets[ours], name))
            there = getattr(presets[self.name], name)
            if here != there and name not in self.stated_numerics:
                lines.append(f"{name} is {here} in {ours}, {there} in {self.name}")
        return lines


def unusual(arguments: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are given and are not as usual, in the order of ``usual``."""
    return {
        name: arguments[name]
        for name, value in usual.items()
        if arguments.get(name) is not None and not _equal(arguments[name], value)
    }


def _equal(given: Any, usual: Any) -> bool:
    return np.shape(given) == np.shape(usual) and np.allclose(given, usual)
