import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.models import (
    BasicBlocks,
    Build,
    Classifier,
    RetinaNet,
    load_student,
    load_weights,
    save_student,
)
from limbeck.models.card import read_card
from tests.canary import nothing_happens

BLOCKS = {"depths": [1], "widths": [8], "stem_stride": 4, "shortcuts": "projected"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound student of three classes."""
    model = Classifier(BasicBlocks((1,), (8,)), 3)
    save_student(model, tmp_path / "student", classes=["a", "b", "c"], metadata={"epochs": 3})
    return tmp_path / "student"


def change(folder: Path, key: str, value: Any) -> None:
    """Set one key of the card, or take it out where the value is ``...``."""
    card = json.loads((folder / "student.json").read_text())
    *outer, last = key.split(".")
    inner = card
    for name in outer:
        inner = inner.setdefault(name, {})
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    (folder / "student.json").write_text(json.dumps(card))


def test_a_card_says_what_was_saved(folder: Path) -> None:
    card = read_card(folder)
    assert card.path == folder / "student.json"
    assert card.build.class_path == "limbeck.models.Classifier"
    assert card.build.init_args["network"] == BLOCKS
    assert card.base is None
    assert card.network() == card.build
    assert card.classes == ("a", "b", "c")
    assert card.metadata == {"epochs": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ...),
        ("classes", None),
        ("classes", []),
        ("metadata", ...),
        ("metadata", None),
        ("metadata", {"score": float("nan"), "deep": [[[[]]]]}),
        ("versions", ...),
        ("input", None),
        ("without_limbeck", ["no", "text"]),
        ("base", None),
        ("weights.file", ...),
        ("later", {"trust": True}),
        ("build.init_args.weights", None),
    ],
)
def test_what_nothing_depends_on_may_be_missing(folder: Path, key: str, value: Any) -> None:
    change(folder, key, value)
    assert load_student(folder)(torch.rand(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", ..., "has format None, expected 1"),
        ("format", [1], r"has format \[1\], expected 1"),
        ("build", ..., ": build is missing or null, expected a mapping"),
        ("build", [1, 2], r": build is \[1, 2\], expected a mapping"),
        ("build.class_path", ..., r": build\.class_path is missing or null, expected a text"),
        ("build.class_path", ["os"], r": build\.class_path is \['os'\], expected a text"),
        ("build.init_args", None, r": build\.init_args is missing or null, expected a mapping"),
        ("build.init_args", "x", r": build\.init_args is 'x', expected a mapping"),
        ("build.trust", True, r": build has \['trust'\], expected class_path and init_args alone"),
        ("base", [1], r": base is \[1\], expected a mapping"),
        ("base.init_args", {}, r": base\.class_path is missing or null, expected a text"),
        ("classes", "abc", ": classes is 'abc', expected a list of texts"),
        ("classes", {"a": 1}, ": classes is {'a': 1}, expected a list of texts"),
        ("classes", ["a", 2, "c"], r": classes\[1\] is 2, expected a text"),
        ("classes", ["a", None, "c"], r": classes\[1\] is missing or null, expected a text"),
        ("classes", ["a", "b", "\udc80"], r": classes\[2\] is '\\udc80', which has half a letter"),
        ("classes", ["a"], ": classes has 1 names, the model has num_classes=3"),
        ("metadata", [1], r": metadata is \[1\], expected a mapping"),
        ("weights", None, ": weights is missing or null, expected a mapping"),
        ("weights.sha256", ..., r": weights\.sha256 is missing or null, expected a text"),
        ("weights.sha256", 3, r": weights\.sha256 is 3, expected a text"),
        ("weights.sha256", "0", "is not the file that student.json describes"),
        ("weights.file", "../x.safetensors", r": weights\.file is '\.\./x\.safetensors', expected"),
        ("build.init_args.num_classes", -3, "build: "),
        ("build.init_args.num_classes", "three", r"init_args\.num_classes is 'three', expected in"),
        ("build.init_args.num_classes", 10**30, r"init_args\.num_classes has the number 10000"),
        ("build.init_args.num_classes", 4, "does not fit"),
        ("build.init_args.num_classes", ..., "init_args has no num_classes, which Classifier need"),
        ("build.init_args.device", "cuda", "init_args has 'device', which Classifier does not tak"),
        ("build.init_args.std", [float("nan")] * 3, r"init_args\.std has the number nan"),
        ("build.init_args.std", [0.5] * 2, r"init_args\.std is \[0\.5, 0\.5\], expected tuple"),
        ("build.init_args.network.trust", True, r"init_args\.network is .* expected str or Basic"),
        ("build.init_args.network.depths", [1, 1], "expected as many depths as widths"),
        ("build.init_args.network.depths", "11", r"init_args\.network is .* expected str or Basi"),
        ("build.init_args.network.widths", [10**9], r"init_args\.widths has the number 1000000000"),
    ],
)
def test_a_fault_is_named_with_its_file_and_key(
    folder: Path, key: str, value: Any, message: str
) -> None:
    change(folder, key, value)
    with pytest.raises(ValueError, match=message) as found:
        load_student(folder)
    assert str(found.value).startswith(str(folder / "student."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON .*codec can't decode"),
        (b"\xef\xbb\xbf{}", "is no JSON .*BOM"),
        (b"null", "holds None, expected a mapping"),
        (b"[1]", r"holds \[1\], expected a mapping"),
        (b'"student"', "holds 'student', expected a mapping"),
        (b"[" * 100_000, "is nested too deep"),
        (b'{"format": ' + b"9" * 5000 + b"}", "is no JSON"),
        (b'{"format": NaN}', "has format nan, expected 1"),
        (b'{"format": 1}' + b" " * (1 << 24), "has more than 16,777,216 bytes"),
    ],
)
def test_what_is_no_card_is_refused(folder: Path, text: bytes, message: str) -> None:
    (folder / "student.json").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        read_card(folder)


@pytest.mark.parametrize("depth", [60, 900])
def test_arguments_are_not_nested_deep(folder: Path, depth: int) -> None:
    deep: Any = {}
    for _ in range(depth):
        deep = {"arguments": deep}
    change(folder, "build.init_args.arguments", deep)
    with pytest.raises(ValueError, match="nested"):
        load_student(folder)


def test_every_byte_may_be_another(folder: Path) -> None:
    """A flipped byte is a sentence, or changes what nothing depends on."""
    whole = (folder / "student.json").read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        place, value = (int(torch.randint(n, (), generator=generator)) for n in (len(whole), 256))
        (folder / "student.json").write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        with suppress(ValueError):
            load_student(folder)
    for end in range(0, len(whole) - 2, 60):
        (folder / "student.json").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is no JSON"):
            load_student(folder)


@pytest.mark.parametrize("name", ["student.json", "student.safetensors"])
def test_a_link_out_of_the_folder_is_not_followed(folder: Path, name: str) -> None:
    bait = folder.parent / "bait"
    (folder / name).rename(bait)
    (folder / name).symlink_to(bait)
    with (
        nothing_happens(folder / name),
        pytest.raises(ValueError, match=rf"student/{name} is a link to .*bait, outside of the st"),
    ):
        load_student(folder)
    (folder / name).unlink()
    bait.rename(folder / "kept")
    (folder / name).symlink_to("kept")  # inside
    load_student(folder)


def test_a_link_to_the_folder_is_the_user_s_own(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    load_student(link)


@pytest.mark.parametrize("name", ["student.json", "student.safetensors"])
def test_what_is_no_file_is_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(FileNotFoundError, match="holds no student"):
        load_student(folder)


def into_a_detector(folder: Path) -> None:
    RetinaNet(BasicBlocks((1, 1, 1), (8, 8, 8)), 3, levels=(3, 4), weights=folder)


def into_a_classifier(folder: Path) -> None:
    load_weights(Classifier(BasicBlocks((1,), (8,)), 3), folder)


@pytest.mark.parametrize("read", [into_a_detector, into_a_classifier])
@pytest.mark.parametrize("key", ["build", "base"])
def test_a_card_is_checked_where_it_is_given_as_weights(
    folder: Path, read: Callable[[Path], None], key: str
) -> None:
    arguments = {"network": BLOCKS, "num_classes": 3, "mean": "grey"}
    change(folder, key, {"class_path": "limbeck.models.Classifier", "init_args": arguments})
    with pytest.raises(ValueError, match=r"student\.json: init_args\.mean is 'grey', expected"):
        read(folder)


def test_arguments_of_another_library_s_class_say_nothing(folder: Path) -> None:
    arguments = {"num_classes": 3, "preset": [1], "mean": "grey"}
    change(folder, "build", {"class_path": "elsewhere.Network", "init_args": arguments})
    into_a_classifier(folder)


def test_code_in_a_card_is_text(folder: Path) -> None:
    change(folder, "without_limbeck", f"open({str(folder.parent / 'bait')!r}, 'w')")
    with nothing_happens(folder.parent / "bait"):
        load_student(folder)
    assert not (folder.parent / "bait").exists()


def test_an_inner_folder_is_not_built(folder: Path) -> None:
    """The way in: a card that names load_student, with trust, of a folder that names a program."""
    inner = folder / "inner"
    save_student(Classifier(BasicBlocks((1,), (8,)), 3), inner)
    program = {"class_path": "os.system", "init_args": {"command": f"touch {folder}/canary"}}
    change(inner, "build", program)
    arguments = {"folder": str(inner), "trust": True}
    change(folder, "build", {"class_path": "limbeck.models.load_student", "init_args": arguments})
    message = r"build: class_path 'limbeck\.models\.load_student': expected an nn\.Module class"
    with nothing_happens(inner), pytest.raises(ValueError, match=message):
        load_student(folder)
    assert not (folder / "canary").exists()


def test_a_build_that_names_weights_is_loaded_on_trust_alone(tmp_path: Path) -> None:
    model = Classifier(BasicBlocks((1,), (8,)), 3)
    save_student(model, tmp_path / "first")
    arguments = model.build.init_args | {"weights": str(tmp_path / "first")}
    build = Build("limbeck.models.Classifier", arguments)
    save_student(model, tmp_path / "second", build=build)
    with pytest.raises(ValueError, match=r"init_args\.weights of .* is .*first.*trust=True"):
        load_student(tmp_path / "second")
    assert type(load_student(tmp_path / "second", trust=True)) is Classifier
