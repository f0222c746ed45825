"""Pictures as PNG or JPEG, which say which program they are from."""

from pathlib import Path

import PIL.Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo

from limbeck.whole import written_whole

QUALITY = 90  # of JPEGs, at which letters stay clear
COMPRESSION = 1  # of PNGs: of photographs, 6 takes three times as long and gains nothing


def write_picture(picture: PIL.Image.Image, out: Path, software: str | None = None) -> None:
    """Write a picture whole or not at all, as one that was cut off says no more whose it is.

    Args:
        picture: The picture, RGB.
        out: The file, which is a PNG where its suffix says so, and a JPEG otherwise. Its folder is
            made if it is not there.
        software: The program that the file says it is from. None: it says nothing.
    """
    with written_whole(out, wait=False) as partial:  # a picture that is lost is drawn again
        if out.suffix.lower() == ".png":
            note = PngInfo()
            if software:
                note.add_text("Software", software)
            picture.save(partial, "PNG", pnginfo=note, compress_level=COMPRESSION)
        else:
            exif = PIL.Image.Exif()
            if software:
                exif[Base.Software] = software
            picture.save(partial, "JPEG", exif=exif, quality=QUALITY)


def software_of(picture: PIL.Image.Image) -> str | None:
    """The program that an open PNG or JPEG says it is from, or None."""
    note = picture.info.get("Software") or picture.getexif().get(Base.Software)
    return str(note) if note else None
