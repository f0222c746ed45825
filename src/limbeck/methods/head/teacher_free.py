"""TF-HEAD, HEAD without a teacher: the student's own assist is its teacher."""

from torch import Tensor, nn

from limbeck.methods.base import Method, Step
from limbeck.methods.head.assist import ASSIST_PARTS, WIDTH, Assist, new_assist
from limbeck.methods.head.ckd import CKD
from limbeck.methods.head.fcos import FCOS_PARTS, FCOSAssist, Towers, new_fcos_assist
from limbeck.methods.head.form import SIZES
from limbeck.methods.head.picture import assist_picture
from limbeck.methods.head.places import anchors_per_cell, dense_places
from limbeck.methods.head.regions import PROPOSALS, SAMPLES, labelled, regions
from limbeck.methods.pictures import OverImages
from limbeck.ranges import refuse_outside
from limbeck.schedules import EarlyStop, Product, WarmUp, Weight, as_schedule

LEARNT, TAUGHT = WarmUp(1.0, 2000), WarmUp(1.3, 2000)
FIRST_DROP = 58_640  # steps to the first drop of the published learning rate, 8 epochs of COCO


class TFHEAD(Method):
    """Assists that learn from the ground truth alone, and teach the dense head.

    Args:
        rcnn: The weight of the losses of an R-CNN assist. None: there is no such assist.
        fcos: The weight of the losses of an FCOS assist. None: there is no such assist.
        ckd: The weight of what the R-CNN assist teaches, see
            :class:`~limbeck.methods.head.ckd.CKD`, with an adapter for each anchor of a cell.
        towers: The weight of what the FCOS assist teaches, see
            :class:`~limbeck.methods.head.fcos.Towers`.
        stop: The last step in which the assists teach, published as the first drop of the learning
            rate. None: they teach to the end. They themselves learn to the end.
        proposals: How many proposals of the student there are for each image, at most.
        samples: How many regions there are for each image, at most.
        box_head_channels: The width of the R-CNN assist's hidden layers.

    Attributes:
        rcnn: The R-CNN assist, where there is one.
        ckd: The adapter of the dense head's tower for what the R-CNN assist teaches.
        fcos: The FCOS assist, where there is one.
        towers: The adapter of the dense head's tower for what the FCOS assist teaches.

    Raises:
        ValueError: There is no assist at all, or a number is outside of its range.
    """

    rcnn: Assist
    ckd: CKD
    fcos: FCOSAssist
    towers: Towers

    def __init__(
        self,
        rcnn: Weight | None = LEARNT,
        fcos: Weight | None = None,
        ckd: Weight = TAUGHT,
        towers: Weight = LEARNT,
        stop: int | None = FIRST_DROP,
        proposals: int = PROPOSALS,
        samples: int = SAMPLES,
        box_head_channels: int = WIDTH,
    ) -> None:
        super().__init__()
        refuse_outside(SIZES, locals(), "TFHEAD's ")
        if rcnn is None and fcos is None:
            raise ValueError("TFHEAD has no assist: give rcnn or fcos a weight, or both.")
        self.proposals = proposals
        self.samples = samples
        self.box_head_channels = box_head_channels
        weights: dict[str, Weight] = {}
        if rcnn is not None:
            weights |= dict.fromkeys(ASSIST_PARTS, rcnn) | {"ckd": _until(stop, ckd)}
        if fcos is not None:
            weights |= dict.fromkeys(FCOS_PARTS, fcos) | {"towers": _until(stop, towers)}
        self.weights = weights

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Tap the dense student; a teacher that other methods have is not looked at."""
        self.student_taps = dense_places("TFHEAD", student)

    def setup(self, step: Step) -> None:
        """Make the assists and the adapters of the dense head."""
        student = step.student
        tower: Tensor = student.features["ckd"][0]
        if "ckd" in self.weights:
            width = self.box_head_channels
            self.rcnn = new_assist(student, width)
            self.ckd = CKD(tower.shape[1], width, anchors_per_cell(student), "per_anchor")
        if "towers" in self.weights:
            self.fcos = new_fcos_assist(student)
            self.towers = Towers(tower.shape[1], student.features["assist"][0].shape[1])

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Each assist's own losses, and what it teaches: ``ckd`` or ``towers``."""
        losses: dict[str, Tensor] = {}
        if "ckd" in self.weights:
            losses |= self._of_regions(step)
        if "towers" in self.weights:
            losses |= self._of_levels(step)
        return losses

    def _of_regions(self, step: Step) -> dict[str, Tensor]:
        found, features = regions(step, self.proposals, self.samples), step.student.features
        last = self.rcnn(features["assist"], found.boxes)[-1]
        taught = self.ckd(features["ckd"], found.positions, last.detach())
        return self.rcnn.losses(last, found) | {"ckd": taught}

    def _of_levels(self, step: Step) -> dict[str, Tensor]:
        features = step.student.features
        tower, outputs = self.fcos(features["assist"])
        losses = self.fcos.losses(outputs, features["assist"], labelled(step))
        return losses | {"towers": self.towers(features["ckd"], tower)}

    def picture(self, step: Step) -> OverImages | None:
        """The regions of the R-CNN assist, and the cells that it teaches; None: there is none."""
        if "ckd" not in self.weights:
            return None
        return assist_picture(step, regions(step, self.proposals, self.samples), taught=True)

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of the dense head's tower: CKD's, where there are two."""
        if student_tap != "ckd":
            return None
        return self.ckd.adapter if "ckd" in self.weights else self.towers.adapter


def _until(stop: int | None, weight: Weight) -> Weight:
    return weight if stop is None else Product((as_schedule(weight), EarlyStop(1.0, stop)))
