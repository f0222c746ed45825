from pathlib import Path

import pytest
import torch

from limbeck.models import Classifier, hub, load_student, save_student
from limbeck.models.hub import fetched
from tests import tiny_models
from tests.hubs import REVISION, files_in, keep_in_cache

NAME = "me/tiny"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier in the cache of the hub."""
    save_student(tiny_models.classifier(seed=3), tmp_path / "student")
    files = files_in(tmp_path / "student")
    return keep_in_cache(monkeypatch, tmp_path / "cache", NAME, files)


@pytest.mark.parametrize("revision", ["", "@main", f"@{REVISION}"])
def test_weights_are_those_of_a_student_on_the_hub(snapshot: Path, revision: str) -> None:
    expected = tiny_models.classifier(seed=3).state_dict()
    arguments = tiny_models.classifier().arguments
    model = Classifier(
        tiny_models.BasicBlocks(**tiny_models.BLOCKS),
        arguments["num_classes"],
        weights=f"hf:{NAME}{revision}",
    )
    assert all(torch.equal(model.state_dict()[name], each) for name, each in expected.items())


def test_all_files_are_of_the_commit_that_the_first_one_is_of(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, name: str, revision: str | None) -> str:
        asked.append((name, revision))
        return str(snapshot / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert fetched(f"hf:{NAME}@main", ("student.json", "student.safetensors")) == snapshot
    assert asked == [("student.json", "main"), ("student.safetensors", REVISION)]


def test_a_student_that_is_not_there_is_told(snapshot: Path) -> None:
    for name in ("hf:me/other", f"hf:{NAME}@v2"):
        with pytest.raises(FileNotFoundError, match=f"{name}: student.json, .* `limbeck push` has"):
            load_student(name)


@pytest.mark.parametrize("name", ["hf:tiny", "hf:me/tiny/x", "hf:me/../x", "hf:", "hf:me/ti ny"])
def test_what_is_no_name_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=r"no name on|cannot be fetch"):
        fetched(name, ("student.json",))


def test_the_cache_s_own_links_are_followed_and_no_others(snapshot: Path, tmp_path: Path) -> None:
    load_student(snapshot)
    card = snapshot / "student.json"
    (tmp_path / "elsewhere.json").write_bytes(card.read_bytes())
    card.unlink()
    card.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match=r"student\.json is a link to .*elsewhere\.json, outside"):
        load_student(snapshot)
