"""Small files that take all memory, or all time."""

import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from campaign import bomb_texts, material, pickles
from campaign.attack import Hostile, Words, read_by, student_with, validated
from campaign.sound import Sound

UNPACKED = 5 << 29  # 2.5 GiB


def attacks(sound: Sound) -> Iterator[Hostile]:
    """Torch zips, pickles, safetensors, cards, YAML, Python and annotations."""
    yield Hostile("a torch zip with a compressed record", 7, _zip_bomb(sound, "inspect"))
    yield Hostile("a checkpoint with a compressed record", 7, _zip_bomb(sound, "validate"))
    yield Hostile("a torch zip with a compressed data.pkl", 7, _pkl_bomb)
    yield Hostile("a torch zip whose record claims to be larger", 7, _oversized, refused=True)
    yield Hostile("a torch zip of 200,000 records", 7, _many_records)
    for name, program in {
        "growing tuples": lambda: pickles.growing(10_000),
        "a list of 8 MB of dicts": lambda: pickles.memo(8),
        "a list of 8 MB of lists": lambda: pickles.lists(8),
        "a list of 12 MB of sets": lambda: pickles.sets(12),
        "8 MB of ordered dicts": lambda: pickles.ordered(8),
        "a list of itself": lambda: pickles.doubling(1000),
        "deep tuples": lambda: b"\x80\x02K\x01" + b"\x85" * 1_000_000 + b".",
        "a long integer": lambda: (
            b"\x80\x02\x8b" + struct.pack("<i", 8 << 20) + b"\x7f" * (8 << 20) + b"."
        ),
        "a text that claims 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xff" + b"a" * 100,
        "bytes that claim 2**63": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a" * 100,
        "a frame that claims 2**62": lambda: (
            b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"a" * 100
        ),
        "a decimal of 8 MB": lambda: b"I" + b"7" * (8 << 20) + b"\n.",
        "8 MB of marks": lambda: b"\x80\x02" + b"(" * (8 << 20) + b".",
        "memo index 2**31": lambda: b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        "an array that claims 2**40": lambda: pickles.by_global(
            "numpy.core.multiarray", "_reconstruct", "x"
        ),
    }.items():
        for kind, write in pickles.FILES.items():
            yield Hostile(f"{kind}: {name}", 7, _program(program, kind, write), refused=True)
    yield Hostile(
        "safetensors: a header of 2**62 bytes",
        7,
        _safetensors(struct.pack("<Q", 2**62) + b"{}"),
        refused=True,
    )
    yield Hostile("safetensors: a million tensors", 7, _safetensors_many)
    yield Hostile("safetensors: a million keys of metadata", 7, _safetensors_metadata)
    yield Hostile("student.json: a million keys of metadata", 7, _many_keys(sound))
    yield Hostile("student.json: 100 MB", 7, _long_card(sound))
    for name, text in bomb_texts.YAML.items():
        yield Hostile(f"a recipe: {name}", 7, _yaml_recipe(text, "fit"), refused=True)
        yield Hostile(
            f"a recipe: {name}, in inspect", 7, _yaml_recipe(text, "inspect"), refused=True
        )
        yield Hostile(f"Detectron2's configuration: {name}", 7, _yaml_beside(sound, text))
    for name, text in bomb_texts.PYTHON.items():
        yield Hostile(f"mmdetection's configuration: {name}", 7, _python_beside(sound, text))
    yield Hostile("COCO: deep JSON", 7, _coco_text("[" * 1_000_000), refused=True)
    yield Hostile(
        "COCO: a huge number",
        7,
        _coco_text('{"images": ' + "9" * 10_000_000 + "}"),
        refused=True,
    )
    yield Hostile("VOC: entities of entities", 7, _voc_text(bomb_texts.LAUGHS), refused=True)
    yield Hostile("VOC: an external entity", 1, _voc_text(bomb_texts.EXTERNAL), refused=True)
    yield Hostile("VOC: deep XML", 7, _voc_text("<a>" * 500_000), refused=True)
    yield Hostile(
        "WIDER FACE: a count of 10**12",
        7,
        _wider_text("0--Parade/a.jpg\n1000000000000\n1 1 9 9 0 0 0 0 0 0\n"),
        refused=True,
    )
    yield Hostile("darknet: sizes beyond the file", 7, _darknet, refused=False)


def _program(program: Callable[[], bytes], kind: str, write: Any) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        return "inspect", write(program(), folder / kind)

    return make


# A tensor of one storage, as torch.save pickles it.
def _tensor(elements: int) -> bytes:
    t = pickles.text
    storage = (
        b"("
        + t("storage")
        + b"ctorch\nFloatStorage\n"
        + t("0")
        + t("cpu")
        + b"\x8a\x05"
        + elements.to_bytes(5, "little")
        + b"tQ"
    )
    size = b"\x8a\x05" + elements.to_bytes(5, "little") + b"\x85"
    call = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00"
        + size
        + b"K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02}" + t("layer.weight") + call + b"s."


