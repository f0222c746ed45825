"""Figures that are drawn over the pixels of an image, as PNG or JPEG."""

from pathlib import Path

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from limbeck.whole import written_whole

PIXELS = (".png", ".jpg", ".jpeg")  # the suffixes of pictures that can be written here
QUALITY = 90  # of JPEGs, at which letters stay clear
COMPRESSION = 1  # of PNGs: of photographs, 6 takes three times as long and gains nothing


def save_over(image: Tensor, figure: Figure, out: Path, software: str | None = None) -> None:
    """Draw a figure over an image, pixel by pixel, and write that.

    Args:
        image: The image (3, H, W), RGB in [0, 1].
        figure: The figure, of H by W pixels. Its background is not drawn.
        out: The file, whose suffix is one of :data:`PIXELS`. Its folder is made if it is not there.
        software: The program that the file says it is from. None: it says nothing.
    """
    figure.patch.set_visible(False)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    drawn = np.asarray(renderer.buffer_rgba())  # which the renderer draws on
    pixels = image.detach().float().clamp(0, 1).mul(255).byte()  # rounded down, as by matplotlib
    drawn[..., :3] = pixels.permute(1, 2, 0).cpu().numpy()
    drawn[..., 3] = 255
    figure.draw(renderer)
    _write(PIL.Image.fromarray(np.ascontiguousarray(drawn[..., :3])), figure.dpi, out, software)


def _write(picture: PIL.Image.Image, dpi: float, out: Path, software: str | None) -> None:
    """Write a picture whole or not at all, as one that was cut off says no more whose it is."""
    with written_whole(out, wait=False) as partial:  # a picture that is lost is drawn again
        if out.suffix.lower() == ".png":
            note = PngInfo()
            if software:
                note.add_text("Software", software)
            picture.save(partial, "PNG", dpi=(dpi, dpi), pnginfo=note, compress_level=COMPRESSION)
        else:
            exif = PIL.Image.Exif()
            if software:
                exif[Base.Software] = software
            picture.save(partial, "JPEG", dpi=(dpi, dpi), exif=exif, quality=QUALITY)


def software_of(picture: PIL.Image.Image) -> str | None:
    """The program that an open PNG or JPEG says it is from, or None."""
    note = picture.info.get("Software") or picture.getexif().get(Base.Software)
    return str(note) if note else None
