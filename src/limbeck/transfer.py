"""What a student takes over from its teacher before training, and which teacher that was."""

import hashlib
from collections.abc import Mapping

import torch
from torch import nn


def transfer_weights(student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str]) -> None:
    """Copy the weights of the teacher's submodules into the student's.

    Args:
        student: The student, which is changed.
        teacher: The teacher.
        pairs: ``{student's submodule: teacher's}``, both as paths.

    Raises:
        ValueError: A submodule does not exist or has no weights, or names or shapes of its weights
            differ.
    """
    for target, source in pairs.items():
        try:
            ours = student.get_submodule(target).state_dict()
            theirs = teacher.get_submodule(source).state_dict()
        except AttributeError as error:
            raise ValueError(
                f"transfer {target!r} from {source!r}: {error}. Expected the paths of modules, the "
                "student's and the teacher's; give paths that `limbeck inspect` lists."
            ) from None
        if not ours and not theirs:
            raise ValueError(
                f"transfer {target!r} from {source!r}: neither module has weights, so that nothing "
                "would be copied. Name modules that have some, or leave this out."
            )
        shapes = {name: tuple(value.shape) for name, value in ours.items()}
        differing = [
            f"{name}: student {shapes.get(name)}, teacher "
            f"{tuple(theirs[name].shape) if name in theirs else None}"
            for name in sorted(ours.keys() | theirs.keys())
            if name not in theirs or shapes.get(name) != tuple(theirs[name].shape)
        ]
        if differing:
            raise ValueError(
                f"transfer {target!r} from {source!r}: the modules differ in {len(differing)} "
                f"entries, first {'; '.join(differing[:3])}. Transfer needs equal shapes."
            )
        student.get_submodule(target).load_state_dict(theirs)


def checksum(model: nn.Module) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a model's state dict, names and bytes."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