def _zip_bomb(sound: Sound, verb: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = folder / "bomb.ckpt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("archive/data.pkl", _tensor(UNPACKED // 4))
            archive.writestr("archive/version", b"3\n")
            with archive.open("archive/data/0", "w", force_zip64=True) as record:
                _zeros(record)
        if verb == "inspect":
            return verb, path
        return verb, "--config", sound.folder / "run.yaml", "--ckpt_path", path

    return make


def _pkl_bomb(folder: Path) -> Words:
    path = folder / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as record:
            record.write(b"\x80\x04\x8e" + struct.pack("<Q", UNPACKED))
            _zeros(record)
            record.write(b".")
        archive.writestr("archive/version", b"3\n")
    return "inspect", path


def _zeros(record: IO[bytes]) -> None:
    for _ in range(UNPACKED >> 26):
        record.write(bytes(1 << 26))


def _oversized(folder: Path) -> Words:
    path = folder / "bomb.pth"
    pickles.in_zip(_tensor(1 << 31), path, **{"0": bytes(64)})
    raw = path.read_bytes()
    path.write_bytes(
        raw.replace(struct.pack("<II", 64, 64), struct.pack("<II", 0xFFFFFF00, 0xFFFFFF00))
    )
    return "inspect", path


def _many_records(folder: Path) -> Words:
    path = folder / "many.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _tensor(16))
        for number in range(200_000):
            archive.writestr(f"archive/data/{number}", bytes(64) if not number else b"")
    return "inspect", path


def _safetensors(content: bytes) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "w.safetensors").write_bytes(content)
        return "inspect", folder / "w.safetensors"

    return make


def _safetensors_many(folder: Path) -> Words:
    header = {
        f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(1_000_000)
    }
    text = json.dumps(header).encode()
    return _safetensors(struct.pack("<Q", len(text)) + text)(folder)


def _safetensors_metadata(folder: Path) -> Words:
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = {"__metadata__": {f"k{i}": "v" for i in range(1_000_000)}, "w": tensor}
    text = json.dumps(header).encode()
    return _safetensors(struct.pack("<Q", len(text)) + text + bytes(4))(folder)


def _many_keys(sound: Sound) -> Callable[[Path], Words]:
    def change(card: dict[str, Any]) -> None:
        card["metadata"] |= {f"key{i}": i for i in range(3_000_000)}

    return lambda folder: read_by("predict", student_with(sound, folder, change), sound)


def _long_card(sound: Sound) -> Callable[[Path], Words]:
    def change(card: dict[str, Any]) -> str:
        return json.dumps(card) + " " * 100_000_000

    return lambda folder: read_by("predict", student_with(sound, folder, change), sound)


def _yaml_recipe(text: str, verb: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = folder / "recipe.yaml"
        path.write_text(text)
        where = ("--trainer.default_root_dir", folder / "run")
        return (verb, path) if verb == "inspect" else (verb, "--config", path, *where)

    return make


def _yaml_beside(sound: Sound, text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copy(sound.folder / "detectron2.pkl", folder / "model.pkl")
        (folder / "config.yaml").write_text(text)
        (folder / "model.yaml").write_text(text)
        return "convert", folder / "model.pkl", folder / "out.safetensors"

    return make


def _python_beside(sound: Sound, text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copy(sound.folder / "mmdetection.pth", folder / "model.pth")
        (folder / "model.py").write_text(text)
        (folder / "config.py").write_text(text)
        return "convert", folder / "model.pth", folder / "out.safetensors"

    return make


def _coco_text(text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.coco(folder / "coco")
        (folder / "coco/ann.json").write_text(text)
        return validated(folder, data)

    return make


def _voc_text(text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.voc(folder / "voc")
        (folder / "voc/Annotations/0000.xml").write_text(text)
        return validated(folder, data)

    return make


def _wider_text(text: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = material.wider_face(folder / "wider")
        (folder / "wider/wider_face_split/wider_face_val_bbx_gt.txt").write_text(text)
        return validated(folder, data)

    return make


def _darknet(folder: Path) -> Words:
    (folder / "a.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 2**62) + b"\xff" * 4096)
    return "inspect", folder / "a.weights"


def absurd_numbers(sound: Sound) -> Iterator[Hostile]:
    """Absurd numbers in recipes, which are bounded, and said."""
    for path, value in bomb_texts.ABSURD:

        def make(folder: Path, path: str = path, value: object = value) -> Words:
            where = ("--trainer.default_root_dir", folder / "run")
            return ("fit", "--config", sound.folder / "run.yaml", *where, f"--{path}={value}")

        yield Hostile(f"a recipe with {path} = {value}", 7, make)
