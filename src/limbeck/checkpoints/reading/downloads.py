"""Weights by address: downloaded once, whole or not at all, and compared with a checksum."""

import hashlib
import re
import shutil
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urlsplit
from urllib.request import Request, urlopen

import torch
from rich.progress import wrap_file

from limbeck.whole import written_whole

SCHEMES = ("https", "http", "file")

# PyTorch, timm and OpenMMLab end a file's name with the first 8 digits or more of its sha256.
# Detectron2's shorter ends (model_final_bfca0b.pkl) are documented nowhere; digits may be a date.
_CHECKSUM_IN_NAME = re.compile(r"-(?!\d+\.)([0-9a-f]{8,64})\.\w+$")
_TIMEOUT = 60  # seconds without a byte


def is_url(source: str) -> bool:
    """Whether ``source`` is an address that :func:`fetch` takes."""
    return urlsplit(source).scheme in SCHEMES and ":/" in source


def fetch(url: str, folder: str | Path | None = None) -> Path:
    """The file at ``url``, downloaded where it was not before.

    Args:
        url: The address: https, http or file. ``#sha256=<hex>`` at its end says the file's
            checksum, in full or its beginning; otherwise the end of the file's name may, as in
            ``retinanet_r18_fpn_1x8_1x_coco_20220407_171055-614fd399.pth``.
        folder: The folder where files are kept, each address in a folder of its own. None:
            torch.hub's.

    Returns:
        The path of the file.

    Raises:
        ValueError: The address is none of these, or the file is not the one that its checksum says.
        OSError: It could not be downloaded; the address and what happened are said.
    """
    address, fragment = urldefrag(url)
    name = Path(unquote(urlsplit(address).path)).name
    stated = re.fullmatch(r"sha256=([0-9a-fA-F]{8,64})", fragment)
    if not is_url(url) or not name:
        raise ValueError(
            f"{url!r} is no address of a file. Expected https://..., http:// or file://"
        )
    if fragment and not stated:
        raise ValueError(
            f"{url!r} ends with #{fragment}. Expected #sha256= and 8 to 64 hex digits."
        )
    # The whole address tells files of one name apart, and checked ones from unchecked ones.
    kept = Path(folder or Path(torch.hub.get_dir(), "checkpoints"))
    path = kept / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    if path.is_file():
        return path
    expected = stated or _CHECKSUM_IN_NAME.search(name)
    _download(address, path, expected[1].lower() if expected else "")
    return path


def _download(address: str, path: Path, checksum: str) -> None:
    try:
        with written_whole(path) as partial:
            found = _copy(address, partial)
            if not found.startswith(checksum):
                raise ValueError(
                    f"{address} is not the file that its checksum says: sha256 should begin with "
                    f"{checksum}, found {found}. Download it again; if you trust it as it is, put "
                    f"#sha256={found} behind the address."
                )
    except (OSError, HTTPException) as error:
        raise OSError(f"{address} could not be downloaded: {_reason(error)}") from None


def _copy(address: str, partial: Path) -> str:
    """Write the file, and give its sha256."""
    request = Request(address, headers={"User-Agent": "limbeck"})  # some servers refuse Python's
    with urlopen(request, timeout=_TIMEOUT) as response, partial.open("wb") as file:
        stated = response.headers.get("Content-Length")
        size = None if stated is None else int(stated)
        with wrap_file(response, size or 0, description=partial.stem) as reading:
            shutil.copyfileobj(reading, file)
    if size is not None and partial.stat().st_size != size:
        raise OSError(f"the connection ended after {partial.stat().st_size} of {size} bytes")
    with partial.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Any) -> str:
    if isinstance(error, HTTPError):
        return f"the server said {error.code} {error.reason}. Open the address in a browser."
    if isinstance(error, TimeoutError):
        return f"nothing came for {_TIMEOUT} seconds. Try again later."
    if isinstance(error, URLError):
        return f"{error.reason}. Is the address right, and is there a network?"
    return f"{error or type(error).__name__}. Try again."
