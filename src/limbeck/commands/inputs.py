"""What ``limbeck predict`` is to look at: image files, folders and lists of them, and videos."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from limbeck.commands.video import is_video, shown_name
from limbeck.data import Images
from limbeck.data.files import SUFFIXES, LeftOut

LIST = ".txt"
Named = TypeVar("Named", str, Path)


class Inputs(NamedTuple):
    """What is looked at.

    Attributes:
        files: The image files, each once.
        videos: The videos and cameras, as the user named them, each once.
    """

    files: list[Path]
    videos: list[str]


def inputs_of(words: Sequence[str | Path]) -> Inputs:
    """Find images and videos.

    Args:
        words: Image files; folders, whose image files are meant; text files (``.txt``) with the
            path of one image a line; and videos and cameras, as :func:`is_video` knows them. Of
            folders and lists, hidden files and those that operating systems leave are left out;
            their number is logged.

    Returns:
        The image files, those of a folder in alphabetical order, and the videos.

    Raises:
        FileNotFoundError: There is neither, or a list names a file that is not there.
    """
    files: list[Path] = []
    videos = [str(word) for word in words if is_video(str(word))]
    for path in (Path(word) for word in words if not is_video(str(word))):
        if path.suffix.lower() == LIST and path.is_file():
            files += map(Path, Images(path).paths)
            continue
        left_out = LeftOut(path)
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if left_out.keeps(PurePath(each.name)))
            files += [each for each in inside if _is_picture(each, left_out)]
        elif left_out.keeps(PurePath(path.name)):
            files.append(path)
        left_out.say()
    if not files and not videos:
        raise FileNotFoundError(
            f"no image in {', '.join(map(str, words))}: looked for {', '.join(sorted(SUFFIXES))}"
        )
    return Inputs(once(files), once(videos))


def once(named: Sequence[Named]) -> list[Named]:
    """What names files, without those that an earlier one names in another way.

    Args:
        named: Paths, or words that may be paths.

    Returns:
        The first name of each file, in the order that they have. A link is a file of its own.
    """
    first: dict[tuple[Path, str], Named] = {}
    for each in named:
        first.setdefault((Path(each).parent.resolve(), Path(each).name), each)
    return list(first.values())


def image_files_of(words: Sequence[str | Path]) -> list[Path]:
    """Find images where videos are of no use.

    Args:
        words: As :func:`inputs_of` takes them.

    Returns:
        The image files.

    Raises:
        FileNotFoundError: There is no image.
        ValueError: There is a video.
    """
    files, videos = inputs_of(words)
    if videos:
        raise ValueError(f"{shown_name(videos[0])} is a video; expected images. Leave it out.")
    return files


def _is_picture(path: Path, left_out: LeftOut) -> bool:
    """Whether an entry of a folder is an image file; what is not is counted as left out."""
    if path.is_dir():
        left_out.others.append(PurePath(path.name))
        return False
    return left_out.keeps_image(PurePath(path.name))
