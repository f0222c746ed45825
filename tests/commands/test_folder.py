import os
from pathlib import Path

import lightning.pytorch as L
import pytest

from limbeck.commands.folder import LOCK, held_alone, remove_parts
from limbeck.training.callbacks import NonFiniteLossError
from tests.commands import processes, tiny_recipes


def test_a_folder_is_held_by_one_process_and_by_none_that_was_killed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with (
        processes.holder_of(root) as other,
        pytest.raises(BlockingIOError, match=f"trained in by process {other} on "),
        held_alone(root),
    ):
        pass
    with held_alone(root):
        assert (root / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not list(root.iterdir())
    root.rmdir()
    with held_alone(root / "a" / "b"):
        pass
    assert not root.exists()  # it was made for the lock alone
    with held_alone(root / "a" / "b"):
        (root / "a" / "row").touch()
    assert [path.name for path in root.rglob("*")] == ["a", "row"]


def test_a_folder_that_cannot_be_locked_is_used_without(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with held_alone(tmp_path):
        pass
    assert (tmp_path / LOCK).is_dir()


def test_what_a_killed_process_did_not_finish_is_removed(tmp_path: Path) -> None:
    for name in ("metrics.csv", "config.yaml.part", "checkpoints/last.ckpt.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["metrics.csv"]


NOWHERE = {"class_path": "limbeck.data.ImageFolder", "init_args": {"root": "nowhere"}}
RECIPES = {
    "sound": {},
    "bad_value": {"model": {"optimizer": {"lr": -1.0}}},
    "no_data": {"data": {"train": NOWHERE, "val": NOWHERE}},
    "late": {"trainer": {"callbacks": [{"class_path": "tests.commands.test_folder.Refuse"}]}},
}


class Refuse(L.Callback):
    """Finds at the first batch that nothing can be trained."""

    def on_train_batch_start(self, *_: object) -> None:
        raise NonFiniteLossError("nothing can be trained")


REFUSED = (
    "fit --config bad_value.yaml",
    "fit --config no_data.yaml",
    "fit --config late.yaml",
    "fit --config no_data.yaml --trainer.default_root_dir a/b/c",
    "fit --config late.yaml --trainer.default_root_dir a/b/c",
    "fit --config sound.yaml --trainer.default_root_dir a/b --ckpt_path none.ckpt",
    "fit --config late.yaml --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath=a/b",
    "fit --resume a/b",
    "validate --config no_data.yaml --detections a/b",
    "validate --config sound.yaml --detections a/b",
    "predict a/student a/b.png --output c/d",
    "convert a.pth b/c.pth",
    "inspect none.yaml --picture a/b.png",
    "anchors no_data.yaml",
    "recipes copy none",
    "quickstart --output a/b --seed -1",
)


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_leaves_no_folder(words: str) -> None:
    for name, changed in RECIPES.items():
        recipe = tiny_recipes.plain(max_epochs=1)
        for part, values in changed.items():
            recipe[part] |= values
        tiny_recipes.write(Path(), name, recipe)
    before = set(Path().rglob("*"))
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck(*words.split())
    assert end.value.code
    assert set(Path().rglob("*")) == before
