"""Datasets of detection, written in the layouts of COCO, VOC and YOLO, and read back."""

from limbeck.data.written.writing import LAYOUTS, Source, Written, write_dataset

__all__ = ["LAYOUTS", "Source", "Written", "write_dataset"]
