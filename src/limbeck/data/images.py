"""Images without labels: a folder, or a list of files."""

from pathlib import Path, PurePath

from torch.utils.data import Dataset
from torchvision import tv_tensors

from limbeck.data.base import open_image, to_rgb
from limbeck.data.files import SUFFIXES, LeftOut, images_in, within
from limbeck.data.orientation import seen_size, upright
from limbeck.data.table import Texts
from limbeck.texts import MOST_ROWS, read_text


class Images(Dataset[tv_tensors.Image]):
    """Images of which nothing is known: no label, no box, and no task.

    A recipe states them as ``data.unlabelled``, and the methods that need no labels train on them
    beside the training set, or without one. Photographs are turned upright as their EXIF
    orientation says. Hidden files, those that operating systems leave behind, and files that are no
    images are left out; their numbers are logged.

    Args:
        root: A folder, whose image files are taken with those of all folders inside it; or a list
            of image files, which is a text file with one path a line. Paths in a list are relative
            to its folder, and need not be below it.

    Attributes:
        paths: The image files: of a folder those of each folder in it one after the other, sorted
            in each; of a list in its own order.

    Raises:
        FileNotFoundError: ``root`` does not exist, holds or names no image, or names one that does
            not exist.

    Example:
        >>> import tempfile
        >>> from torchvision.transforms.v2.functional import to_pil_image
        >>> from limbeck.data import Images, Shapes
        >>> folder = tempfile.mkdtemp()
        >>> for number, (image, _) in enumerate(Shapes(count=2)):
        ...     to_pil_image(image).save(f"{folder}/{number}.png")
        >>> images = Images(folder)
        >>> len(images), images[0].shape
        (2, torch.Size([3, 96, 96]))
    """

    def __init__(self, root: str | Path) -> None:
        place = Path(root)
        if not place.exists():
            raise FileNotFoundError(
                f"{place} does not exist; expected a folder of images, or a text file with the "
                "path of one image a line. Correct data.unlabelled's root."
            )
        self.paths = Texts.of(images_in(place) if place.is_dir() else _of_list(place))
        if not len(self.paths):
            raise FileNotFoundError(
                f"{place} {'holds' if place.is_dir() else 'names'} no image; expected image files "
                f"({' '.join(SUFFIXES)}): add some, or give another folder or list"
            )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tv_tensors.Image:
        """Read one image, uint8 RGB (3, H, W).

        Args:
            index: The position of the image, from 0 to ``len(self) - 1``.

        Returns:
            The image, upright.

        Raises:
            BadSampleError: The image cannot be read.
        """
        with open_image(self.paths[index]) as file:
            return to_rgb(upright(file))

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) in pixels of an image as it is turned upright."""
        return seen_size(self.paths[index])


def _of_list(file: Path) -> list[str]:
    """The image files that a text file names."""
    left_out = LeftOut(file)
    named = [line.strip() for line in read_text(file, MOST_ROWS).splitlines() if line.strip()]
    found = [
        str(file.parent / name)
        for name in named
        if left_out.keeps_image(PurePath(within(name, file.parent)))
    ]
    left_out.say()
    missing = [path for path in found if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{file}: {len(missing)} of the {len(found)} images do not exist, the first is "
            f"{missing[0]}; expected paths relative to {file.parent}. Correct them, or take them "
            "off the list."
        )
    return found
