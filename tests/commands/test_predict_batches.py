"""``limbeck predict`` in batches, with workers, in other formats, and where it is killed."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torchvision.io import write_png

from limbeck.cli import main
from limbeck.commands import predict, predicted
from limbeck.data import Shapes
from limbeck.models import BasicBlocks, RetinaNet, save_student
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs

PROCESSES = multiprocessing.get_context("forkserver")


def images(count: int, folder: str = "images", size: int = 64) -> list[str]:
    Path(folder).mkdir()
    paths = [f"{folder}/{index}.png" for index in range(count)]
    for path, (image, _) in zip(paths, Shapes(count=count, size=size), strict=True):
        write_png(image, path)
    return paths


def results(output: str = "predictions") -> dict[str, list[dict[str, Any]]]:
    return json.loads(Path(output, "predictions.json").read_text())


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_batches_and_workers_find_the_same(runs: Runs) -> None:
    paths = images(5)
    words = (runs.taught / "student", "images", "--threshold", 0.1)
    tiny_recipes.limbeck("predict", *words)
    tiny_recipes.limbeck("predict", *words, "--output", "o", "--batch_size", 2, "--workers", 2)
    assert list(results()) == list(results("o")) == paths
    assert any(results().values())
    for alone, together in zip(results().values(), results("o").values(), strict=True):
        assert [each["class"] for each in alone] == [each["class"] for each in together]
        for one, other in zip(alone, together, strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=0.11)
            assert one["score"] == pytest.approx(other["score"], abs=2e-4)
    assert names("o") == names("predictions")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_of_a_batch_is_named_and_the_others_are_done(
    runs: Runs, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = images(3)
    Path("images/1a.png").write_bytes(Path(paths[0]).read_bytes()[:200])
    words = ("images", "--batch_size", 2, "--workers", workers)
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("predict", runs.taught / "student", *words)
    assert end.value.code == 1
    assert list(results()) == paths
    said = capsys.readouterr().err
    assert said.count("images/1a.png: not a readable image") == 1
    assert "1 of 4 images could not be read" in said


def test_an_image_that_the_model_refuses_spoils_no_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = BasicBlocks(**tiny_models.BLOCKS)
    student = RetinaNet(network, 1, levels=(2, 3), fpn_channels=8, head_depth=1, max_size=100)
    save_student(student.eval(), "exported", classes=["a"])
    Path("images").mkdir()
    for name, size in {"a.png": (30, 30), "b.png": (150, 1), "c.png": (30, 20)}.items():
        PIL.Image.new("RGB", size).save(f"images/{name}")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", "exported", "images", "--batch_size", 3)
    assert list(results()) == ["images/a.png", "images/c.png"]
    said = capsys.readouterr().err
    assert "images/b.png: images[0] is (3, 1, 150), of which resizing leaves no pixel" in said
    assert "1 of 3 images could not be read" in said


def test_pictures_are_jpegs_where_that_is_asked_for(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    images(2)
    words = (runs.taught / "student", "images", "--picture_format", "jpeg")
    for threshold in (1.0, 0.1):
        tiny_recipes.limbeck("predict", *words, "--threshold", threshold)
        assert names("predictions") == ["0.jpg", "1.jpg", "predictions.json"]
        with PIL.Image.open("predictions/0.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (64, 64))
    PIL.Image.new("RGB", (64, 64)).save("predictions/1.jpg")
    mine = Path("predictions/1.jpg").read_bytes()
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", *words)
    assert "predictions/1.jpg is there, and is no result of" in capsys.readouterr().err
    assert Path("predictions/1.jpg").read_bytes() == mine


def test_images_of_a_classifier_may_be_named_twice_and_differ_in_size() -> None:
    save_student(tiny_models.classifier().eval(), "exported", classes=list("abcde"))
    Path("images").mkdir()
    for name, size in {"a.png": (40, 30), "b.png": (30, 40), "c.png": (40, 30)}.items():
        PIL.Image.effect_noise(size, 60).save(f"images/{name}")
    tiny_recipes.limbeck("predict", "exported", "images")
    words = ("exported", "images", "images/b.png", "--batch_size", 4, "--output", "o")
    tiny_recipes.limbeck("predict", *words)
    assert results("o") == results()
    assert Path("o/predictions.json").read_text().count("images/b.png") == 1


def killed_at_the_fourth_picture(folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    draw, drawn = predicted.detection_picture, []

    def draw_or_die(*arguments: Any) -> None:
        drawn.append(arguments)
        if len(drawn) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        draw(*arguments)

    predicted.detection_picture = draw_or_die
    main(words)


def test_a_kill_loses_the_batch_at_hand(runs: Runs) -> None:
    paths = images(6)
    words = ["predict", str(runs.taught / "student"), "images", "--threshold", "0.1"]
    arguments = (Path.cwd(), [*words, "--batch_size", "2", "--output", "o"])
    process = PROCESSES.Process(target=killed_at_the_fourth_picture, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(results("o")) == paths[:2]
    tiny_recipes.limbeck(*words, "--batch_size", 2, "--output", "o")
    assert list(results("o")) == paths


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch_size", 0), "--batch_size is 0; expected a number: 1 or more"),
        (("--workers", -1), "--workers is -1; expected a number: 0 or more"),
        (("--device", "nowhere:1"), "--device nowhere:1: this machine has cpu"),
        (("--picture_format", "gif"), "picture_format"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_is_written(
    runs: Runs, words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images(1)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", runs.taught / "student", "images", *words)
    assert message in capsys.readouterr().err
    assert not Path("predictions").exists()


def test_a_batch_that_the_memory_cannot_hold_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    images(2)
    monkeypatch.setattr(predict, "detect", fail)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", runs.taught / "student", "images", "--batch_size", 2)
    said = capsys.readouterr().err
    assert "2 images at once do not fit into the memory of cpu" in said
    assert "Give a smaller --batch_size" in said
