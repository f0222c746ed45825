"""How a network of ``transformers`` is described: by a folder, a name on the hub, or a mapping."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.arguments import shown
from limbeck.models.detection.detr.families import FAMILIES
from limbeck.models.hub import CONFIG, file_of, json_of, stated_of, transformers
from limbeck.texts import SAFE_LOADER, load_yaml, read_text

log = logging.getLogger(__name__)

CARD = "README.md"

# What has transformers fetch weights, kernels or code; all of it may stand in a file from anywhere.
_LOADING = {
    "attn_implementation",
    "auto_map",
    "backbone_kwargs",
    "dtype",
    "quantization_config",
    "torch_dtype",
    "use_pretrained_backbone",
}
# They have anchors and positions of one image size computed once; others then fail in evaluation.
_OF_ONE_SIZE = {"anchor_image_size", "eval_size"}
_OF_CLASSES = {"id2label", "label2id", "num_labels"}
# What classes of configurations take beside their fields.
_FURTHER = {"backbone", "mask_loss_coefficient", "out_features", "out_indices", "use_timm_backbone"}
_NAME_TRUNKS = ("detr", "deformable_detr")  # by a name of timm's, where there is no backbone_config
_BACKBONES = {
    "dinov2",
    "dinov3_convnext",
    "dinov3_vit",
    "hgnet_v2",
    "lw_detr_vit",
    "resnet",
    "rf_detr_dinov2",
    "rt_detr_resnet",
    "swin",
    "timm_backbone",
}


@dataclass(frozen=True)
class Description:
    """What is said of a network.

    Attributes:
        config: The configuration, plain values that build the network without any file.
        preprocessor: What the images are brought to before the network sees them. Empty: nobody
            says it.
    """

    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]


def described(network: str | Path | Mapping[str, Any]) -> Description:
    """Read how a network is built.

    Args:
        network: A folder with a ``config.json``, a name on the hub, or what such a file holds.

    Returns:
        The description, without anything that would have weights, code or kernels fetched.

    Raises:
        FileNotFoundError: There is no such folder, and the hub has no such name or is not reached.
        ValueError: It is no configuration of a detector that is known.
    """
    if isinstance(network, Mapping):
        safe = _safe(network, "network")
        _warn_of_unknown(safe)
        return Description(safe, {})
    stated = stated_of(str(network))
    return Description(_safe(stated.config, stated.where), stated.preprocessor)


def licence_of(network: str) -> str | None:
    """The licence of a folder or of a name on the hub, as its card says it.

    Args:
        network: The folder or the name.

    Returns:
        The licence. None: there is no card, it says none, or the hub is not reached.
    """
    try:
        card = file_of(network, CARD)
    except OSError:  # the hub is not reached
        return None
    return None if card is None else _licence(card)


def names_of(network: str) -> list[str]:
    """The names of the classes of a folder or of a name on the hub, as its configuration has them.

    Args:
        network: The folder or the name.

    Returns:
        The names in the order of their numbers. Empty: there is no configuration, or it has none.

    Raises:
        ValueError: The names are not those of the numbers from 0 on.
    """
    found = file_of(network, CONFIG)
    stated = {} if found is None else json_of(found).get("id2label") or {}
    if not isinstance(stated, Mapping) or set(stated) != set(map(str, range(len(stated)))):
        raise ValueError(
            f"{found}: id2label is {shown(stated)}; expected a name for each number from 0 on. "
            "Correct it."
        )
    return [str(stated[str(number)]) for number in range(len(stated))]


def built_config(config: Mapping[str, Any], num_classes: int) -> Any:
    """The configuration as an object of the library.

    Args:
        config: The plain values.
        num_classes: The number of classes without the background.

    Returns:
        The configuration.

    Raises:
        ValueError: The library does not take a value.
    """
    values = dict(config)
    backbone = values.pop("backbone_config", None)
    library = transformers()
    try:
        if backbone is not None:
            values["backbone_config"] = _object(backbone)
        return _object(values, num_labels=num_classes)
    except Exception as error:  # whatever the library raises for values from anywhere
        raise ValueError(
            f"network is no configuration that transformers {library.__version__} takes "
            f"({type(error).__name__}: {str(error)[:500]}). Correct it."
        ) from error


def _object(values: Mapping[str, Any], **others: Any) -> Any:
    """A configuration of the library, from the values that its class states.

    Any other key would become an attribute of the object, and some of those have code fetched.
    """
    made = transformers().CONFIG_MAPPING[values["model_type"]]
    stated = _stated_by(values["model_type"])
    return made(**{name: value for name, value in values.items() if name in stated}, **others)


def _stated_by(kind: str) -> set[str]:
    """The keys that a class of configurations of the library takes."""
    made = transformers().CONFIG_MAPPING[kind]
    fields = {field.name for field in dataclasses.fields(made)}
    return fields | set(made.attribute_map) | _FURTHER | {"model_type"}


def _known(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys that the library does not take."""
    known = {name: v for name, v in config.items() if name in _stated_by(config["model_type"])}
    backbone = known.get("backbone_config")
    return known if backbone is None else known | {"backbone_config": _known(backbone)}


