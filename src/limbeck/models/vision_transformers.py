"""Vision transformers of timm and ``transformers``: built by name, and where their tokens are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_INCEPTION_MEAN
from torch import nn

from limbeck.arguments import shown
from limbeck.frame import Extent, own_size
from limbeck.models.hub import pretrained, refuse_adapter, stated_of, transformers
from limbeck.models.published import fetching
from limbeck.models.state_dicts import load_strictly
from limbeck.models.weights import open_weights

_ADVICE = "Give the weights of this very network, or leave them out to see it without."


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a vision transformer are, and which images it takes.

    Attributes:
        blocks: The path of the list of its blocks, each of which gives tokens (B, P + h * w, C).
        norm: The path of the norm behind the last block. None: there is none.
        prefix: How many tokens P come before those of the patches: class and register tokens.
        patch: The side of a patch, in pixels.
        size: The only (height, width) of images that it takes, in pixels. None: any multiple of
            the patch.
    """

    blocks: str
    norm: str | None
    prefix: int
    patch: int
    size: Extent | None = None


@dataclass(frozen=True)
class Colours:
    """What the channels of an image are normalised by, RGB in [0, 1].

    Attributes:
        mean: The mean of each channel.
        std: The standard deviation of each channel.
    """

    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    std: Sequence[float] = IMAGENET_DEFAULT_STD


@dataclass(frozen=True)
class _Family:
    """A family of ``transformers``: its class, the paths of blocks and norm, its class tokens."""

    network: str
    blocks: str
    norm: str
    class_tokens: int
    colours: Colours = Colours()


_OF_TIMM = (timm.models.VisionTransformer, timm.models.Eva, timm.models.Beit)
_SIGLIP = Colours(IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_MEAN)
_FAMILIES: Mapping[str, _Family] = {
    "dinov2": _Family("Dinov2Model", "encoder.layer", "layernorm", 1),
    "dinov2_with_registers": _Family("Dinov2WithRegistersModel", "encoder.layer", "layernorm", 1),
    "dinov3_vit": _Family("DINOv3ViTModel", "model.layer", "norm", 1),
    "siglip_vision_model": _Family(
        "SiglipVisionModel", "encoder.layers", "post_layernorm", 0, _SIGLIP
    ),
}


def layout_of(network: nn.Module) -> Layout | None:
    """Where the tokens of a network are, as its own attributes say.

    Args:
        network: A vision transformer of timm (DINOv2, DINOv3, SigLIP, EVA and others of its
            ``VisionTransformer``, ``Eva`` and ``Beit``), or one of the families of
            ``transformers`` above.

    Returns:
        The layout. None: it is a network of another kind.
    """
    config: Any = getattr(network, "config", None)
    family = _FAMILIES.get(getattr(config, "model_type", ""))
    if family is not None:
        registers = getattr(config, "num_register_tokens", 0)
        prefix = family.class_tokens + registers
        return Layout(family.blocks, family.norm, prefix, config.patch_size)
    own: Any = network
    if not isinstance(own, _OF_TIMM):
        return None
    patch = own.patch_embed.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    if height != width or hasattr(own.patch_embed, "backbone"):  # which has strides of its own
        return None
    return Layout("blocks", "norm", own.num_prefix_tokens, height, own_size(network))


def colours_of(network: nn.Module) -> Colours:
    """What the images of a network are normalised by: as published with it, otherwise ImageNet's.

    Args:
        network: The network.

    Returns:
        timm's own, or those of the family in ``transformers``.
    """
    published = getattr(network, "pretrained_cfg", None)
    if isinstance(published, Mapping) and "mean" in published:
        return Colours(published["mean"], published["std"])
    family = _FAMILIES.get(getattr(getattr(network, "config", None), "model_type", ""))
    return Colours() if family is None else family.colours


