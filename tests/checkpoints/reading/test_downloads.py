import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from limbeck.checkpoints.reading.downloads import fetch, is_url

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves ``CONTENT`` under every address but a few, and counts."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            if "missing" in self.path:
                self.send_error(404)
                return
            self.send_response(200)
            if "unsized" not in self.path:
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100] if "cut" in self.path else CONTENT)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        known = Server(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield known
        running.shutdown()
        thread.join()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["a/model.pth", "unsized/model.pth", "a/model.pth?download=true"])
def test_a_file_is_downloaded_once(name: str, server: Server, tmp_path: Path) -> None:
    path = fetch(f"{server.address}/{name}", tmp_path)
    assert path.name == "model.pth"
    assert path.read_bytes() == CONTENT
    assert fetch(f"{server.address}/{name}", tmp_path) == path
    assert len(server.asked) == 1
    assert files(tmp_path) == [path]


def test_files_of_one_name_are_told_apart(server: Server, tmp_path: Path) -> None:
    names = ["a/model.pth", "b/model.pth", "b/model.pth?v=2"]
    paths = {fetch(f"{server.address}/{name}", tmp_path) for name in names}
    assert len(paths) == 3


def test_names_cannot_leave_the_folder(server: Server, tmp_path: Path) -> None:
    path = fetch(f"{server.address}/a/..%2f..%2f..%2fevil.pth", tmp_path / "kept")
    assert path.is_relative_to(tmp_path / "kept")
    assert files(tmp_path) == [path]


def test_files_are_kept_where_torch_hub_keeps_its_own(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert fetch(f"{server.address}/x.pth").is_relative_to(tmp_path / "checkpoints")


def test_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "my model.pth").write_bytes(CONTENT)
    path = fetch((tmp_path / "my model.pth").as_uri(), tmp_path / "kept")
    assert path.name == "my model.pth"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name",
    [
        f"model.pth#sha256={SHA256}",
        f"model.pth#sha256={SHA256[:8].upper()}",
        f"model_20200130-{SHA256[:8]}.pth",
        f"model-aaaaaaaa.pth#sha256={SHA256}",  # what is stated wins over the name
        "model-20200130.pth",  # a date
        "model_final_bfca0b.pkl",
    ],
)
def test_right_checksums(name: str, server: Server, tmp_path: Path) -> None:
    assert fetch(f"{server.address}/{name}", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["model.pth#sha256=" + "0" * 64, "model_20200130-c2398f9e.pth"])
def test_a_wrong_checksum_leaves_nothing(name: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"should begin with \w+, found {SHA256}") as error:
        fetch(f"{server.address}/{name}", tmp_path)
    assert server.address in str(error.value)
    assert files(tmp_path) == []
    escape = str(error.value).split("put #")[1].split()[0]
    bare = name.partition("#")[0]
    assert fetch(f"{server.address}/{bare}#{escape}", tmp_path).read_bytes() == CONTENT


def test_a_checksum_that_is_added_later_is_compared(server: Server, tmp_path: Path) -> None:
    fetch(f"{server.address}/model.pth", tmp_path)
    with pytest.raises(ValueError, match="should begin with 00000000"):
        fetch(f"{server.address}/model.pth#sha256=00000000", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pth", "the server said 404 Not Found"),
        ("cut.pth", f"ended after 100 of {len(CONTENT)} bytes|IncompleteRead"),
    ],
)
def test_what_went_wrong_is_said(name: str, message: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=message) as error:
        fetch(f"{server.address}/{name}", tmp_path)
    assert f"{server.address}/{name} could not be downloaded" in str(error.value)
    assert files(tmp_path) == []


def test_no_server_and_no_file(server: Server, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    with pytest.raises(OSError, match=r"refused.* is there a network\?"):
        fetch(f"http://127.0.0.1:{port}/model.pth", tmp_path)
    with pytest.raises(OSError, match=r"gone\.pth"):
        fetch((tmp_path / "gone.pth").as_uri(), tmp_path)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/model.pth", "data:text/plain,x", "https://host/", "model.pth", "C:/model.pth"],
)
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no address of a file"):
        fetch(url, tmp_path)


def test_other_fragments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected #sha256= and 8 to 64 hex digits"):
        fetch("https://host/model.pth#md5=00", tmp_path)


def test_paths_are_no_addresses() -> None:
    assert is_url("https://host/x.pth")
    assert is_url("file:///x.pth")
    assert not any(map(is_url, ["x.pth", "/a/x.pth", "C:\\x.pth", "timm:resnet18", "file"]))
