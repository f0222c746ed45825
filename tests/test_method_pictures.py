"""The pictures that the pages of the methods show: ``benchmarks/method_pictures.py`` draws them."""

import inspect
import re
from pathlib import Path
from xml.etree import ElementTree

import PIL.Image
import pytest
import yaml

from limbeck import methods
from limbeck.methods import Method

DOCUMENTS = Path(__file__).parents[1] / "docs"
PICTURES = DOCUMENTS / "methods" / "pictures"
OTHERS = {"DetectorDKD": "detector_dkd", "TFHEAD": "tfhead"}  # whose module has another's name
DRAWINGS = sorted(
    [*DOCUMENTS.glob("methods/pictures/*.svg"), *DOCUMENTS.glob("start/pictures/*.svg")]
)
MOST_BYTES = 60_000
NAMES = {
    OTHERS.get(name, method.__module__.split(".")[2])
    for name, method in vars(methods).items()
    if inspect.isclass(method) and issubclass(method, Method) and method is not Method
}


def test_every_method_has_a_picture_with_a_caption() -> None:
    captions = yaml.safe_load((PICTURES / "captions.yaml").read_text("utf-8"))
    assert captions.keys() == {path.stem for path in PICTURES.glob("*.png")} == NAMES
    for caption in captions.values():
        assert re.fullmatch(r"[A-Z].{60,700}\.", caption), caption


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.png")), ids=lambda path: path.stem)
def test_a_picture_is_small_and_wide_enough_for_a_page(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    with PIL.Image.open(path) as picture:
        assert 780 <= picture.width <= 1040


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_words_of_a_drawing_are_words_within_it(path: Path) -> None:
    """Text that can be searched, of the page's colour, with names of its own for what is marked."""
    root = ElementTree.parse(path).getroot()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    space = {"svg": "http://www.w3.org/2000/svg"}
    words = root.findall("svg:text", space)
    assert len(words) > 10
    for word in words:
        assert 0 < float(word.attrib["x"]) < width
        assert 0 < float(word.attrib["y"]) < height
    marked = [each.attrib["id"] for each in root.iter() if "id" in each.attrib]
    assert all(name.startswith(f"{path.stem}-") for name in marked)
    assert "--color-foreground-primary" in (root.findtext("svg:style", None, space) or "")
