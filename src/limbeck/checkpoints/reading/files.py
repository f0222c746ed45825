"""Reading files of weights: safetensors, ``torch.save`` in its two formats, Detectron2's pickles.

No code that a file names is run. What a file is, its content says, not its name.
"""

import re
import reprlib
import textwrap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from limbeck.checkpoints.reading.bounds import (
    MOST_HEADER,
    MOST_NAMES,
    TooLargeError,
    check_archive,
    check_legacy,
)
from limbeck.checkpoints.reading.parts import Part, default_part, metadata_of, parts_of
from limbeck.checkpoints.reading.pickles import STAND_INS, Array, Inert, read_pickle
from limbeck.checkpoints.tensors import Tensors

_EXPECTED = "Expected .safetensors, a state dict kept with torch.save, or Detectron2's .pkl."
_AGAIN = "Download or copy it again."
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6, and mmdetection's
_OTHERS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a RIFF file (WebP image, or sound)",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
    b"\x89HDF": "an HDF5 file (Keras)",
}


def _forget(*_: object) -> None:
    """Stands for a function whose result is not wanted."""


# What training frameworks keep beside the weights, and torch refuses: objects that are not wanted.
_UNWANTED = {
    "mmengine.logging.history_buffer.HistoryBuffer": Inert,
    "builtins.getattr": _forget,  # a HistoryBuffer's statistics are pickled as its class's methods
    "argparse.Namespace": Inert,
    "pathlib.PosixPath": Inert,
    "pathlib.WindowsPath": Inert,
}


@dataclass(frozen=True)
class Contents:
    """What a file of weights holds.

    Attributes:
        path: The path of the file.
        tensors: The weights, by the network's own names, on the CPU. They may be a view of the
            file: write a new file beside it and rename it, never into it.
        part: The name of the part that ``tensors`` is; "weights" where the file is nothing else.
        parts: The names of all parts, which :func:`read_file` takes as ``part``.
        container: The key that they were kept under, such as ``state_dict``; "" for none.
        prefix: What was taken off the beginning of every name, such as ``module.``; "" for none.
        metadata: The plain values beside the weights: ``__author__``, ``meta``, ``epoch``.
        set_aside: The names of what was left out: an optimizer's state, what is no tensor among the
            weights, what belongs to no network.
    """

    path: Path
    tensors: Tensors
    part: str = "weights"
    parts: tuple[str, ...] = ("weights",)
    container: str = ""
    prefix: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    set_aside: tuple[str, ...] = ()


def read_file(path: str | Path, part: str | None = None) -> Contents:
    """The weights in a file, out of whatever a training run put around them.

    Args:
        path: The path of a ``.safetensors``, ``.pth``, ``.pt``, ``.ckpt`` or ``.pkl``.
        part: The one of several sets of weights, by the file's own name for it: ``model_ema``,
            ``ema_state_dict``, ``state_dict_ema``; ``ema`` of mmdetection 2; ``teacher`` or
            ``student`` of MGD's merged file; ``average`` of limbeck's own checkpoint. None: the
            weights themselves. (mmengine, and mmcv at the end of an epoch, put the average in their
            place as they save: the other copy is what was averaged.)

    Returns:
        The weights, with what else the file says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, no file of weights, holds other things than tensors, holds
            NaN or infinity, has no such part or none that is the weights themselves.
    """
    path = Path(path)
    loaded, metadata = _load(path)
    try:
        parts = parts_of(loaded)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Keep `model.state_dict()` alone in it.") from None
    if not parts:
        is_mapping = isinstance(loaded, Mapping)
        found = sorted(map(_short, islice(loaded, 5))) if is_mapping else type(loaded)
        raise ValueError(
            f"{path} holds no state dict: found {found}, expected names and tensors, alone or "
            "under 'state_dict' or 'model'. Keep `model.state_dict()` in it."
        )
    chosen = _choose(path, parts, part)
    if len(chosen.values) > MOST_NAMES:
        raise ValueError(
            f"{path} holds {len(chosen.values):,} names: expected at most {MOST_NAMES:,}, which is "
            "more than any network has. Keep `model.state_dict()` alone in it."
        )
    tensors = _tensors(path, chosen)
    beside, aside = metadata_of(loaded, parts)
    metadata |= beside
    left = [n for n in chosen.values if n not in tensors and n not in metadata]
    return Contents(
        path=path,
        tensors=tensors,
        part=chosen.name,
        parts=tuple(each.name for each in parts),
        container=chosen.container,
        prefix=chosen.prefix,
        metadata=metadata,
        set_aside=tuple(dict.fromkeys([*aside, *chosen.aside, *left])),
    )


def _short(key: object) -> str:
    return key[:40] if isinstance(key, str) else reprlib.repr(key)


def _choose(path: Path, parts: list[Part], name: str | None) -> Part:
    names = ", ".join(each.name for each in parts)
    if name is None:
        chosen = default_part(parts)
        if chosen is None:
            raise ValueError(f"{path} holds several sets of weights: {names}. Name one of them.")
        return chosen
    for each in parts:
        if each.name == name:
            return each
    raise ValueError(f"{path} holds no part {name!r}: found {names}. Name one of them, or none.")


# -- from bytes to objects -------------------------------------------------------------------------


