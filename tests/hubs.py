"""The cache of Hugging Face's hub, as its library lays it out, with students in it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub.constants
import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


def keep_in_cache(
    monkeypatch: pytest.MonkeyPatch, cache: Path, name: str, files: Mapping[str, bytes]
) -> Path:
    """Lay files of a repository into a cache, from which alone the library then reads."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / REVISION, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    for each, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        (snapshot / each).symlink_to(Path("../../blobs", digest))
    return snapshot


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
