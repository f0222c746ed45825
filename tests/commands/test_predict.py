import json
import os
from dataclasses import asdict
from pathlib import Path

import PIL.Image
import pytest
import torch
from torchvision.io import decode_image, write_jpeg, write_png
from torchvision.transforms.v2.functional import to_dtype

from limbeck.commands.inputs import image_files_of, inputs_of
from limbeck.commands.label import images_of
from limbeck.commands.results import picture_files
from limbeck.commands.students import evaluation_transform, student_of
from limbeck.commands.video import shown_name
from limbeck.data import (
    ClassificationAugmentation,
    DetectionAugmentation,
    Shapes,
    ShuffleDetAugmentation,
)
from limbeck.data.loading import scaled
from limbeck.models import BasicBlocks, Classifier, RetinaNet, card, load_student, save_student
from tests import tiny_models
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs

SAVED = Path("exported")


def pictures(count: int = 2, **options: object) -> list[Path]:
    """PNG files in the folder ``images``."""
    Path("images").mkdir()
    data = Shapes(count=count, **options)
    paths = [Path("images", f"{index}.png") for index in range(count)]
    for path, (image, _) in zip(paths, data, strict=False):
        write_png(image, str(path))
    return paths


def results(output: str = "predictions") -> dict[str, list[dict[str, object]]]:
    return json.loads(Path(output, "predictions.json").read_text())


def test_detections_are_the_model_s_at_or_above_the_threshold(runs: Runs) -> None:
    paths = pictures(size=64)
    model = load_student(runs.taught / "student")
    images = [to_dtype(decode_image(str(path)), torch.float32, scale=True) for path in paths]
    with torch.inference_mode():
        expected = [model([image])[0] for image in images]
    scores = torch.cat([found["scores"] for found in expected])
    threshold = scores.median().item()
    assert scores.min() < threshold < scores.max()
    tiny_recipes.limbeck("predict", runs.taught / "student", *paths, "--threshold", threshold)
    found = results()
    assert list(found) == [str(path) for path in paths]
    for path, truth in zip(paths, expected, strict=True):
        kept = (truth["scores"] >= threshold) & (truth["labels"] > 0)
        names = [model.classes[label - 1] for label in truth["labels"][kept].tolist()]
        assert [d["class"] for d in found[str(path)]] == names
        boxes = torch.tensor([d["box"] for d in found[str(path)]]).view(-1, 4)
        assert torch.allclose(boxes, truth["boxes"][kept], atol=0.06)
        picture = decode_image(f"predictions/{path.name}", "RGB")
        assert picture.shape == (3, 64, 64)
        assert torch.equal(picture, decode_image(str(path))) == (not names)


def test_without_a_detection_the_picture_is_the_image(runs: Runs) -> None:
    (path,) = pictures(1, size=64)
    tiny_recipes.limbeck(
        "predict", runs.taught / "student", "images", "--threshold", 1.0, "--output", "o"
    )
    assert results("o") == {str(path): []}
    assert torch.equal(decode_image("o/0.png", "RGB"), decode_image(str(path)))


def save_classifier(metadata: dict[str, object]) -> Classifier:
    torch.manual_seed(0)
    model = Classifier("resnet18", 3).eval()
    save_student(model, SAVED, classes=["a", "b", "c"], metadata=metadata)
    return model


def test_a_classifier_sees_what_it_was_measured_on() -> None:
    """Also by a card of before, which has the arguments alone."""
    augmentation = {"size": 48, "scale": [0.5, 1.0], "flip": 0.5, "jitter": 0.0, "resize": 60}
    model = save_classifier({"task": "classification", "augmentation": augmentation})
    Path("images").mkdir()
    image = Shapes("classification", size=96, count=1)[0][0][:, :70]  # not square
    write_png(image, "images/0.png")
    tiny_recipes.limbeck("predict", SAVED, "images")
    seen = scaled(ClassificationAugmentation(size=48, resize=60).evaluation()(image))
    assert seen.shape == (3, 48, 48)
    with torch.inference_mode():
        scores = model(seen[None])[0].softmax(0)
    order = scores.argsort(descending=True).tolist()
    (found,) = results().values()
    assert [d["class"] for d in found] == ["abc"[i] for i in order]
    assert [d["score"] for d in found] == pytest.approx(scores[order].tolist(), abs=1e-4)
    assert {path.name for path in Path("predictions").iterdir()} == {"predictions.json"}