def _warn_of_unknown(config: Mapping[str, Any]) -> None:
    """Tell of keys that somebody wrote, and that have no effect."""
    backbone = config.get("backbone_config") or {}
    known = _known(config)
    unknown = [name for name in config if name not in known]
    unknown += [f"backbone_config.{n}" for n in backbone if n not in known["backbone_config"]]
    if unknown:
        log.warning(
            "network has the keys %s, which transformers %s does not know: they have no effect. "
            "Correct or remove them.",
            ", ".join(unknown),
            transformers().__version__,
        )


def plain_config(config: Any) -> dict[str, Any]:
    """The plain values of a configuration of the library, from which it is built again.

    Args:
        config: The configuration.

    Returns:
        The values, as :func:`described` takes them.
    """
    return _known(_safe(json.loads(config.to_json_string(use_diff=False)), "network"))


def _safe(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A configuration of a known detector, without what would have anything fetched or run."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"{where}: model_type is {shown(kind)}; expected a detector of "
            f"{', '.join(FAMILIES)}. Give one of these."
        )
    safe = {name: value for name, value in config.items() if not _is_left_out(name)}
    if safe.get("backbone_config") is None:
        if safe.get("backbone") is not None:
            _refuse_fetched(kind, safe, where)
        return safe
    safe.pop("backbone", None)  # the library looks at it where there is no backbone_config
    backbone = safe["backbone_config"]
    told = backbone.get("model_type") if isinstance(backbone, Mapping) else backbone
    known = isinstance(told, str) and told in _BACKBONES
    if not (known and isinstance(backbone, Mapping)):
        raise ValueError(
            f"{where}: the model_type of backbone_config is {shown(told)}; expected one of "
            f"{', '.join(sorted(_BACKBONES))}. Give one of these."
        )
    if backbone.get("backbone") is not None:
        _refuse_no_name(backbone["backbone"], f"{where}: backbone_config.backbone")
    kept = {name: value for name, value in backbone.items() if not _is_left_out(name)}
    return safe | {"backbone_config": kept}


def _refuse_fetched(kind: str, config: Mapping[str, Any], where: str) -> None:
    """Refuse the name of a backbone that the library would look for on the hub, or in a folder."""
    if kind not in _NAME_TRUNKS or not config.get("use_timm_backbone", True):
        raise ValueError(
            f"{where}: backbone is {shown(config['backbone'])}, which would be looked for on the "
            "hub; expected a backbone_config, which says how the backbone is built. Give one."
        )
    _refuse_no_name(config["backbone"], f"{where}: backbone")


def _refuse_no_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or set(name) & set(":/\\"):
        raise ValueError(
            f"{where} is {shown(name)}; expected a name of timm's, without hub or folder. "
            "Correct it."
        )


def _is_left_out(name: str) -> bool:
    own = name == "model_type"
    return not own and (
        name in _LOADING | _OF_ONE_SIZE | _OF_CLASSES or name.startswith(("_", "transformers_"))
    )


def _licence(card: Path) -> str | None:
    """The licence in the head of a model's card, as the hub writes it."""
    _, mark, rest = read_text(card, strict=False).partition("---\n")
    head, end, _ = rest.partition("\n---")
    if not (mark and end):
        return None
    try:
        stated = load_yaml(head, str(card), SAFE_LOADER)
    except ValueError:
        return None
    licence = stated.get("license") if isinstance(stated, Mapping) else None
    return licence if isinstance(licence, str) else None
