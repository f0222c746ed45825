"""What an exported file takes and gives: a JSON file beside it, which other programs read, too."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbeck.arguments import SAVE_ANEW, refuse_absurd, refuse_misfits, shown
from limbeck.data.base import Task
from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Suppression
from limbeck.ranges import COUNT, NOT_NEGATIVE, SHARE, SIDE, Range, refuse_outside
from limbeck.texts import read_bytes
from limbeck.whole import write_whole

FORMAT = 1
_MOST_BYTES = 1 << 24
_MOST_PIXELS = int(SIDE.most) ** 2  # of a batch: more take more memory than there is
_FRAMING = dict.fromkeys(("size", "multiple", "min_size", "max_size"), SIDE)
_DETECTIONS = Range(1, 100_000)
_SUPPRESSION = {
    "labels": Range(0),
    "score_threshold": Range(-1, 1, open=True),  # -1 stands for what is no candidate
    "nms_threshold": SHARE,
    "detections_per_image": _DETECTIONS,
    "topk": _DETECTIONS,
    "levels": Range(0),
    "smallest": NOT_NEGATIVE,
    "least": Range(0, 1),
    "detections_per_class": _DETECTIONS,
}
_ADVICE = "Export the student anew with `limbeck export`."

Runtime = Literal["onnx", "torch_export", "torchscript", "openvino"]
PostProcessing = Literal["inside", "dense"]


@dataclass(frozen=True)
class Description:
    """What is beside an exported file, and in the metadata of an ONNX file.

    Attributes:
        runtime: The format of the file.
        task: ``detection`` or ``classification``.
        model: The name of limbeck's class that was exported.
        classes: The names of the foreground classes, in the order of their labels; empty where they
            are not known. Labels of detections count from 1, classes of a classifier from 0.
        batch: The number of images that the file takes at once. None: any.
        framing: How images come into the frame, and boxes back.
        post_processing: ``inside``: the file gives ``boxes`` (B, D, 4), xyxy in pixels of the
            frame, ``scores`` (B, D), best first, and ``labels`` (B, D), which are 0 where there is
            no detection. ``dense``: it gives the ``boxes`` (B, N, 4) or (B, N, C, 4) and the
            ``scores`` (B, N, C) of all columns, before ``suppression``. None: it is a classifier,
            and gives ``logits`` (B, C).
        suppression: How detections are chosen, inside of the file or behind it. None: it is a
            classifier.
        half: Whether the network computes in float16. Inputs and outputs are float32 in any case.
        licence: The licence of the weights that the student began with. None: it is not known.
        limbeck: The version of limbeck that wrote the file.
        metadata: What the student's card says under this name, such as its augmentation, by which
            images were resized and cropped before the framing when it was measured.
        images: What the input, ``images``, is.
        outputs: The names of the outputs, in their order.
    """

    runtime: Runtime
    task: Task
    model: str
    classes: tuple[str, ...]
    batch: int | None
    framing: Framing
    post_processing: PostProcessing | None
    suppression: Suppression | None
    half: bool
    licence: str | None
    limbeck: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    images: str = "RGB, float32, 0 to 1, (B, 3, H, W)"
    outputs: tuple[str, ...] = ()

    def written(self) -> str:
        """The description as JSON."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=2) + "\n"

    @classmethod
    def of(cls, text: str | bytes, source: str) -> "Description":
        """The description that a text holds, checked.

        Args:
            text: The JSON.
            source: Where it was found, for messages.

        Returns:
            The description.

        Raises:
            ValueError: It is damaged, was written by another version, or says what cannot be.
        """
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source} is no JSON ({error}). {_ADVICE}") from None
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            found = said.get("format") if isinstance(said, dict) else said
            raise ValueError(f"{source} has format {shown(found)}, expected {FORMAT}. {_ADVICE}")
        said.pop("format")
        try:
            refuse_misfits(cls, said, source)
            refuse_absurd(said["suppression"] or {}, f"{source}.suppression")
        except ValueError as error:
            raise ValueError(f"{str(error).removesuffix(SAVE_ANEW)}{_ADVICE}") from None
        framing = _built(Framing, said.pop("framing"))
        suppression = said.pop("suppression")
        if suppression is not None:
            suppression = _built(Suppression, suppression)
        made: Description = _built(cls, said | {"framing": framing, "suppression": suppression})
        made.refuse_impossible(source)
        return made

    def refuse_impossible(self, source: str) -> None:
        """Refuse what no file is, and what would take more memory than there is.

        Args:
            source: Where the description stands, for messages.

        Raises:
            ValueError: A number is out of its range, there are labels without classes, or the
                outputs are not those of such a file.
        """
        refuse_outside({"batch": COUNT}, {"batch": self.batch}, f"{source}: ")
        refuse_outside(_FRAMING, vars(self.framing), f"{source}: framing.")
        if self.suppression is not None:
            refuse_outside(_SUPPRESSION, vars(self.suppression), f"{source}: suppression.")
        height, width = self.framing.size or (1, 1)
        if (self.batch or 1) * height * width > _MOST_PIXELS:
            raise ValueError(
                f"{source}: batch is {self.batch} at {height} x {width} px; expected at most "
                f"{_MOST_PIXELS} pixels at once. Choose a smaller batch, or a smaller size."
            )
        needed = {"fit": "size", "shorter_side": "min_size"}.get(self.framing.rule)
        if needed and getattr(self.framing, needed) is None:
            raise ValueError(
                f"{source}: framing.{needed} is null; expected a number, which the rule "
                f"{self.framing.rule!r} needs. {_ADVICE}"
            )
        self._refuse_unsuitable_outputs(source)

    def _refuse_unsuitable_outputs(self, source: str) -> None:
        if self.task == "classification":
            expected: tuple[str, ...] = ("logits",)
        elif self.post_processing is None or self.suppression is None:
            raise ValueError(
                f"{source}: post_processing or suppression is null; expected both, since it is a "
                f"detector. {_ADVICE}"
            )
        else:
            labels = ("labels",) if self.post_processing == "inside" else ()
            expected = ("boxes", "scores", *labels)
            most = max(self.suppression.labels, default=0)
            if self.classes and most > len(self.classes):
                raise ValueError(
                    f"{source}: suppression.labels has the label {most}; expected at most "
                    f"{len(self.classes)}, the number of classes. {_ADVICE}"
                )
        if self.outputs != expected:
            raise ValueError(
                f"{source}: outputs is {shown(list(self.outputs))}; expected {list(expected)}. "
                f"{_ADVICE}"
            )


def _built(kind: Any, said: Mapping[str, Any]) -> Any:
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in said.items()})


def beside(path: Path) -> Path:
    """The path of the description of a file: ``model.onnx.json`` beside ``model.onnx``."""
    return path.with_name(f"{path.name}.json")


def write_description(path: Path, description: Description) -> None:
    """Write the description of a file beside it.

    Args:
        path: The exported file.
        description: What it takes and gives.
    """
    write_whole(beside(path), description.written())


def read_description(path: Path) -> Description:
    """Read the description beside a file.

    Args:
        path: The exported file.

    Returns:
        The description.

    Raises:
        FileNotFoundError: There is no such file, or no description beside it.
        ValueError: The description is damaged, or was written by another version.
    """
    source = beside(path)
    for each in (path, source):
        if not each.is_file():
            raise FileNotFoundError(
                f"{each} does not exist; expected an exported file and, beside it, {source.name}. "
                "Give a file that `limbeck export` has written, and keep the two together."
            )
    return Description.of(read_bytes(source, _MOST_BYTES), str(source))