def test_an_augmentation_of_others_is_built_on_trust_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = {"class_path": "no_package.GreyImages", "init_args": {"flip": 0.5}}
    save_classifier({"task": "classification", "augmentation": entry})
    (path,) = pictures(1, size=70)
    for words, message in (
        ((), "no_package.GreyImages, which is not limbeck's own. Building it runs its code: pass"),
        (("--trust", "true"), "no_package.GreyImages, which cannot be imported"),
    ):
        with pytest.raises(SystemExit) as end:
            tiny_recipes.limbeck("predict", SAVED, path, *words)
        assert end.value.code == 1
        assert message in capsys.readouterr().err
    assert not Path("predictions").exists()


@pytest.mark.parametrize(
    "augmentation", [ShuffleDetAugmentation(), DetectionAugmentation(sizes=((32, 32), (64, 64)))]
)
def test_a_detector_sees_what_it_was_measured_on(
    augmentation: ShuffleDetAugmentation | DetectionAugmentation,
) -> None:
    metadata = {"task": "detection", "augmentation": asdict(augmentation)}
    image, target = Shapes(size=96, count=1)[0]
    seen = evaluation_transform(json.loads(json.dumps(metadata)))(image)
    assert seen.dtype is torch.uint8  # a quarter of the bytes on the way from a worker
    assert torch.equal(seen, augmentation.evaluation()(image, target)[0])


def test_a_classifier_of_which_nothing_is_known_sees_the_image_as_it_is() -> None:
    model = save_classifier({})
    (path,) = pictures(1, size=70)
    tiny_recipes.limbeck("predict", SAVED, path)
    image = to_dtype(decode_image(str(path)), torch.float32, scale=True)
    with torch.inference_mode():
        score = model(image[None])[0].softmax(0).max().item()
    assert results()[str(path)][0]["score"] == pytest.approx(score, abs=1e-4)


def test_a_run_s_classifier_predicts_on_its_own_data() -> None:
    path = tiny_recipes.write(Path("recipes"), "classes", tiny_recipes.classifier())
    tiny_recipes.limbeck("fit", "--config", path)
    pictures(3, size=80)
    tiny_recipes.limbeck("predict", "runs/recipes/classes/student", "images")
    for found in results().values():
        assert {d["class"] for d in found} == set(Shapes(count=1).classes)
        assert sum(d["score"] for d in found) == pytest.approx(1, abs=1e-3)


def test_images_are_decoded_as_the_datasets_decode_them(runs: Runs) -> None:
    Path("images").mkdir()
    image = Shapes(size=64, count=1)[0][0]
    write_jpeg(image, "images/colour.jpg")
    PIL.Image.open("images/colour.jpg").convert("P").save("images/palette.gif")
    PIL.Image.new("L", (64, 64)).save("images/grey.png")
    Path("images/notes.txt").write_text("no image")
    tiny_recipes.limbeck("predict", runs.taught / "student", "images")
    assert [Path(name).name for name in results()] == ["colour.jpg", "grey.png", "palette.gif"]