def built(
    name: str, weights: str | None, arguments: Mapping[str, Any]
) -> tuple[nn.Module, Colours]:
    """Build a network by its name, without code of anybody else's.

    Args:
        name: ``timm:name``, or ``transformers:`` and a folder or a name on the hub.
        weights: As :class:`limbeck.models.FeatureTeacher` takes them.
        arguments: Further arguments of timm's builder.

    Returns:
        The network, and what its images are normalised by.

    Raises:
        FileNotFoundError: There is no such folder or file, or the hub is not reached.
        ImportError: ``transformers`` is not installed.
        ValueError: The name is of neither library, or the weights do not fit.
    """
    library, _, bare = name.partition(":")
    if library == "timm" and timm.is_model(bare):
        network = _of_timm(bare, weights, arguments)
        return network, colours_of(network)
    if library == "transformers" and bare:
        if arguments:
            raise ValueError(
                f"arguments={dict(arguments)}: a network of transformers is built as its folder "
                "says, and takes none. Leave them out."
            )
        return _of_transformers(bare, weights)
    raise ValueError(
        f"network={name!r}: no such network. Expected timm:NAME, such as "
        "timm:vit_small_patch16_dinov3.lvd1689m, transformers:FOLDER with a folder or a name on "
        "the hub, or the class path of any other. Give one of these."
    )


def _of_timm(name: str, weights: str | None, arguments: Mapping[str, Any]) -> nn.Module:
    published = weights == "timm:backbone"
    try:
        # Without a classifier: what is learnt from are features.
        with fetching(f"timm:{name}"):
            network: nn.Module = timm.create_model(
                name, pretrained=published, **{"num_classes": 0, **arguments}
            )
    except TypeError as error:
        raise ValueError(
            f"arguments={dict(arguments)} do not suit timm:{name}: {error}. Expected arguments of "
            "its builder. Correct or leave out the one named."
        ) from None
    if weights is not None and not published:
        _load(network, weights, f"weights={weights!r} for timm:{name}")
    return network


def _load(network: nn.Module, weights: str, where: str) -> None:
    opened: Any = open_weights(weights)
    tensors: dict[str, Any] | None = getattr(opened, "tensors", None)
    if tensors is None:
        raise ValueError(f"{where}: no file, folder, or timm:backbone (what timm publishes).")
    own = network.state_dict()
    stated = getattr(network, "pretrained_cfg", {}).get("classifier", "head")
    heads = tuple(f"{each}." for each in ([stated] if isinstance(stated, str) else stated or ()))
    kept = {n: v for n, v in tensors.items() if n in own or not n.startswith(heads)}
    load_strictly(network, kept, where, _ADVICE)


def _of_transformers(name: str, weights: str | None) -> tuple[nn.Module, Colours]:
    stated = stated_of(name, "transformers:")
    config = _config_of(name, stated.config)
    family = _FAMILIES[config.model_type]
    made = getattr(transformers(), family.network)
    network: nn.Module = made(config)
    if weights is not None:
        network = _pretrained(made, weights, config)
    mean, std = (stated.preprocessor.get(f"image_{each}") for each in ("mean", "std"))
    return network, family.colours if mean is None or std is None else Colours(mean, std)


def _config_of(name: str, stated: Mapping[str, Any]) -> Any:
    """The configuration of a vision transformer, of which only the known values are taken."""
    if isinstance(stated.get("vision_config"), Mapping):  # of two towers, as SigLIP has them
        stated = {
            "model_type": f"{stated.get('model_type')}_vision_model",
            **{k: v for k, v in stated["vision_config"].items() if k != "model_type"},
        }
    kind = str(stated.get("model_type"))
    if kind not in _FAMILIES:
        raise ValueError(
            f"network is 'transformers:{name}', whose model_type is {shown(kind)}; expected one of "
            f"{', '.join(_FAMILIES)}. Give one of these, or the class path of the network, with "
            "blocks, patch and prefix."
        )
    made = getattr(transformers(), _FAMILIES[kind].network).config_class
    fields = made().to_dict().keys() - {"auto_map", "quantization_config", "dtype", "torch_dtype"}
    return made(**{key: value for key, value in stated.items() if key in fields})


def _pretrained(made: Any, weights: str, config: Any) -> nn.Module:
    """The network with the weights of a folder or of a name on the hub, which all have to be."""
    refuse_adapter(weights)
    network, told = pretrained(made, weights, config)
    missing = sorted(told["missing_keys"])
    if missing or told["mismatched_keys"]:
        raise ValueError(
            f"weights={weights!r} do not fit the network: {', '.join(missing[:5]) or 'shapes'} are "
            f"missing or of another shape. {_ADVICE}"
        )
    found: nn.Module = network
    return found
