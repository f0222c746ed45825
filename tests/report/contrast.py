"""The contrast of two colours, as the Web Content Accessibility Guidelines define it."""

from matplotlib.colors import to_rgb
from matplotlib.typing import ColorType


def contrast(first: ColorType, second: ColorType) -> float:
    """From 1 to 21; the guidelines' AA asks for 4.5 for letters and 3 for graphics."""
    darker, lighter = sorted([_luminance(first), _luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def mixed(colour: ColorType, paper: ColorType, share: float) -> tuple[float, ...]:
    """A share of a colour on a paper, as CSS mixes them."""
    pairs = zip(to_rgb(colour), to_rgb(paper), strict=True)
    return tuple(share * over + (1 - share) * under for over, under in pairs)


def _luminance(colour: ColorType) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
