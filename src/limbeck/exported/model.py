"""An exported file that is called as the student that it was exported from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.exported.description import Description, beside, read_description
from limbeck.exported.framing import Place
from limbeck.exported.runtimes import opened


class ExportedModel(nn.Module):
    """A file of ``limbeck export`` in its own runtime, called as a student in evaluation mode.

    A detector takes a list of images (3, H, W) of any sizes, RGB in [0, 1], and gives a list of
    dicts of ``boxes`` (N, 4), xyxy in the pixels of the image that came in, ``scores`` (N,), best
    first, and ``labels`` (N,), which count from 1. A classifier takes a batch (B, 3, H, W), or a
    list of images (3, H, W), and gives the logits (B, C). Either brings images into the frame of
    the file by itself, whatever their number and sizes, and answers on the CPU.

    Args:
        path: The file. Beside it lies its description, which is the same name with ``.json``.
        threads: The number of threads of the CPU that it may take. Default (None): as the runtime
            has it. In a file of torch, they are those of the process.
        trust: Whether to open a file that can run code of its own: torch_export and torchscript.

    Attributes:
        path: The file.
        description: What the file takes and gives.
        classes: The names of the foreground classes; empty where they are not known.
        num_classes: The number of foreground classes. None: it is not known.
        takes_list: Whether it is a detector, and takes a list of images.

    Raises:
        FileNotFoundError: There is no such file, or no description beside it.
        ImportError: The runtime of the file is not installed.
        ValueError: The description is damaged, does not suit the file's name, or the file needs
            trust.

    Example:
        >>> from limbeck import exported
        >>> model = exported.load("helmets.onnx")  # doctest: +SKIP
        >>> model([torch.rand(3, 480, 640)])  # doctest: +SKIP
        [{'boxes': tensor(...), 'scores': tensor(...), 'labels': tensor(...)}]
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, *, trust: bool = False
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.description: Description = read_description(self.path)
        self.runtime = opened(self.description.runtime, self.path, threads, trust=trust)
        self.classes = self.description.classes
        self.num_classes = len(self.classes) or None
        self.takes_list = self.description.task == "detection"
        self.eval()

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor] | Tensor) -> Any:
        """What is found on images.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1]; or a batch of them.

        Returns:
            The ``boxes``, ``scores`` and ``labels`` of each image; or the logits (B, C).

        Raises:
            ValueError: The file gives a class that its description has no name for.
        """
        batch, places = self.framed(list(images))
        outputs = self.outputs(batch)
        if not self.takes_list:
            logits = outputs["logits"]
            self._refuse_unnamed(logits.shape[1])
            return logits
        found = self.detections(outputs, batch)
        self._refuse_unnamed(int(found[2].max()) if found[2].numel() else 0)
        return [self.of_image(*each) for each in zip(*found, places, strict=True)]

    @property
    def files(self) -> list[Path]:
        """All that belongs to the file: itself, its description, and weights beside it."""
        suffix = self.runtime.weights_suffix
        weights = [self.path.with_suffix(suffix)] if suffix else []
        return [self.path, beside(self.path), *(each for each in weights if each.is_file())]

    def _refuse_unnamed(self, most: int) -> None:
        if self.classes and most > len(self.classes):
            raise ValueError(
                f"{self.path} gives class {most}, counted from 1, and its description has the "
                f"names of {len(self.classes)}; expected a name for each. Put the description of "
                "this very file beside it, or export the student anew."
            )

    def framed(self, images: Sequence[Tensor]) -> tuple[Tensor, list[Place]]:
        """The batch (B, 3, H, W) that the file takes, and where each image lies in its frame."""
        return self.description.framing.framed(images)

    def outputs(self, batch: Tensor) -> dict[str, Tensor]:
        """What the file itself gives for framed images, as many at once as it takes.

        Args:
            batch: The batch (B, 3, H, W), float32, on the CPU, of any number of images.

        Returns:
            The outputs by their names, each (B, ...).
        """
        count = self.description.batch or len(batch)
        found = []
        for start in range(0, len(batch), count):
            part = batch[start : start + count]
            filled = torch.cat([part, part[-1:].expand(count - len(part), -1, -1, -1)])
            found.append([each[: len(part)] for each in self.runtime.run(filled.contiguous())])
        joined = (torch.cat(each) for each in zip(*found, strict=True))
        return dict(zip(self.description.outputs, joined, strict=True))

    def detections(
        self, outputs: dict[str, Tensor], batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The detections in pixels of the frame, suppressed if the file has not done it.

        Args:
            outputs: What :meth:`outputs` gave.
            batch: The batch that it was given for.

        Returns:
            The boxes (B, D, 4), the scores (B, D) and the labels (B, D), which are 0 where there is
            no detection.
        """
        boxes, scores = outputs["boxes"], outputs["scores"]
        suppression = self.description.suppression
        if self.description.post_processing == "inside" or suppression is None:
            return boxes, scores, outputs["labels"]
        height, width = batch.shape[-2:]
        extent = boxes.new_tensor([width, height, width, height])
        return suppression.detections(boxes, scores, extent)

    def of_image(
        self, boxes: Tensor, scores: Tensor, labels: Tensor, place: Place
    ) -> dict[str, Tensor]:
        """The detections of one image, in its own pixels.

        Args:
            boxes: The boxes (D, 4), in pixels of the frame.
            scores: Their scores, (D,).
            labels: Their labels, (D,), which are 0 where there is no detection.
            place: Where the image lies in the frame.

        Returns:
            The ``boxes`` (N, 4), ``scores`` (N,) and ``labels`` (N,).
        """
        moved = self.description.framing.back(boxes, place)
        there = labels > 0
        suppression = self.description.suppression
        if suppression is not None and suppression.smallest is not None:
            # Of a box in the padding nothing is left in the image.
            there &= (moved[:, 2:] > moved[:, :2]).all(dim=1)
        return {"boxes": moved[there], "scores": scores[there], "labels": labels[there].long()}


def load(path: str | Path, threads: int | None = None, *, trust: bool = False) -> ExportedModel:
    """Open a file of ``limbeck export`` in its own runtime.

    Args:
        path: The file.
        threads: The number of threads of the CPU that it may take. Default (None): as the runtime
            has it.
        trust: Whether to open a file that can run code of its own: torch_export and torchscript.

    Returns:
        The file, as a model in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file, or no description beside it.
        ImportError: The runtime of the file is not installed.
        ValueError: The description is damaged, does not suit the file's name, or the file needs
            trust.
    """
    return ExportedModel(path, threads, trust=trust)
