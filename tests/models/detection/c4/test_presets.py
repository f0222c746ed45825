"""What the presets of a detector on one map mean."""

import pytest

from limbeck.models import FasterRCNN, FasterRCNNC4
from tests.batches import photographs
from tests.models.detection.c4.small_c4 import TINY


def test_images_of_the_original_are_neither_padded_nor_bounded() -> None:
    images, _ = FasterRCNNC4(TINY, 3, preset="fgfi").eval().transform(photographs((30, 100)))
    assert images.image_sizes == [(600, 2000)]
    assert images.tensors.shape[-2:] == (600, 2000)
    stock, _ = FasterRCNNC4(TINY, 3).eval().transform(photographs((30, 100)))
    assert stock.tensors.shape[-2:] == (416, 1344)
    # detectron2's ResNet asks for no multiple, its pyramid for 32.
    theirs, _ = FasterRCNNC4(TINY, 3, preset="detectron2").eval().transform(photographs((30, 100)))
    assert theirs.tensors.shape[-2:] == (400, 1333)


def test_a_pyramid_has_not_the_preset_of_the_original() -> None:
    with pytest.raises(ValueError, match=r"preset='fgfi': .* FasterRCNNC4 alone has that"):
        FasterRCNN(TINY, 3, preset="fgfi")
