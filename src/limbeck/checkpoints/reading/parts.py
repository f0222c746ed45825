"""The sets of weights that a checkpoint holds side by side, each under the network's own names.

A training checkpoint wraps the weights, ``{"state_dict": ...}`` or ``{"model": ...}``, keeps
averages of them beside, and its names begin with what was around the network: ``module.`` (DDP),
``_orig_mod.`` (``torch.compile``), an attribute of a LightningModule.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.checkpoints.reading.pickles import Array

Values = dict[str, object]

_PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module")
_WRAPPERS = ("module", "_orig_mod")
_COUNTERS = ("n_averaged", "steps")  # beside ``module.`` in averages of torch and mmengine
_MERGED = {"teacher": "t_net.", "student": "s_net."}
_AVERAGE = "callbacks.MovingAverage.average"
_LONGEST_NAME = 1000  # characters; wrappers are taken off a name one by one
_BUDGET = 100_000  # metadata is cut there: a small file can hold any number of references


@dataclass(frozen=True)
class Part:
    """One set of weights.

    Attributes:
        name: The name that the part is asked for by.
        container: The key, or keys with dots between, that it was kept under; "" for none.
        prefix: What was taken off the beginning of every name.
        values: The values by the network's own names, with those that are no tensors.
        aside: The names of what was kept with it and belongs to none of the networks.
        plain: Whether it is the weights themselves, and not another copy.
    """

    name: str
    container: str
    prefix: str
    values: Values
    aside: tuple[str, ...] = ()
    plain: bool = False


def parts_of(loaded: object) -> list[Part]:
    """All sets of weights in what a file held.

    The parts are named as the file names them (``model``, ``model_ema``, ``ema_state_dict``), but
    for ``student`` and ``average`` in limbeck's own checkpoints, ``teacher`` and ``student`` in
    MGD's merged files, and ``ema``, the second copy that mmdetection 2 keeps among the weights.

    Args:
        loaded: What the file held.

    Returns:
        The sets of weights, in the order of the file.

    Raises:
        ValueError: Names are the same once a prefix is taken off, or one is very long.
    """
    if not isinstance(loaded, Mapping):
        return []
    lightning = "pytorch-lightning_version" in loaded
    found = _containers(loaded).items()
    longest = max((len(str(name)) for _, values in found for name in values), default=0)
    if longest > _LONGEST_NAME:
        raise ValueError(
            f"a tensor's name has {longest:,} characters, expected at most {_LONGEST_NAME:,}"
        )
    parts = [part for key, values in found for part in _split(key, values, lightning)]
    if any(part.name == "student" and part.plain for part in parts):
        parts += _average(loaded)
    return parts


def default_part(parts: list[Part]) -> Part | None:
    """The weights themselves, or limbeck's average of them, or the only set there is."""
    if len(parts) == 1:
        return parts[0]
    for part in parts:
        if part.container == _AVERAGE:  # which was scored, and is what training exports
            return part
    return min((part for part in parts if part.plain), key=_rank, default=None)


def _rank(part: Part) -> int:
    key = part.container.rpartition(".")[2]
    return _PLAIN.index(key) if key in _PLAIN else -1


def _holds_tensors(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(name, str) for name in value)
        and any(isinstance(leaf, Tensor | Array) for leaf in value.values())
    )


def _containers(loaded: Mapping[Any, Any], depth: int = 2) -> dict[str, Values]:
    """The mappings of names to tensors, by their dotted keys."""
    inner = {
        str(key): value
        for key, value in loaded.items()
        if isinstance(value, Mapping) and not _of_training(str(key))
    }
    found = {key: dict(value) for key, value in inner.items() if _holds_tensors(value)}
    if found or _holds_tensors(loaded):
        return found or {"": dict(loaded)}
    if depth > 1:
        for key, value in inner.items():
            found |= {f"{key}.{k}": v for k, v in _containers(value, depth - 1).items()}
    return found


def _of_training(key: str) -> bool:
    return "optim" in key or key.endswith("_extra_state")


def _split(container: str, values: Values, lightning: bool) -> list[Part]:
    """The parts that lie in one state dict."""
    own = _distillation(container, values)
    if own is not None:
        return [own]
    prefix, values, aside = _bare(container, values, lightning)
    merged = _merged(container, prefix, values)
    if merged:
        return merged
    averages = _averages(values)
    kept = {key: value for key, value in values.items() if key not in averages}
    plain = not container or container.rpartition(".")[2] in _PLAIN
    parts = [Part(container or "weights", container, prefix, kept, aside, plain)]
    if averages:
        averaged = {averages[key]: value for key, value in values.items() if key in averages}
        parts.append(Part("ema", container, prefix, kept | averaged, aside))
    return parts


def _distillation(container: str, values: Values) -> Part | None:
    """The student in the state dict of limbeck's Distillation, or of the module around it."""
    for around in ("", "pair."):
        state = values.get(f"{around}_extra_state")
        prefix = f"{around}student."
        student = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        if student and isinstance(state, Mapping) and state.keys() >= {"number", "teacher"}:
            aside = tuple(key for key in values if not key.startswith(prefix))
            return Part("student", container, prefix, student, aside, plain=True)
    return None


