"""The teachers of a pair: frozen, run once in a step, and each no further than its last tap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from limbeck.frame import explained_size
from limbeck.landmarks import unwrap
from limbeck.methods.base import Images
from limbeck.taps import Taps
from limbeck.transfer import transfer_weights

# What one model returned, and the values of its taps by "<method's name> <tap's name>".
Seen = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Teacher:
    """One teacher of a pair, with its taps.

    Attributes:
        side: What messages call it: ``teacher``, or with its name where it has one.
        module: The network.
        taps: All that methods read of it, and its frame where it has one.
    """

    side: str
    module: nn.Module
    taps: Taps

    def learn(self, images: Images) -> dict[str, Any]:
        """Run the whole network in the dry pass.

        Args:
            images: The images of the dry pass.

        Returns:
            The values of the taps; none where nothing is tapped.
        """
        return self.taps.learn(lambda: self.module(images)) if self.taps.taps else {}

    def teach(self, images: Images) -> Seen:
        """Run the network as far as its last tap, without gradient.

        Args:
            images: The images of the batch.

        Returns:
            What it returned, and the values of the taps. Nothing is run where nothing is tapped.
        """
        if not self.taps.taps:
            return None, {}
        if self.module.training:  # somebody called .train() on the teacher itself
            self.module.eval()
        # no_grad, not inference_mode: losses save the teacher's features for the backward pass.
        with torch.no_grad(), explained_size(self.side, self.module, images):
            return self.taps.read(lambda: self.module(images))


def side_of(key: str | None) -> str:
    """What messages call the teacher of that name; the one without a name goes by None."""
    return "teacher" if key is None else f"teacher {key!r}"


def frozen(teacher: nn.Module) -> nn.Module:
    """A teacher without its wrappers, which takes no gradient and is in evaluation mode."""
    return unwrap(teacher).requires_grad_(False).eval()


def transferred(
    student: nn.Module, teachers: Mapping[str | None, nn.Module], pairs: Mapping[str, str]
) -> None:
    """Copy the weights of teachers' submodules into the student's.

    Args:
        student: The student, which is changed.
        teachers: The teachers by their names, the one without a name by None.
        pairs: ``{student's submodule: teacher's}``, of a teacher with a name as ``name:submodule``.

    Raises:
        ValueError: There is no such teacher, a submodule does not exist, or names or shapes of its
            weights differ.
    """
    if pairs and not teachers:
        raise ValueError(
            f"model.transfer is {dict(pairs)}, but transfer needs a teacher, and there is "
            "none. Give one (model.teacher), or leave transfer out."
        )
    for target, source in pairs.items():
        name, colon, path = source.rpartition(":")
        teacher = teachers.get(name if colon else None)
        if teacher is None:
            known = ", ".join(f"{each}:" for each in teachers if each is not None)
            raise ValueError(
                f"model.transfer copies {target!r} from {source!r}, which is of no teacher; "
                f"expected a path in model.teacher, or behind the name of one of model.teachers: "
                f"{known or 'none'}. Give such a path."
            )
        transfer_weights(student, teacher, {target: path})
