"""Shoots the head of a report for the pages, in the machine's Chromium.

python docs/shoot.py runs/quickstart/report.html docs/start/pictures/report.png --height 1455
python docs/shoot.py runs/cifar10_kd/report.html docs/start/pictures/verdicts.png --height 1345
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH = 1100  # pixels of the page


def shoot(report: Path, picture: Path, height: int) -> None:
    """Write the head of a page as a picture.

    Args:
        report: The page.
        picture: The PNG file.
        height: How much of the page is shown, in its pixels.
    """
    picture.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)
        browser.close()
    colours = Image.open(picture).convert("RGB")  # a third of the bytes, and no colour is lost
    colours.quantize(128, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


def main() -> None:
    """Shoot what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    shoot(options.report, options.picture, options.height)


if __name__ == "__main__":
    main()
