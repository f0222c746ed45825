"""The teachers of a pair: frozen, run once in a step, and each no further than its last tap."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from limbeck.frame import explained_form, explained_size, padded_size, takes_list
from limbeck.landmarks import unwrap
from limbeck.methods.base import Images, Method
from limbeck.methods.errors import NoTeacherError
from limbeck.models.build import LimbeckModel
from limbeck.models.feature_teacher import FeatureTeacher
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

    def learn(self, images: Images, student: nn.Module) -> dict[str, Any]:
        """Run the whole network in the dry pass.

        Args:
            images: The images of the dry pass.
            student: The student, whose frame a :class:`FeatureTeacher` sees.

        Returns:
            The values of the taps; none where nothing is tapped.
        """
        if not self.taps.taps:
            return {}
        with explained_form(self.side, self.module, images):
            return self.taps.learn(lambda: self._call(images, student))

    def teach(self, images: Images, student: nn.Module) -> Seen:
        """Run the network as far as its last tap, without gradient.

        Args:
            images: The images of the batch.
            student: The student, whose frame a :class:`FeatureTeacher` sees.

        Returns:
            What it returned, and the values of the taps. Nothing is run where nothing is tapped.
        """
        if not self.taps.taps:
            return None, {}
        if any(module.training for module in self._parts):
            self.module.eval()  # somebody called .train() on the teacher, or on a part of it
        # no_grad, not inference_mode: losses save the teacher's features for the backward pass.
        with torch.no_grad(), explained_size(self.side, self.module, images):
            return self.taps.read(lambda: self._call(images, student))

    @cached_property
    def _parts(self) -> tuple[nn.Module, ...]:
        """All modules of the network, since walking through them in each step takes a while."""
        return tuple(self.module.modules())

    def _call(self, images: Images, student: nn.Module) -> Any:
        if isinstance(self.module, FeatureTeacher):
            return self.module(images, padded_size(student, images))
        return self.module(images)


def measured(teachers: Mapping[str | None, nn.Module]) -> nn.Module | None:
    """The teacher whose score stands beside the student's: the first that has the student's task.

    Args:
        teachers: The teachers by their names, the one without a name first.

    Returns:
        The teacher. None: there is none, or all give features alone.
    """
    return next((t for t in teachers.values() if not isinstance(t, FeatureTeacher)), None)


def side_of(name: str | None) -> str:
    """What messages call the teacher of that name; the one without a name goes by None."""
    return "teacher" if name is None else f"teacher {name!r}"


def key_of(name: str | None) -> str:
    """Where a recipe states the teacher of that name; the one without a name goes by None."""
    return "model.teacher" if name is None else f"model.teachers.{name}"


def frozen(teacher: nn.Module) -> nn.Module:
    """A teacher without its wrappers, which takes no gradient and is in evaluation mode."""
    return unwrap(teacher).requires_grad_(False).eval()


def refuse_scripted(models: Mapping[str, nn.Module]) -> None:
    """Refuse modules of ``torch.jit.script``, which can be neither frozen nor tapped.

    Args:
        models: The student and its teachers, by what messages call them.

    Raises:
        TypeError: One is such a module, or has one in it.
    """
    kind = torch.jit.RecursiveScriptModule  # type: ignore[attr-defined]
    for side, model in models.items():
        if any(isinstance(part, kind) for part in model.modules()):
            raise TypeError(
                f"the {side} is or holds a module of torch.jit.script, whose parts can be neither "
                "frozen nor read. Expected plain modules. Give those that it was made from."
            )


def refuse_shared(student: nn.Module, teachers: Mapping[str | None, nn.Module]) -> None:
    """Refuse a student that would be frozen with a teacher, as both have the same parameters.

    Args:
        student: The student, of which frozen parameters may be a teacher's.
        teachers: The teachers by their names, the one without a name by None.

    Raises:
        ValueError: A parameter that the student is to learn is a teacher's; both names are said.
    """
    learnt = {id(p): name for name, p in student.named_parameters() if p.requires_grad}
    for key, teacher in teachers.items():
        for name, parameter in teacher.named_parameters():
            if id(parameter) in learnt:
                raise ValueError(
                    f"the student's parameter {learnt[id(parameter)]!r} is {name!r} of the "
                    f"{side_of(key)}, the same object, and a teacher is frozen: the student could "
                    "not learn it. Expected models that share nothing that is trained. Give the "
                    "student a copy: copy.deepcopy(...)."
                )


def normalises(model: nn.Module) -> bool:
    """Whether a model normalises images itself, so that it takes raw ones, in [0, 1]."""
    return takes_list(model) or isinstance(model, LimbeckModel | FeatureTeacher)


def connect(method: Method, student: nn.Module, teachers: Mapping[str | None, nn.Module]) -> None:
    """Connect a method to the student and to its teacher, which has to be there.

    Args:
        method: The method.
        student: The student.
        teachers: The teachers by their names, the one without a name by None.

    Raises:
        ValueError: The method names none of the teachers; or there are only others than the one
            without a name, from which it would learn; or it refuses the pair.
    """
    names = [name for name in teachers if name is not None]
    if method.teacher is not None and method.teacher not in names:
        raise ValueError(
            f"its teacher is {method.teacher!r}; expected the name of one of model.teachers: "
            f"{', '.join(names) or 'none'}. Give one of these, or leave it out for model.teacher."
        )
    teacher = teachers.get(method.teacher)
    with named_teachers(teachers):
        method.connect(student, teacher)
        if teacher is None and method.teacher_taps and names:
            raise NoTeacherError


@contextmanager
def named_teachers(teachers: Mapping[str | None, nn.Module]) -> Iterator[None]:
    """Within, an error about a teacher that is missing names those that there are.

    Args:
        teachers: The teachers by their names, the one without a name by None.

    Yields:
        Nothing.

    Raises:
        ValueError: A method lacks its teacher, and there are others.
    """
    try:
        yield
    except NoTeacherError:
        if not teachers:
            raise
        raise ValueError(
            "it does not say which teacher it learns from, and there is no model.teacher; expected "
            f"the name of one of model.teachers: {', '.join(map(str, teachers))}. Set its argument "
            "teacher."
        ) from None


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


def refuse_taken(key: str, name: str) -> None:
    """Refuse the name of a method or a teacher that torch's ``ModuleDict`` has for itself.

    Args:
        key: What in a recipe the name stands in, such as ``model.methods``.
        name: The name.

    Raises:
        ValueError: It is such a name, as ``items`` is.
    """
    if hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"{key} has the name {name!r}, which torch uses itself. Expected any other, as it "
            "becomes a part of the names of losses and parameters. Give it another name."
        )