def test_what_is_no_image_is_refused_by_name(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("broken.png").write_text("no image")
    Path("a").mkdir()
    Path("b").mkdir()
    for folder in ("a", "b"):
        PIL.Image.new("RGB", (64, 64)).save(f"{folder}/same.png")
    for words, message in (
        (["empty"], "no image in empty"),
        (["broken.png"], "broken.png: not a readable image"),
        (["a", "b"], "2 images are called 'same'"),
    ):
        with pytest.raises(SystemExit) as end:
            tiny_recipes.limbeck("predict", runs.taught / "student", *words)
        assert end.value.code == 1
        assert message in capsys.readouterr().err


def test_a_folder_without_a_student_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pictures(1)
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", "nowhere", "images")
    assert "nowhere holds no student" in capsys.readouterr().err


def test_a_photograph_is_seen_upright(runs: Runs) -> None:
    image, _ = Shapes(count=1, size=64)[0]
    upright = PIL.Image.fromarray(image[:, :48].permute(1, 2, 0).numpy())  # 64 wide, 48 high
    upright.save("upright.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    upright.rotate(90, expand=True).save("turned.png", exif=exif)
    words = ("upright.png", "turned.png", "--threshold", 0.0)
    tiny_recipes.limbeck("predict", runs.taught / "student", *words)
    found = results()
    assert found["upright.png"]
    assert found["upright.png"] == found["turned.png"]


def test_an_unreadable_image_is_named_and_the_others_are_done(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = pictures(size=64)
    Path("images/broken.png").write_bytes(paths[0].read_bytes()[:200])
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("predict", runs.taught / "student", "images")
    assert end.value.code == 1
    assert list(results()) == [str(path) for path in paths]
    said = capsys.readouterr().err
    assert "images/broken.png: not a readable image" in said
    assert "1 of 3 images could not be read" in said


def test_a_picture_of_which_resizing_leaves_nothing_is_named_and_the_others_are_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = BasicBlocks(**tiny_models.BLOCKS)
    student = RetinaNet(network, 1, levels=(2, 3), fpn_channels=8, head_depth=1, max_size=100)
    save_student(student.eval(), SAVED, classes=["a"])
    Path("images").mkdir()
    for name, size in {"a.png": (150, 1), "b.png": (1, 150), "c.png": (1, 1)}.items():
        PIL.Image.new("RGB", size).save(f"images/{name}")
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("predict", SAVED, "images")
    assert list(results()) == ["images/c.png"]
    said = capsys.readouterr().err
    assert "images/a.png: images[0] is (3, 1, 150), of which resizing leaves no pixel" in said
    assert "sides of less than 100 : 1" in said
    assert "2 of 3 images could not be read" in said


def photographs(folder: str = "pictures", suffix: str = "png") -> dict[Path, bytes]:
    """Two images with what is in their files."""
    Path(folder).mkdir()
    for index, name in enumerate("ab"):
        path = Path(folder, f"{name}.{suffix}")
        PIL.Image.new("RGB", (64, 64), (9, 9 + index, 9)).save(path)
    return {path: path.read_bytes() for path in Path(folder).iterdir()}


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def assert_refused(capsys: pytest.CaptureFixture[str], message: str, *words: object) -> None:
    before = contents()
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("predict", *words)
    assert end.value.code == 1
    assert message in capsys.readouterr().err
    assert contents() == before


def test_an_output_that_would_replace_an_image_is_refused(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs()
    for folder in ("other", "linked"):
        Path(folder).mkdir()
    Path("link").symlink_to("pictures")
    os.link("pictures/a.png", "linked/a.png")
    student = runs.taught / "student"
    for output in ("pictures", "other/../pictures", "link", Path("pictures").absolute(), "linked"):
        words = (student, "pictures", "--output", output)
        assert_refused(capsys, "would replace the image pictures/a.png", *words)
    words = (student, "link/b.png", "--output", "pictures")
    assert_refused(capsys, "would replace the image link/b.png", *words)


def test_nothing_is_replaced_on_disks_that_ignore_case(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(suffix="PNG")
    words = (runs.taught / "student", "pictures", "--output", "pictures")
    assert_refused(capsys, "would replace the image pictures/a.PNG", *words)


def test_a_file_that_is_no_result_is_not_replaced(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs()
    Path("out").mkdir()
    words = (runs.taught / "student", "pictures", "--output", "out")
    for name, content in (
        ("a.png", Path("pictures/b.png").read_bytes()),
        ("a.png", b"no image"),
        ("predictions.json", b'{"mine": [1, 2]}'),
        ("predictions.json", b"notes"),
    ):
        path = Path("out", name)
        path.write_bytes(content)
        assert_refused(capsys, f"out/{name} is there, and is no result of", *words)
        path.unlink()
    Path("out/b.png").symlink_to(Path("elsewhere.png").absolute())
    assert_refused(capsys, "out/b.png is there, and is no result of", *words)


def test_results_of_an_earlier_call_are_replaced(runs: Runs) -> None:
    pictures(size=64)
    words = (runs.taught / "student", "images", "--output", "out", "--threshold")
    for threshold, found in ((1.0, False), (0.0, True)):
        tiny_recipes.limbeck("predict", *words, threshold)
        assert [bool(each) for each in results("out").values()] == [found] * 2


def test_pictures_may_stand_beside_images_of_another_format(runs: Runs) -> None:
    before = photographs(suffix="jpg")
    tiny_recipes.limbeck("predict", runs.taught / "student", "pictures", "--output", "pictures")
    assert {path: path.read_bytes() for path in before} == before
    assert Path("pictures/a.png").is_file()


def test_names_that_some_disks_take_for_one_give_two_pictures() -> None:
    paths = [Path("a.jpg"), Path("A.jpg")]
    first, second = picture_files(paths, Path("out")).values()
    assert first == Path("out/a.png")
    assert second.parent == Path("out")
    assert second.name.casefold() != "a.png"


def test_a_folder_that_cannot_be_written_is_named(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs()
    Path("file").touch()
    words = (runs.taught / "student", "pictures", "--output", "file")
    assert_refused(capsys, "--output file is no folder. Expected a folder", *words)


def test_images_of_one_name_in_two_folders_are_classified() -> None:
    save_classifier({})
    for folder in ("cats", "dogs"):
        Path(folder).mkdir()
        PIL.Image.new("RGB", (64, 64)).save(f"{folder}/1.png")
    tiny_recipes.limbeck("predict", SAVED, "cats", "dogs")
    assert list(results()) == ["cats/1.png", "dogs/1.png"]


def test_companion_files_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    before = sorted(photographs())
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        Path("pictures", name).write_bytes(b"no image")
    for name in ("__MACOSX", "folder.png"):
        Path("pictures", name).mkdir()
    assert inputs_of([Path("pictures")]) == (before, [])
    hidden, others = caplog.messages
    assert "pictures: left out 4 files or folders that are hidden" in hidden
    assert "pictures: left out 2 files or folders that are no images" in others
    assert inputs_of([*before, Path("pictures/._a.png")]).files == before
    assert inputs_of([*before, Path.cwd() / "pictures", Path("./pictures")]).files == before
    link = Path("pictures/link.png")
    link.symlink_to(before[0].name)
    assert inputs_of([before[0], link]).files == [before[0], link], "a link is a file of its own"
    with pytest.raises(FileNotFoundError, match="no image in"):
        inputs_of([Path("pictures/Thumbs.db")])


def test_names_of_classes_are_those_of_the_weights_though_somebody_pushes_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, classes in (("old", "abcde"), ("new", "edcba")):
        save_student(tiny_models.classifier(), name, classes=list(classes))
    found = iter([Path("old"), Path("new")])
    monkeypatch.setattr(card, "fetched", lambda source, names: next(found))
    student = student_of(Path("hf:me/tiny"))
    assert student.classes == student.model.classes == tuple("abcde")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@host/1", "rtsp://host/1"),
        ("rtsp://me:sec@ret@host:554/1", "rtsp://host:554/1"),
        ("rtsp://me:sec/ret?#@@host/1", "rtsp://host/1"),
        ("rtsp://secret@host/1", "rtsp://host/1"),
        ("http://host:8080/@me/a.mkv?at=b@c", "http://host:8080/@me/a.mkv?at=b@c"),
        ("http://host/v?user=me&PWD=s#t&channel=1", "http://host/v?user=&PWD=&channel=1"),
        ("http://host/v.m3u8?access_token=secret", "http://host/v.m3u8?access_token="),
        ("a@b.mp4", "a@b.mp4"),
    ],
)
def test_nothing_that_logs_in_to_a_camera_is_shown(address: str, shown: str) -> None:
    assert shown_name(address) == shown
    for finding in (image_files_of, images_of):
        with pytest.raises((ValueError, FileNotFoundError)) as refusal:
            finding([address])
        assert str(refusal.value).startswith(f"{shown} ")
