"""How a network of ``transformers`` is described: by a folder, a name on the hub, or a mapping."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.arguments import shown
from limbeck.models.detection.detr.families import FAMILIES, Family
from limbeck.texts import SAFE_LOADER, load_yaml, read_text

CONFIG, PREPROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
INSTALL = "pip install 'limbeck[transformers]'"

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
_OF_CLASSES = {"id2label", "label2id", "num_labels"}
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
        licence: The licence of the weights. None: nobody says it.
    """

    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    licence: str | None = None

    @property
    def family(self) -> Family:
        """The family of the network."""
        return FAMILIES[self.config["model_type"]]


def transformers() -> Any:
    """The library; an error says how it is installed."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(
            f"HuggingFaceDetector needs the library transformers ({error}). Install it: {INSTALL}."
        ) from error


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
        return Description(_safe(network, "network"), {})
    found, preprocessor, card = (_file(str(network), n) for n in (CONFIG, PREPROCESSOR, CARD))
    if found is None:
        raise FileNotFoundError(
            f"network is {str(network)!r}: there is no {CONFIG}. Expected a folder that has one, a "
            "name on the hub of Hugging Face, such as PekingU/rtdetr_r18vd, or a configuration. "
            "Correct it, or see whether the hub can be reached."
        )
    return Description(
        _safe(_json(found), str(found)),
        {} if preprocessor is None else _json(preprocessor),
        None if card is None else _licence(card),
    )


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
            kind = backbone["model_type"]
            off = {"use_pretrained_backbone": False} if kind == "timm_backbone" else {}
            rest = {name: value for name, value in backbone.items() if name != "model_type"}
            values["backbone_config"] = library.AutoConfig.for_model(kind, **rest, **off)
        kind = values.pop("model_type")
        return library.AutoConfig.for_model(kind, num_labels=num_classes, **values)
    except Exception as error:  # whatever the library raises for values from anywhere
        raise ValueError(
            f"network is no configuration that transformers {library.__version__} takes "
            f"({type(error).__name__}: {str(error)[:500]}). Correct it."
        ) from error


def plain_config(config: Any) -> dict[str, Any]:
    """The plain values of a configuration of the library, from which it is built again.

    Args:
        config: The configuration.

    Returns:
        The values, as :func:`described` takes them.
    """
    return _safe(json.loads(config.to_json_string(use_diff=False)), "network")


def _safe(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A configuration of a known detector, without what would have anything fetched or run."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(
            f"{where}: model_type is {shown(kind)}; expected a detector of "
            f"{', '.join(FAMILIES)}. Give one of these."
        )
    safe = {name: value for name, value in config.items() if not _is_left_out(name)}
    if safe.get("backbone_config") is None:
        return safe
    backbone = safe["backbone_config"]
    if not isinstance(backbone, Mapping) or backbone.get("model_type") not in _BACKBONES:
        told = backbone.get("model_type") if isinstance(backbone, Mapping) else backbone
        raise ValueError(
            f"{where}: the model_type of backbone_config is {shown(told)}; expected one of "
            f"{', '.join(sorted(_BACKBONES))}. Give one of these."
        )
    name = backbone.get("backbone")
    if name is not None and (not isinstance(name, str) or set(name) & set(":/\\")):
        raise ValueError(
            f"{where}: backbone_config.backbone is {shown(name)}; expected a name of timm's, "
            "without hub or folder. Correct it."
        )
    kept = {name: value for name, value in backbone.items() if not _is_left_out(name)}
    return safe | {"backbone_config": kept}


def _is_left_out(name: str) -> bool:
    own = name == "model_type"
    return not own and (name in _LOADING | _OF_CLASSES or name.startswith(("_", "transformers_")))


def _file(network: str, name: str) -> Path | None:
    """A file of a folder or of the hub's; None where there is none."""
    if Path(network).is_dir():
        file = Path(network, name)
        return file if file.is_file() else None
    library = transformers()
    try:
        found = library.utils.cached_file(
            network, name, _raise_exceptions_for_missing_entries=False
        )
    except (OSError, ValueError):  # no such name, or the hub is not reached
        return None
    return None if found is None else Path(found)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}). Copy it again.") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected a mapping. Correct it.")
    return found


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
