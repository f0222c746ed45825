"""``limbeck push``, to a stand-in of the hub that keeps what it is sent as the hub's cache does."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx2
import huggingface_hub.constants
import PIL.Image
import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError

from limbeck.cli import main
from limbeck.commands import push
from limbeck.commands.errors import is_ours
from limbeck.commands.model_card import without_places, write_card
from limbeck.models import load_student, save_student
from tests import tiny_models
from tests.hubs import keep_in_cache

CLASSES = ["helmet", "/m/head", "a|b", "four", "five"]
NAME = "me/tiny"


class Hub:
    """What the hub is sent."""

    def __init__(self) -> None:
        self.made: dict[str, object] = {}
        self.files: dict[str, bytes] = {}

    def __call__(self, **_: object) -> "Hub":
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        self.made[name] = private

    def create_commit(self, name: str, operations: list[Any], commit_message: str) -> Any:
        for each in operations:
            with each.as_file() as file:
                self.files[each.path_in_repo] = file.read()
        return SimpleNamespace(commit_url=f"https://huggingface.co/{name}/commit/0")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub()
    monkeypatch.setattr(push, "HfApi", found)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a student, in that of a comparison, with what is nobody else's business."""
    folder = tmp_path / "runs" / "kd_0" / "student"
    home = str(tmp_path / "my data" / "train")
    metadata = {"task": "detection", "augmentation": None, "data": home}
    save_student(tiny_models.detector().eval(), folder, classes=CLASSES, metadata=metadata)
    (folder / "notes.txt").write_text("private")
    findings = {
        "title": "helmets",
        "headline": "AP",
        "rows": [
            row("plain", "plain", "plain_0", {"AP": 0.4, "AP50": 0.6}),
            row("KD", "distilled", "kd_0", {"AP": 0.43, "AP50": 0.7}),
        ],
        "contrasts": [
            {
                "row": "KD",
                "control": "plain",
                "mean": 0.03,
                "over_images": [0.01, 0.05],
                "over_seeds": None,
                "verdict": "INCONCLUSIVE",
            }
        ],
        "rule": "BEATS: both intervals lie above 0.",
        "cautions": ["There is one seed."],
        "provenance": {
            f"sha256 of {home}": "ab12",
            "licence of the teacher's weights": "Apache-2.0",
        },
    }
    Path("report.json").write_text(json.dumps({"findings": findings}))
    return folder


def row(name: str, kind: str, folder: str, scores: dict[str, float]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "runs": [run_of(folder, scores)]}


def run_of(folder: str, scores: dict[str, float]) -> dict[str, Any]:
    return {"seed": 0, "folder": f"runs/{folder}", "scores": scores}


