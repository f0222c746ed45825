"""Weights that torchvision and timm publish, by name: the tensors, and the input they need."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import timm
from huggingface_hub.errors import HfHubHTTPError
from timm.models import get_pretrained_cfg
from torchvision.models import WeightsEnum, get_model_weights, list_models

from limbeck.checkpoints.libraries.torchvision import WITHOUT_EPS, with_eps
from limbeck.checkpoints.tensors import Tensors

# torchvision's own forward pass takes these two from ImageNet's normalisation to (x - .5) / .5.
_NORMALISED_TWICE = ("googlenet", "inception_v3")


def published_tensors(models: Sequence[str], source: str, kind: str) -> Tensors:
    """Fetch published weights.

    Args:
        models: The models whose weights fit, each with its library, the trunk's first.
        source: ``torchvision:`` or ``timm:`` and a name, see :func:`limbeck.models.load_weights`.
        kind: The class of the model that they are for, for messages.

    Returns:
        The tensors, under the names of the library.

    Raises:
        ValueError: There are no such weights, or they cannot be fetched.
    """
    library, _, name = source.partition(":")
    if library == "torchvision":
        return _from_torchvision(_of(models, library), name, kind)
    return _from_timm(_of(models, library), name, kind)


def input_of(network: str, weights: object) -> Mapping[str, Sequence[float]]:
    """What the input of a network is normalised by, as its published weights say.

    Args:
        network: The network with its library, such as ``timm:vit_small_patch16_224``.
        weights: The weights that it begins with. Where they are none that a library publishes, the
            network's own say it, if it is timm's.

    Returns:
        The ``mean`` and the ``std`` of each channel, RGB in [0, 1]; nothing where nobody says them.

    Raises:
        ValueError: timm has no weights of that name.
    """
    source = weights if isinstance(weights, str) else ""
    said, _, name = source.partition(":")
    if said == "torchvision":
        return _input_of_torchvision(_of([network], said), name)
    own = next(iter(_of([network], "timm")), "")
    name = _timm_name(own, name) if said == "timm" else own
    try:
        published = get_pretrained_cfg(name) if name else None
    except RuntimeError as error:  # of a tag
        raise ValueError(
            f"weights={source!r}: {error} Give one of timm.list_pretrained()."
        ) from error
    return {} if published is None else {"mean": published.mean, "std": published.std}


def _of(models: Sequence[str], library: str) -> list[str]:
    """The names of the models that are of a library, without it."""
    split = [model.partition(":") for model in models]
    return [name for of, _, name in split if of == library]


def _members(models: Sequence[str]) -> Mapping[str, WeightsEnum]:
    """The weights that torchvision publishes for some models, by all their names."""
    fitting = [get_model_weights(model) for model in models if model in list_models()]
    known: dict[str, WeightsEnum] = {}
    for enum in reversed(fitting):  # the trunk's come last, so they win a name
        known |= {member.name: member for member in enum}
        known |= {repr(member): member for member in enum} | {"backbone": enum.DEFAULT}
    if fitting:
        known["DEFAULT"] = fitting[-1].DEFAULT  # of the whole model
    return known


def _from_torchvision(models: Sequence[str], name: str, kind: str) -> Tensors:
    known = _members(models)
    if name not in known:
        raise ValueError(
            f"weights='torchvision:{name}': torchvision publishes none of that name for this "
            f"{kind}. There are: {', '.join(known) or 'none'}."
        )
    with fetching(f"torchvision:{name}"):
        tensors: Tensors = known[name].get_state_dict(progress=True, check_hash=True)
    return with_eps(tensors) if known[name] in WITHOUT_EPS else tensors


def _input_of_torchvision(models: Sequence[str], name: str) -> Mapping[str, Sequence[float]]:
    member = _members(models).get(name)
    if member is None:
        return {}
    if models[0] in _NORMALISED_TWICE:
        return {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    transform: Any = member.transforms()
    return {n: getattr(transform, n) for n in ("mean", "std") if hasattr(transform, n)}


def _from_timm(models: Sequence[str], name: str, kind: str) -> Tensors:
    whole = _timm_name(next(iter(models), ""), name)
    if not whole:
        raise ValueError(
            f"weights='timm:{name}': timm has no model of that name. Name one, or give a tag to a "
            f"Classifier of a timm network; this is a {kind}."
        )
    with fetching(f"timm:{whole}"):
        return timm.create_model(whole, pretrained=True).state_dict()


def _timm_name(own: str, name: str) -> str:
    """The full name of timm's weights, of which the name of a network or a tag of it is given."""
    if timm.is_model(name) or not own:
        return name if timm.is_model(name) else ""
    return own if name == "backbone" else f"{own.partition('.')[0]}.{name}"


@contextmanager
def fetching(told: str) -> Iterator[None]:
    """Within, what a library cannot find or fetch by a name is told with that name.

    Args:
        told: The name.

    Raises:
        ValueError: There are no such weights, or they cannot be fetched.
    """
    try:
        yield
    except (RuntimeError, OSError, HfHubHTTPError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{told!r} cannot be had ({type(error).__name__}: {reason}). Correct the name, or see "
            "whether there is a network; a file of the weights does as well."
        ) from error
