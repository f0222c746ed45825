"""Pictures that are too large, or are programs."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from campaign import material
from campaign.attack import Hostile, Words, predicted, validated
from campaign.sandbox import GIB
from campaign.sound import Sound


def png(
    path: Path, width: int, height: int, depth: int = 16, colour: int = 2, rows: int | None = None
) -> Path:
    """A black PNG of any size, which is small on the disk."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + width * channels * depth // 8)
    packer, packed = zlib.compressobj(9), b""
    for _ in range(height if rows is None else rows):
        packed += packer.compress(row)
    packed += packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"


def attacks(sound: Sound) -> Iterator[Hostile]:
    """Bombs, and other formats under the names of pictures."""

    def big(width: int, height: int, depth: int, colour: int) -> Callable[[Path], Words]:
        return lambda folder: predicted(sound, png(folder / "a.png", width, height, depth, colour))

    yield Hostile(
        "a PNG of 13300 x 13300 in 16 bit, predict", 7, big(13300, 13300, 16, 2), room=8 * GIB
    )
    yield Hostile(
        "a grey PNG of 13300 x 13300 in 16 bit, predict", 7, big(13300, 13300, 16, 0), room=8 * GIB
    )
    yield Hostile("a PNG of 100 x 1000000, predict", 7, big(100, 1_000_000, 8, 2))
    yield Hostile("a PNG of 1 x 3000000, predict", 7, big(1, 3_000_000, 8, 2))
    yield Hostile(
        "a PNG that claims 2**31 - 1 squared",
        7,
        lambda f: predicted(
            sound, png(f / "a.png", 2**31 - 1, 2**31 - 1, 1, 0, rows=0) if False else _claiming(f)
        ),
        refused=True,
    )
    for name, make in {"png": _png_frames, "gif": _gif_frames, "webp": _webp_frames}.items():
        yield Hostile(
            f"{name}: many frames or chunks", 7, lambda f, make=make: predicted(sound, make(f))
        )

    def annotated(folder: Path) -> Words:
        data = material.coco(folder / "coco")
        png(folder / "coco/images/0000.png", 13300, 13300)
        return validated(folder, data)

    yield Hostile(
        "a PNG of 13300 x 13300 where the annotation says 64 x 64", 7, annotated, room=8 * GIB
    )
    for suffix in ("png", "jpg", "gif", "webp"):

        def ghost(folder: Path, suffix: str = suffix) -> Words:
            (folder / f"a.{suffix}").write_text(POSTSCRIPT)
            return predicted(sound, folder / f"a.{suffix}")

        yield Hostile(f"a .{suffix} that is PostScript, predict", 7, ghost, refused=True)
    for layout in ("coco", "voc", "kitti", "image_folder", "wider_face"):

        def within(folder: Path, layout: str = layout) -> Words:
            data = getattr(material, layout)(folder / "data")
            first = sorted(p for p in (folder / "data").rglob("*") if p.suffix in (".png", ".jpg"))[
                0
            ]
            first.write_text(POSTSCRIPT)
            if layout == "image_folder":
                stated = material.recipe(data, data, material.network())
                return "validate", "--config", material.write_recipe(folder / "recipe.yaml", stated)
            return validated(folder, data)

        yield Hostile(f"a picture that is PostScript, in {layout}", 7, within, refused=True)
    for kind, content in OTHER_FORMATS.items():

        def other(folder: Path, content: bytes = content) -> Words:
            (folder / "a.png").write_bytes(content)
            return predicted(sound, folder / "a.png")

        yield Hostile(f"a .png that is {kind}", 7, other, refused=True)


OTHER_FORMATS = {
    "a FITS file": b"SIMPLE  =                    T" + b" " * 2850,
    "an icon": b"\0\0\1\0\1\0" + b"\x10\x10" + b"\0" * 40,
    "a WMF": b"\xd7\xcd\xc6\x9a" + b"\0" * 100,
    "an XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000",\n"a"};',
    "a GBR": struct.pack(">5I", 28, 2, 1, 1, 4) + b"GIMP" + b"\0" * 16,
    "a PPM with a comment of 8 MB": b"P6\n#" + b"a" * (8 << 20) + b"\n1 1\n255\nabc",
    "a TIFF": b"II*\0\x08\0\0\0\0\0",
    "a PDF": b"%PDF-1.4\n",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


def _claiming(folder: Path) -> Path:
    path = png(folder / "a.png", 1, 1, 8, 2)
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    path.write_bytes(bytes(raw))
    return path


def _png_frames(folder: Path) -> Path:
    """A text chunk that unpacks to a gigabyte."""
    path = png(folder / "a.png", 64, 64, 8, 2)
    raw = path.read_bytes()
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    data = b"Comment\0\0" + packed
    chunk = (
        struct.pack(">I", len(data))
        + b"zTXt"
        + data
        + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    )
    path.write_bytes(raw[:33] + chunk + raw[33:])
    return path


def _gif_frames(folder: Path) -> Path:
    from PIL import Image

    frames = [Image.new("P", (64, 64), i % 256) for i in range(3000)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    return folder / "a.gif"


def _webp_frames(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (10_000, 10_000)).save(folder / "a.webp", lossless=True, method=0)
    return folder / "a.webp"
