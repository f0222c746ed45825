"""Files of weights of torchvision, detectron2, mmdetection, FGFI and darknet, in and out.

FGFI is Fine-grained Feature Imitation (Wang et al., CVPR 2019), ``fgfi`` where a library is named.
"""

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.checkpoint import Checkpoint, Library, Style, with_std
from limbeck.checkpoints.formats import FORMATS, library_of
from limbeck.checkpoints.libraries.format import Format
from limbeck.checkpoints.libraries.torchvision import contiguous
from limbeck.checkpoints.opening import is_file_source, open_checkpoint
from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.reading.parts import merged
from limbeck.checkpoints.writing import write_checkpoint

__all__ = [
    "FORMATS",
    "Checkpoint",
    "Contents",
    "Format",
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