def _load(path: Path) -> tuple[Any, dict[str, Any]]:
    """What the file holds, and metadata of its format."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Name the file of weights in it.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a pipe or a device. Copy its content to a file.")
    with path.open("rb") as file:
        head = file.read(512)
    size = path.stat().st_size
    refuse_other_kinds(path, head)
    try:
        if path.suffix == ".safetensors" or (head[8:9] == b"{" and _header(head) <= size - 8):
            return read_safetensors(path)
        if head.startswith(b"PK") or head.startswith(_LEGACY):
            return _torch(path, is_zip=head.startswith(b"PK")), {}
        return read_pickle(path), {}
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file comes to
        raise _unreadable(path, head, error) from None


def _header(head: bytes) -> int:
    return int.from_bytes(head[:8], "little")


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read a file of safetensors, whose header is looked at before it is read.

    Args:
        path: The file.

    Returns:
        The tensors by their names, and the metadata.

    Raises:
        SafetensorError: It is damaged.
        TooLargeError: Its header is longer than any network's.
    """
    with path.open("rb") as file:
        head = file.read(8)
    size = path.stat().st_size
    if size < 8 or _header(head) > size - 8:
        raise SafetensorError(
            f"its header should be {_header(head)} bytes long, the file has {size}"
        )
    if _header(head) > MOST_HEADER:
        raise TooLargeError(
            f"its header has {_header(head):,} bytes, where {MOST_HEADER:,} are enough for all "
            "names and metadata of any network"
        )
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    return load_file(path), dict(metadata or {})


def _torch(path: Path, *, is_zip: bool) -> Any:
    if is_zip:
        _refuse_other_zips(path)
        check_archive(path)
    else:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            check_legacy(content)
    names = (*STAND_INS.items(), *_UNWANTED.items())
    # A map leaves what is not wanted, such as an optimizer's state, on the disk.
    with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in names]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise ValueError where the first bytes are of an empty file, a web page, a picture, ..."""
    if not head:
        raise ValueError(f"{path} is empty (0 bytes). {_AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a pointer of git-lfs, not the file itself. Run `git lfs pull` in its clone."
        )
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        raise ValueError(
            f"{path} is a web page, not weights: its download failed. Open its address in a "
            "browser to see why, and download it again."
        )
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            raise ValueError(f"{path} cannot be read as weights: it is {kind}. {_EXPECTED}")


def _refuse_other_zips(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise EOFError("the directory at its end is missing")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(
            "it is a TorchScript archive, a program. Keep its weights alone: "
            "`torch.save(torch.jit.load(path).state_dict(), new_path)`"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise ValueError(f"it is a zip archive of {names[:3]}")


def _unreadable(path: Path, head: bytes, error: Exception) -> ValueError:
    """What to say of a file that could not be read."""
    asked = re.search(r"(?:asks for|GLOBAL) ([\w.]+)", str(error))
    # What torch says around the reason is how to run the file's code.
    said = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    cut = isinstance(error, EOFError) or re.search(
        "EOF|truncated|exhausted|should be|not fully covered", said
    )
    if asked:
        advice = (
            f"it asks for {asked[1]}, and only tensors and plain values are read, so that no code "
            "of the file is run. If you trust whoever made it, load it with the program that wrote "
            "it and keep `model.state_dict()` alone with torch.save."
        )
    elif path.suffix != ".pkl" and re.fullmatch(rb"[\t\r\n -~]+", head):
        start = textwrap.shorten(head.decode(), 60, placeholder=" ...")
        advice = f"it is text that begins with {start!r}. {_EXPECTED}"
    elif re.search("(allocate|enough) memory", str(error)) or isinstance(error, MemoryError):
        advice = f"it states tensors of more bytes than there is memory for. {_AGAIN}"
    elif cut:
        advice = f"it is cut off ({textwrap.shorten(said, 200) or 'it ends early'}). {_AGAIN}"
    else:
        reason = textwrap.shorten(said, 300).rstrip(".") or type(error).__name__
        advice = f"{reason}. {_EXPECTED}"
    return ValueError(f"{path} cannot be read as weights: {advice}")


# -- from objects to weights -----------------------------------------------------------------------


def _tensors(path: Path, part: Part) -> Tensors:
    """The part's tensors, every one of them whole, plain and finite."""
    found = {n: _tensor(v) for n, v in part.values.items() if isinstance(v, Tensor | Array)}
    odd = [name for name, tensor in found.items() if not _is_whole(tensor)]
    if odd:
        raise ValueError(
            f"{path}: {_some(odd)} hold no plain numbers of their own (quantised, sparse, nested, "
            "without data, or expanded). Keep `{name: t.dequantize().to_dense().contiguous()}`."
        )
    bad = [name for name, tensor in found.items() if not _is_finite(tensor)]
    if bad:
        raise ValueError(
            f"{path} holds NaN or infinity in {_some(bad)}: training went wrong before it was "
            "kept. Take an earlier checkpoint."
        )
    return found


def _tensor(value: object) -> Tensor:
    if isinstance(value, Array):
        return torch.from_numpy(value.numpy)
    assert isinstance(value, Tensor)
    return value.detach()


def _is_whole(tensor: Tensor) -> bool:
    """Whether it is dense, and its storage has all its values: a small file can claim any size."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _is_finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    values = tensor.float() if tensor.element_size() == 1 else tensor  # not made for float8
    return bool(values.isfinite().all())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
