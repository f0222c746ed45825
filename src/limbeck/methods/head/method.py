"""HEAD: an assist beside the student's own head, taught by a teacher of another kind."""

from torch import Tensor, nn

from limbeck.methods.base import Method, Step
from limbeck.methods.head.ckd import Adapter
from limbeck.methods.head.dense_student import DenseStudent
from limbeck.methods.head.form import SIZES, Form, Settings
from limbeck.methods.head.mirror import TwoStageStudent
from limbeck.methods.head.places import is_two_stage
from limbeck.methods.head.regions import PROPOSALS, SAMPLES
from limbeck.methods.pictures import OverImages
from limbeck.ranges import refuse_outside
from limbeck.schedules import WarmUp, Weight

WARM_UP = WarmUp(2.0, 2000)


class HEAD(Method):
    """An assist on the student's pyramid, and what a teacher of another kind tells both heads.

    A dense student of a two-stage teacher gets a box head for its assist, as published
    (:mod:`.dense_student`). A two-stage student of a dense teacher gets a dense assist
    (:mod:`.mirror`); its regions are its own, and what is said of them below has no part in it.

    Args:
        akd: The weight of each part of assist distillation. None: there is no such part.
        ckd: The weight of cross-architecture distillation. None: there is no such part. Without
            either the assist alone remains, which needs no teacher.
        assist: The weight of the assist's own losses.
        adapter: The adapter of CKD: ``shared`` as released, or ``per_anchor`` as in the paper.
        transfer: Whether the assist begins with the weights of the teacher's box head. Where it
            does not, and neither AKD nor CKD is on, the teacher is not looked at, and may be any.
        proposals: How many proposals of the student there are for each image, at most.
        samples: How many regions there are for each image, at most.
        box_head_channels: The width of the assist's hidden layers. Default (None): the teacher's,
            and 1024 where it is not looked at.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Attributes:
        form: What HEAD is for this pair; it is there after :meth:`connect`.

    Raises:
        ValueError: A number is outside of its range.
    """

    form: Form

    def __init__(
        self,
        akd: Weight | None = WARM_UP,
        ckd: Weight | None = WARM_UP,
        assist: Weight = 1.0,
        adapter: Adapter = "shared",
        transfer: bool = True,
        proposals: int = PROPOSALS,
        samples: int = SAMPLES,
        box_head_channels: int | None = None,
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        refuse_outside(SIZES, locals(), "HEAD's ")
        self.settings = Settings(
            akd, ckd, assist, adapter, transfer, proposals, samples, box_head_channels
        )

    def connect(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Choose the form by the pair, and with it the taps."""
        if teacher is not None and is_two_stage(student):
            self.form = TwoStageStudent(self.settings, student, teacher)
        else:
            self.form = DenseStudent(self.settings, student, teacher)
        self.student_taps, self.teacher_taps = self.form.student_taps, self.form.teacher_taps

    def setup(self, step: Step) -> None:
        """Make the assist and the adapters, and register them under the names of checkpoints."""
        self.form.setup(step)
        self.weights = self.form.weights
        for name, module in self.form.modules.items():
            self.add_module(name, module)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The assist's own losses, and what the teacher tells it (akd) and the student (ckd)."""
        return self.form.losses(step)

    def picture(self, step: Step) -> OverImages:
        """The regions that are looked at, and the cells that CKD teaches or reads."""
        return self.form.picture(step)

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter on the student's feature of that name."""
        return self.form.adapter_of(student_tap)
