"""Generated images, half of which have nothing to be found."""

from torchvision import tv_tensors

from limbeck.data import Shapes
from limbeck.data.base import Target


class HalfEmpty(Shapes):
    """Shapes, of which every other image has no boxes."""

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        image, target = super().__getitem__(index)
        assert isinstance(target, dict)
        kept = slice(0, 0 if index % 2 else None)
        rows = {"boxes", "labels", "area", "iscrowd"}
        return image, {n: v[kept] if n in rows else v for n, v in target.items()}