def test_what_is_pushed_is_loaded_from_the_hub_s_cache(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["push", str(run), NAME, "--report", "report.json", "--licence", "apache-2.0"]
    main(words)
    assert hub.made == {NAME: True}
    assert set(hub.files) == {"README.md", "student.json", "student.safetensors"}
    for content in hub.files.values():
        assert str(tmp_path).encode() not in content
        assert b"my data" not in content
    assert json.loads(hub.files["student.json"])["classes"] == CLASSES
    keep_in_cache(monkeypatch, tmp_path / "cache", NAME, hub.files)
    model, again = load_student(run), load_student(f"hf:{NAME}")
    assert again.classes == tuple(CLASSES)
    for one, other in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    PIL.Image.new("RGB", (64, 64)).save("image.png")
    main(["predict", f"hf:{NAME}", "image.png"])
    assert Path("predictions/predictions.json").is_file()


def test_the_card_says_how_good_the_student_is_and_how_it_is_loaded(hub: Hub, run: Path) -> None:
    push.push(run, NAME, report=Path("report.json"), licence="apache-2.0", public=True)
    assert hub.made == {NAME: False}
    card = ModelCard(hub.files["README.md"].decode())
    data = card.data
    assert (data.license, data.library_name) == ("apache-2.0", "limbeck")
    assert data.pipeline_tag == "object-detection"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("AP", 0.43, "helmets")
    assert result.dataset_args == {"sha256 of train": "ab12"}
    for said in (
        "seed 0: AP 0.430, AP50 0.700",
        "| plain | +0.030 | +0.010 to +0.050 | - | INCONCLUSIVE |",
        "**Caution:** There is one seed.",
        "licence of the teacher's weights: Apache-2.0",
        'load_student("hf:me/tiny")',
        "What builds this network without limbeck is not known.",
        r"a\|b",
    ):
        assert said in card.text


def test_the_card_says_how_another_library_loads_the_student() -> None:
    said = {
        "build": {"class_path": "limbeck.models.Classifier"},
        "versions": {"limbeck": "1.0"},
        "input": {"images": "RGB"},
        "licence": "bsd-3-clause",
        "without_limbeck": "import torchvision\nmodel = torchvision.models.resnet18()\n",
    }
    card = write_card(NAME, said, "classification", None, None)
    assert "pipeline_tag: image-classification" in card
    assert "```python\nimport torchvision\nmodel = torchvision.models.resnet18()\n```" in card
    assert "`hf download me/tiny`" in card
    assert "weights whose licence is: bsd-3-clause" in card


def test_a_report_that_is_not_there_is_refused(hub: Hub, run: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"typo\.json is not a file"):
        push.push(run, NAME, Path("typo.json"))


def test_a_score_that_is_not_defined_is_a_dash(hub: Hub, run: Path) -> None:
    report = json.loads(Path("report.json").read_text())
    for each in report["findings"]["rows"]:
        del each["runs"][0]["scores"]["AP"]
    Path("report.json").write_text(json.dumps(report))
    push.push(run, NAME, Path("report.json"))
    card = hub.files["README.md"].decode()
    assert "| KD | distilled | - |" in card
    assert "model-index" not in card


@pytest.mark.parametrize("key", ["versions", "input"])
@pytest.mark.parametrize("said", [None, "odd", {}, {"limbeck": 1, "images": ["odd"]}])
def test_a_card_that_says_less_is_pushed(hub: Hub, run: Path, key: str, said: object) -> None:
    stated = json.loads((run / "student.json").read_text())
    del stated[key]
    (run / "student.json").write_text(json.dumps(stated | ({key: said} if said else {})))
    push.push(run, NAME)
    card = hub.files["README.md"].decode()
    assert ("Images are RGB, float, 0 to 1." in card) == (key == "versions")
    assert ("exported with limbeck." in card) == (key == "versions")


def test_the_card_is_shown_before_anything_is_pushed(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["push", str(run), NAME, "--dry-run"])
    told = capsys.readouterr()
    assert hub.made == {}
    assert hub.files == {}
    head = yaml.safe_load(told.out.partition("---\n")[2].partition("---\n")[0])
    assert head["pipeline_tag"] == "object-detection"
    assert "model-index" not in head
    assert "student.safetensors (" in told.out
    assert "Not pushed, as they are no files of a student: notes.txt" in told.err
    assert "No licence is stated" in told.err


def test_what_cannot_be_pushed_is_refused(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'tiny' is no name on the hub; expected owner/name"):
        push.push(run, "tiny")
    other = tmp_path / "other"
    save_student(tiny_models.detector().eval(), other)
    with pytest.raises(ValueError, match=r"has no run whose student is .*other; its runs are in"):
        push.push(other, NAME, report=Path("report.json"))
    Path("odd.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"odd\.json is no report of a comparison"):
        push.push(run, NAME, report=Path("odd.json"))
    assert hub.made == {}

    def refuse(*_: object, **__: object) -> None:
        request = httpx2.Request("POST", "https://huggingface.co")
        raise HfHubHTTPError("401 Unauthorized", response=httpx2.Response(401, request=request))

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(PermissionError, match=r"me/tiny: the hub refuses \(401.* `hf auth login`"):
        push.push(run, NAME)


def test_a_hub_that_is_not_reached_is_told(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Error while uploading 'student.safetensors' to the Hub.")

    monkeypatch.setattr(hub, "create_commit", broken)
    with pytest.raises(ConnectionError, match=r"the connection broke off \(Error while uploading"):
        push.push(run, NAME)
    # Nobody listens at port 9.
    monkeypatch.setattr(push, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9", token="none"))
    with pytest.raises(ConnectionError, match="me/tiny: the hub is not reached") as it:
        push.push(run, NAME)
    assert is_ours(it.value)  # which the user is told without a traceback
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="me/tiny: the hub is not reached"):
        push.push(run, NAME)


class Answers(BaseHTTPRequestHandler):
    """What the hub answers to whoever makes a repository and puts files into it."""

    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        """Note what is asked, and answer as the hub does."""
        lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
        said = [json.loads(line) for line in lines]
        self.asked.append((self.path, said))
        answer: dict[str, Any] = {"url": "https://huggingface.co/me/tiny", "id": NAME}
        if "/preupload/" in self.path:
            files = [{"path": each["path"], "uploadMode": "regular"} for each in said[0]["files"]]
            answer = {"files": [each | {"shouldIgnore": False} for each in files]}
        elif "/commit/" in self.path:
            answer = {"commitUrl": "https://huggingface.co/me/tiny/commit/1", "commitOid": "1"}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_hub_s_own_client_is_called_as_it_asks_to_be(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", here)
        monkeypatch.setattr(push, "HfApi", partial(HfApi, endpoint=here, token="hf_none"))
        push.push(run, NAME, licence="mit")
        server.shutdown()
    (made, (repository,)), *_, (committed, operations) = Answers.asked
    assert made == "/api/repos/create"
    assert (repository["name"], repository["organization"]) == ("tiny", "me")
    assert committed == f"/api/models/{NAME}/commit/main"
    names = {each["value"]["path"] for each in operations if each["key"] == "file"}
    assert names == {"README.md", "student.json", "student.safetensors"}
    assert "https://huggingface.co/me/tiny/commit/1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/me/my photos/train", "train"),
        ("sha256 of /home/me/x", "sha256 of x"),
        (r"C:\Users\me\x.pth", "x.pth"),
        ("~/runs/a", "a"),
        ("owner/name", "owner/name"),
        (
            "x = (images - mean) / std\ny = x/2 + (x)/3",
            "x = (images - mean) / std\ny = x/2 + (x)/3",
        ),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ({"/home/me/x": ["/home/me/y", 3]}, {"x": ["y", 3]}),
        ({"/a/x": 1, "/b/x": 2, "x": 3}, {"x (2)": 1, "x (3)": 2, "x": 3}),
        ({"classes": ["/m/head"], "data": "/m/head"}, {"classes": ["/m/head"], "data": "head"}),
        ({"classes": "/home/me/names.txt"}, {"classes": "names.txt"}),
        ("mmdetection:/home/me/x.pth", "mmdetection:x.pth"),
        ("mmdetection:/home/me/my own nets/x.pth", "mmdetection:x.pth"),
        (r"mmdetection:C:\Users\me\x.pth", "mmdetection:x.pth"),
        ("it began with transformers:~/net/a, b/c", "it began with transformers:a, b/c"),
        ("file:///home/me/x", "x"),
        ("see file://server/me/x", "see x"),
        ("//server/share/me/x", "x"),
        (r"\\server\share\me\x", "x"),
        (r"of 'C:\\Users\\me\\x.pth'", "of 'x.pth'"),
        ("~me/runs/a", "a"),
        ("/home/me/my own photos/train", "train"),
        ("sha256 of /home/me/my photos/train", "sha256 of train"),
        ("see /home/me/a and b/c d", "see a and b/c d"),
        ("see /home/me/a, b/c and /home/me/d: 1/2", "see a, b/c and d: 1/2"),
        ('open("/home/me/a"), "b/c"', 'open("a"), "b/c"'),
        ("copy /home/me/a /home/me/b", "copy a b"),
        ("open-mmlab://resnet50/a and s3://me/b", "open-mmlab://resnet50/a and s3://me/b"),
        ("http://localhost:8080/a/b", "http://localhost:8080/a/b"),
    ],
)
def test_of_places_on_a_disk_the_last_part_is_left(before: Any, after: Any) -> None:
    assert without_places(before) == after
