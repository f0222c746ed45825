import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from limbeck.methods import FitNet, Step
from limbeck.report.style import described
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs


class Unseen(FitNet):
    """Has no picture."""

    def picture(self, step: Step) -> None: ...


def imitated(runs: Runs, folder: Path) -> Path:
    """A recipe that is laid over the plain one, with the exported teacher."""
    recipe = tiny_recipes.taught(runs.teacher / "student")
    imitation = {"class_path": "limbeck.methods.FineGrainedImitation", "init_args": {"factor": 0.6}}
    recipe["model"]["methods"] = {"near": imitation}
    return tiny_recipes.write(folder, "imitated", recipe)


def test_the_imitation_mask_is_drawn(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = imitated(runs, tmp_path)
    picture = tmp_path / "there" / "masks.png"
    words = ("--method", "near", "--picture", picture, "--images", 2)
    tiny_recipes.limbeck("inspect", runs.recipe("plain"), over, *words)
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = re.findall(r"(maps.*): (.*) % of the area, mean of 8", capsys.readouterr().err)
    assert [name for name, _ in told] == ["maps.0, stride 8", "maps.1, stride 16"]
    assert all(0 < float(share) < 100 for _, share in told)
    tiny_recipes.limbeck("inspect", runs.recipe("plain"), over, *words)  # its own is replaced


@pytest.mark.parametrize(
    ("recipes", "method", "message"),
    [
        (("plain", "unseen"), "fitnet", "Unseen has nothing that could be drawn"),
        (("plain", "taught"), "near", "these recipes have fitnet. Name one"),
        (("plain",), "near", "these recipes have no methods. Name one"),
    ],
)
def test_what_cannot_be_drawn(
    recipes: tuple[str, ...],
    method: str,
    message: str,
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unseen = tiny_recipes.taught(runs.teacher / "student")
    unseen["model"]["methods"]["fitnet"]["class_path"] = f"{__name__}.Unseen"
    tiny_recipes.write(runs.recipe("plain").parent, "unseen", unseen)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("inspect", *map(runs.recipe, recipes), "--method", method)
    assert message in capsys.readouterr().err
    assert not Path("method.png").exists()


def test_a_file_of_others_is_not_replaced(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "photograph.png"
    PIL.Image.new("RGB", (8, 8)).save(picture)
    before = picture.read_bytes()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(
            "inspect", runs.recipe("plain"), "--method", "near", "--picture", picture
        )
    assert "photograph.png is there, and is no PNG that" in capsys.readouterr().err
    assert picture.read_bytes() == before


@pytest.mark.slow
def test_a_number_of_batches_is_a_whole_number_in_a_process_of_its_own(
    runs: Runs, tmp_path: Path
) -> None:
    words = (runs.recipe("plain"), imitated(runs, tmp_path), "--method", "near", "--images", "1")
    few = tiny_recipes.write(tmp_path, "few", {"trainer": {"limit_train_batches": 8}})
    called = [sys.executable, "-m", "limbeck", "inspect", *map(str, (few, *words))]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_method_is_drawn_as_a_checkpoint_has_it(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = tiny_recipes.taught(runs.teacher / "student")
    arguments = {"places": ["P3"], "images": 8, "transform": "training"}
    recipe["model"]["methods"] = {
        "mgd": {"class_path": "limbeck.methods.MGD", "init_args": arguments}
    }
    over = tiny_recipes.write(tmp_path, "matched", recipe)
    words = ("inspect", runs.recipe("plain"), over, "--method", "mgd", "--picture", "flow.png")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck(*words)
    assert not Path("flow.png").exists()
    tiny_recipes.fit(tiny_recipes.plain(max_steps=1), recipe)
    tiny_recipes.limbeck(*words, "--checkpoint", tiny_recipes.RUN / "checkpoints/last.ckpt")
    seen = described(Path("flow.png"))
    assert "found on 8 images" in seen
    assert re.search(r"P3: -?\d\.\d\d in the mean of the dots, -?\d\.\d\d of all pairs", seen)


def test_what_a_method_sees_of_a_classifiers_images_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch of a classifier is one tensor, without objects."""

    def classifier(width: int) -> tiny_recipes.Recipe:
        network = {"depths": [1, 1], "widths": [width, 8], "stem_stride": 1}
        given = {"network": network, "num_classes": 5}
        return {"class_path": "limbeck.models.Classifier", "init_args": given}

    attention = {"class_path": "limbeck.methods.AT", "init_args": {"places": ["C0", "C1"]}}
    images = tiny_recipes.shapes(8, 0, "classification")
    recipe: tiny_recipes.Recipe = {
        "model": {
            "student": classifier(4),
            "teacher": classifier(8),
            "methods": {"at": attention},
        },
        "data": {"train": images, "val": images, "batch_size": 4, "workers": 0},
    }
    path = tiny_recipes.write(tmp_path, "classifiers", recipe)
    picture = tmp_path / "at.png"
    tiny_recipes.limbeck("inspect", path, "--method", "at", "--picture", picture, "--images", 2)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "C1, teacher: " in capsys.readouterr().err
