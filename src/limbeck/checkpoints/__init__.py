"""Files of weights of torchvision, detectron2, mmdetection and FGFI, in and out.

FGFI is Fine-grained Feature Imitation (Wang et al., CVPR 2019), ``fgfi`` where a library is named.
"""

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.checkpoint import (
    Checkpoint,
    Library,
    Style,
    is_file_source,
    library_of,
    open_checkpoint,
    with_std,
)
from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.reading.parts import merged
from limbeck.checkpoints.writing import contiguous, write_checkpoint

__all__ = [
    "Checkpoint",
    "Contents",
    "Kind",
    "Library",
    "Style",
    "contiguous",
    "is_file_source",
    "library_of",
    "merged",
    "open_checkpoint",
    "read_file",
    "with_std",
    "write_checkpoint",
]