def _average(loaded: Mapping[Any, Any]) -> list[Part]:
    """Limbeck's moving average of the student."""
    place: Any = loaded
    for key in _AVERAGE.split("."):
        place = place.get(key) if isinstance(place, Mapping) else None
    if not _holds_tensors(place):
        return []
    return [Part("average", _AVERAGE, "", dict(place))]


def _merged(container: str, prefix: str, values: Values) -> list[Part]:
    """MGD's teacher and student, side by side in one state dict."""
    if not all(any(name.startswith(p) for name in values) for p in _MERGED.values()):
        return []
    aside = tuple(name for name in values if not name.startswith(tuple(_MERGED.values())))
    return [
        Part(
            side,
            container,
            prefix + inner,
            {k.removeprefix(inner): v for k, v in values.items() if k.startswith(inner)},
            aside,
        )
        for side, inner in _MERGED.items()
    ]


def _averages(values: Values) -> dict[str, str]:
    """Of mmdetection 2's averages, ``ema_backbone_conv1_weight``: the names they are of."""
    return {
        average: name for name in values if (average := f"ema_{name.replace('.', '_')}") in values
    }


def _bare(container: str, values: Values, lightning: bool) -> tuple[str, Values, tuple[str, ...]]:
    """What every name begins with, the values without it, and counters that were among them."""
    counters = tuple(name for name in values if name in _COUNTERS)
    names = [name for name in values if name not in counters]
    prefix = _shared_prefix(names, lightning)
    if not prefix:
        names, counters = list(values), ()
    bare: Values = {}
    for name in names:
        short = name.removeprefix(prefix).replace("._orig_mod.", ".")
        if short in bare:
            raise ValueError(
                f"two tensors in {container or 'the file'} are called {short!r} once '{prefix}' "
                f"and '_orig_mod.' are taken off, one of them {name!r}"
            )
        bare[short] = values[name]
    return prefix, bare, counters


def _shared_prefix(names: list[str], lightning: bool) -> str:
    """Wrappers' names that all names begin with, and one attribute of a LightningModule."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :].partition(".") for name in names]
        heads = {head for head, _, _ in rest}
        if len(heads) != 1 or not all(tail for _, _, tail in rest):
            return prefix
        (head,) = heads
        if head not in _WRAPPERS:
            if not lightning:
                return prefix
            lightning = False
        prefix += f"{head}."


def merged(teacher: Mapping[str, Tensor], student: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a merged file, from which MGD's training on Detectron2 begins.

    The file is written with ``write_pickle(path, merged(...), matching_heuristics=True)``, as MGD's
    own script does.

    Args:
        teacher: The tensors of a detector, by Detectron2's names.
        student: The tensors of a backbone by Detectron2's names (``stem.conv1.weight``), or of a
            detector, of which the backbone is taken.

    Returns:
        The tensors of both, by the names of the merged file.

    Raises:
        ValueError: The student has no backbone under Detectron2's names.
    """
    trunk = "backbone.bottom_up."
    own = {k.removeprefix(trunk): v for k, v in student.items() if k.startswith(trunk)}
    own = own or dict(student)
    if not any(name.startswith("stem.") for name in own):
        raise ValueError(
            f"the student has no tensors of stem or {trunk}stem: found {_first(own)}. Give a "
            "ResNet's tensors by Detectron2's names."
        )
    to, of = _MERGED["teacher"], f"{_MERGED['student']}{trunk}"
    return {f"{to}{k}": v for k, v in teacher.items()} | {f"{of}{k}": v for k, v in own.items()}


def _first(names: Iterable[str]) -> list[str]:
    return sorted(names)[:5]


def metadata_of(loaded: Mapping[Any, Any], parts: list[Part]) -> tuple[dict[str, Any], list[str]]:
    """The plain values beside the weights, and the keys of what is not plain.

    An optimizer's state is not plain. Inside of what is, single objects and arrays are left out.

    Args:
        loaded: What the file held.
        parts: The sets of weights in it.

    Returns:
        The plain values by their keys, and the keys of all else.
    """
    budget = iter(range(_BUDGET))
    used = {part.container.partition(".")[0] for part in parts}
    metadata, aside = {}, []
    for key, value in loaded.items():
        if key in used or ("" in used and isinstance(value, Tensor | Array)):
            continue
        kept = _Nothing() if _of_training(str(key)) else _plain(value, budget)
        if isinstance(kept, _Nothing) or (value and kept in ([], {})):
            aside.append(str(key))
        else:
            metadata[str(key)] = kept
    return metadata, aside


class _Nothing:
    """Stands for a value that is not plain."""


def _plain(value: object, budget: Any, depth: int = 20) -> Any:
    """``value`` of None, booleans, numbers, strings, lists and dicts of them alone."""
    if next(budget, None) is None or not depth:
        return _Nothing()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_plain(item, budget, depth - 1) for item in value]
        return [item for item in items if not isinstance(item, _Nothing)]
    if isinstance(value, Mapping):
        named = [(str(k), v) for k, v in value.items() if isinstance(k, str | int)]
        pairs = [(k, _plain(v, budget, depth - 1)) for k, v in named]
        return {k: v for k, v in pairs if not isinstance(v, _Nothing)}
    return _Nothing()
