"""What a comparison states: a teacher, a plain student, rows that are laid over it, and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from limbeck.ranges import NOT_NEGATIVE, POSITIVE, refuse_outside
from limbeck.recipe import Recipe, Recipes


@dataclass(frozen=True)
class Controls:
    """What a distilled student is compared with besides the plain one at equal steps.

    Attributes:
        equal_time: Whether the plain student (and the one of a transfer alone) is also trained for
            as long as each distilled one, whose steps take longer.
        transfer: Whether, where a row transfers weights, the transfer is also trained alone.
        twice_as_long: Whether the plain student is also trained for twice as long, which shows
            whether it had learnt what it can.
    """

    equal_time: bool = True
    transfer: bool = True
    twice_as_long: bool = True


@dataclass(frozen=True)
class Comparison:
    """A plain student, rows that differ from it in what is laid over its recipe, and seeds.

    Attributes:
        title: The title of the report.
        plain: The recipe of the plain student.
        rows: What is laid over it for each row, by the name of the row.
        teacher: The teacher as a recipe states a model (``class_path``, ``init_args``), in place of
            the teacher of each row that names one. None: rows keep their own.
        teacher_recipe: The recipe that the teacher is first trained with. None: it is there.
        seeds: The seeds of the runs, one or more.
        scored_on: The dataset, as ``data.val`` of a recipe, that students are scored on. It should
            have chosen nothing. None: the recipe's own validation set.
        length: The keys of the recipe whose numbers say how long a run is. Default: those of
            ``trainer.max_epochs``, ``trainer.max_steps`` and ``model.learning_rate.milestones``
            that the recipe of the plain student states.
        controls: Which controls there are.
        smallest_gain: The smallest gain in the headline score that is worth having, which decides
            between a miss and an open question.
        time_ratios: How many times as long a row takes to train as the plain student, by the
            row's name, for a comparison that is to come out as elsewhere. Rows that are not
            named are measured.
        notes: What the report is to say besides, such as the licences of weights, by its name.

    Raises:
        ValueError: There is no row or no seed, or a number is out of its range.
    """

    title: str
    plain: Recipes
    rows: Mapping[str, Recipes]
    teacher: Recipe | None = None
    teacher_recipe: Recipes | None = None
    seeds: Sequence[int] = (0, 1, 2)
    scored_on: Recipe | None = None
    length: Sequence[str] = ()
    controls: Controls = field(default_factory=Controls)
    smallest_gain: float = 0.005
    time_ratios: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_outside({"smallest_gain": NOT_NEGATIVE}, vars(self))
        refuse_outside(dict.fromkeys(self.time_ratios, POSITIVE), self.time_ratios)
        if not self.rows:
            raise ValueError("rows is empty; expected the name and the recipe of at least one row")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds is {list(self.seeds)}; expected one or more numbers, each of them once"
            )
        if unknown := sorted(self.time_ratios.keys() - self.rows.keys()):
            raise ValueError(
                f"time_ratios names {', '.join(unknown)}; expected rows: {', '.join(self.rows)}"
            )
        if self.teacher is not None and self.teacher_recipe is not None:
            raise ValueError(
                "teacher and teacher_recipe are both given; expected one: the model, or the recipe "
                "that it is trained with"
            )
