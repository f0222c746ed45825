"""The method: its places, its calibration and its losses."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, distributed, nn

from limbeck.adapters import same_map
from limbeck.methods.base import Calibration, Epochs, Method, Step, Steps
from limbeck.methods.mgd.margins import margin_of, norm_before, partial_distance
from limbeck.methods.mgd.matching import channel_distances, cheapest_columns
from limbeck.methods.mgd.reducers import REDUCERS, Reducer, guides
from limbeck.methods.pictures import Matrices, Matrix
from limbeck.methods.places import PlaceModules, Places, paired
from limbeck.ranges import COUNT, NOT_NEGATIVE, POSITIVE, refuse_outside

Norm = Literal["batch", "group", "synchronised"]
Remainder = Literal["cost", "index"]
GROUPS = 32  # of a group norm
_COUNTS = ("every_epochs", "every_steps", "slow_from", "slow_every", "images")
_RANGES = {"factor": POSITIVE, "stage_weights": NOT_NEGATIVE} | dict.fromkeys(_COUNTS, COUNT)


class MGD(Method):
    """Matching Guided Distillation: the teacher channels that match a student channel guide it.

    It is not Masked Generative Distillation, also called MGD, which is
    :class:`limbeck.methods.MaskedGenerative`.

    It has to be calibrated before the first step, and again every other epoch: training does both.
    In a loop of one's own, show batches to :meth:`limbeck.Distillation.observe` and then call its
    ``solve()``. What was found is saved in checkpoints.

    Args:
        places: Places that both models have; or, where they differ,
            ``{student's place: teacher's place}``. A place is to lie before the activation, as
            ``C4.pre`` does.
        reducer: What is made of the teacher channels that guide one student channel.
        stage_weights: The weights of the places, in their order. Default (None): 1 at the last
            place, and at each before it half of the next one's.
        factor: What all weights are divided by.
        norm: The student's norm at each place: a batch norm, a batch norm over all processes, or a
            group norm of 32 groups.
        remainder: Which T mod S teacher channels guide nobody: those that cost most, or the last
            ones by index, as in the published code. ``sm`` always chooses by cost.
        every_epochs: How often the flow is found anew, in epochs.
        every_steps: How often the flow is found anew, in optimizer steps. Default (None): in
            epochs.
        slow_from: The optimizer step from which ``slow_every`` holds instead of ``every_steps``.
            Default (None): never.
        slow_every: How often the flow is found anew from then on, in optimizer steps.
        images: How many images the flow is found on.
        transform: Which of the data's two transforms these images go through.
        teacher: Which of the pair's ``teachers`` it learns from. Default (None): its ``teacher``.

    Attributes:
        normaliser: ``global``: the loss is divided by the images of all processes.

    Raises:
        ValueError: ``reducer``, ``norm`` or ``remainder`` is none of these, or there is not one
            stage weight for each place.
        TypeError: ``places`` is one string.
    """

    normaliser = "global"
    needs_targets = False

    def __init__(
        self,
        places: Places = ("C2.pre", "C3.pre", "C4.pre", "C5.pre"),
        reducer: Reducer = "amp",
        stage_weights: Sequence[float] | None = None,
        factor: float = 1e4,
        norm: Norm = "batch",
        remainder: Remainder = "cost",
        every_epochs: int = 2,
        every_steps: int | None = None,
        slow_from: int | None = None,
        slow_every: int | None = None,
        images: int = 20_000,
        transform: Literal["training", "evaluation"] = "evaluation",
        teacher: str | None = None,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        for name, value, known in (
            ("reducer", reducer, Reducer),
            ("norm", norm, Norm),
            ("remainder", remainder, Remainder),
        ):
            if value not in get_args(known):
                raise ValueError(
                    f"MGD: {name} is {value!r}; there are {', '.join(get_args(known))}"
                )
        refuse_outside(_RANGES, locals(), "MGD's ")
        pairs = paired(places)
        halves = [0.5**i for i in reversed(range(len(pairs)))]
        shares = halves if stage_weights is None else stage_weights
        if len(shares) != len(pairs):
            raise ValueError(
                f"MGD has {len(pairs)} places ({', '.join(pairs)}) and {len(shares)} "
                "stage_weights. Give one a place, in the places' order."
            )
        self.places = pairs
        self.student_taps = dict(zip(pairs, pairs, strict=True))
        self.teacher_taps = self.places
        self.weights = {place: w / factor for place, w in zip(pairs, shares, strict=True)}
        self.reducer = reducer
        self.norm = norm
        self.remainder = remainder
        steps = None if every_steps is None else Steps(every_steps, slow_from, slow_every)
        self.calibration = Calibration(steps or Epochs(every_epochs), images, transform)
        self.stages = PlaceModules()
        self.found_on = 0  # images, for the present flow; 0 while there is none
        self.observed = 0  # images since then, in this process

    def setup(self, step: Step) -> None:
        """Make a stage for each place, and take the teacher's margins."""
        for place, taught in self.places.items():
            try:
                self.stages[place] = self._new_stage(
                    step.student.features[place], step.taught.features[place]
                )
                self._take_margin(place, step)
            except ValueError as error:
                raise ValueError(f"MGD, student's {place}, teacher's {taught}: {error}") from None

    def _new_stage(self, student: Any, teacher: Any) -> "Stage":
        for side, feature in (("student", student), ("teacher", teacher)):
            if not isinstance(feature, Tensor) or feature.dim() != 4:
                found = getattr(feature, "shape", type(feature).__name__)
                raise ValueError(
                    f"the {side} gives {found} where one map (B, C, H, W) is expected. Name the "
                    "levels of a list one by one."
                )
        same_map(student, teacher)
        channels, teachers = student.shape[1], teacher.shape[1]
        if teachers < channels:
            raise ValueError(
                f"the teacher has {teachers} channels and the student {channels}, each of which "
                "needs one to guide it. Choose a wider teacher, or another place."
            )
        count = 1 if self.reducer == "sm" else teachers // channels
        return Stage(_new_norm(self.norm, channels), (channels, count), teachers)

    def _take_margin(self, place: str, step: Step) -> None:
        stage, norm = self._stage(place), norm_before(step.taught.model, self.places[place])
        margin = margin_of(norm)
        if margin.dim() and margin.shape != stage.margin.shape:
            raise ValueError(
                f"the teacher's feature has {len(stage.margin)} channels and the norm that ends "
                f"it, a {type(norm).__name__}, {len(margin)}. Choose a place that ends in a norm "
                "over all of its channels."
            )
        stage.margin.copy_(margin)

    def _stage(self, place: str) -> "Stage":
        stage = self.stages[place]
        assert isinstance(stage, Stage)
        return stage

    def forward(self, step: Step) -> dict[str, Tensor]:
        """One distance for each place, divided by the images of the global batch."""
        if not self.found_on:
            raise RuntimeError(
                "MGD has no flow yet: which teacher channels guide which student channel is found "
                "on many images before the first step. limbeck's training does that. In a loop of "
                "your own, call observe(images, targets) of the Distillation with some batches, "
                "then solve(), or load a checkpoint."
            )
        teacher = step.taught.features
        share = step.world_size / step.global_batch  # DDP takes the mean over the processes
        return {
            place: self._stage(place)(student, teacher[place], self.reducer) * share
            for place, student in step.student.features.items()
        }

    def matched(self, step: Step, place: str) -> tuple[Tensor, Tensor, Tensor]:
        """What is compared at one of the student's places, for whoever wants to look at it.

        Args:
            step: One step of the pair.
            place: The student's place.

        Returns:
            The student's map behind its norm and the teacher's reduced map, (B, S, H, W) both, and
            the teacher channels that guide each student channel, (S, k).
        """
        stage = self._stage(place)
        features = step.student.features[place], step.taught.features[place]
        student, target, _ = stage.matched(*features, self.reducer)
        return student, target, stage.flow

    @torch.no_grad()
    def observe(self, step: Step) -> None:
        """Add one batch to the costs, and with the first one take the teacher's present margins."""
        for place, student in step.student.features.items():
            if not self.observed:  # the teacher's weights may have been loaded after setup
                self._take_margin(place, step)
            self._stage(place).observe(student, step.taught.features[place])
        self.observed += len(step.images)

    @torch.no_grad()
    def solve(self) -> None:
        """Find the flow by what all processes have observed since the last time.

        The first process solves and tells the others, so that they agree however they compute.

        Raises:
            RuntimeError: No image has been observed since the last time.
            ValueError: A feature was not finite.
        """
        costs = {place: self._stage(place).take_cost() for place in self.places}
        images = next(iter(costs.values())).new_tensor(self.observed)
        self.observed = 0
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        if processes > 1:
            for total in (images, *costs.values()):
                distributed.all_reduce(total)
        if not images:
            raise RuntimeError("MGD has observed no image since the last solve(); call observe()")
        dead = [place for place, cost in costs.items() if not cost.isfinite().all()]
        if dead:
            raise ValueError(
                f"MGD: features that are not finite at {', '.join(dead)}: no channel matches them. "
                "Has training diverged?"
            )
        for place, cost in costs.items():
            flow = self._stage(place).flow
            if processes == 1 or distributed.get_rank() == 0:
                flow.copy_(self._match(cost, flow.shape[1]))
            if processes > 1:
                distributed.broadcast(flow, src=0)
        self.found_on = int(images)

    def _match(self, cost: Tensor, count: int) -> Tensor:
        if self.remainder == "index" and self.reducer != "sm":
            cost = cost[:, : len(cost) * count]
        return torch.from_numpy(cheapest_columns(cost.cpu().numpy(), count))

    def picture(self, step: Step) -> Matrices:
        """The flow matrix of every place, over how alike the channels are on a batch."""
        if not self.found_on:
            raise ValueError(
                "MGD has no flow yet, which training finds before its first step. Show a run that "
                "has begun, by one of its checkpoints (--checkpoint)."
            )
        flows: dict[str, Matrix] = {}
        for place, student in step.student.features.items():
            flow = self._stage(place).flow
            alike = 1 - channel_distances(student, step.taught.features[place]) / 2 / len(student)
            rows = torch.arange(len(flow), device=flow.device).repeat_interleave(flow.shape[1])
            flows[place] = Matrix(alike, torch.stack([rows, flow.flatten()], dim=1))
        return Matrices(
            "The flow matrices of Matching Guided Distillation. A dot says which teacher channel "
            "guides which student channel; a column without a dot guides none. The colour behind "
            "says how alike the two channels are on the images of one batch (cosine similarity): "
            f"blue where they agree, orange where they are opposite. The flow was found on "
            f"{self.found_on:,} images.",
            "student channel",
            "teacher channel",
            "cosine similarity",
            flows,
        )

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The student's norm at that place."""
        return self._stage(student_tap).norm

    def get_extra_state(self) -> dict[str, int]:
        """How many images the flow was found on."""
        return {"images": self.found_on}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take that number; in a checkpoint from before the first calibration it is 0."""
        self.found_on = state["images"]


class Stage(nn.Module):
    """One place: the student's norm there, the flow, and the teacher's margins.

    Args:
        norm: The norm over the student's S channels.
        flow: The shape of the flow, S and k.
        teachers: T, the number of the teacher's channels.

    Attributes:
        norm: The norm over the student's S channels.
        flow: The teacher channels that guide each student channel, (S, k), int64.
        margin: The margin of each teacher channel, (T,).
    """

    norm: nn.Module
    flow: Tensor
    margin: Tensor

    def __init__(self, norm: nn.Module, flow: tuple[int, int], teachers: int) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("flow", torch.zeros(flow, dtype=torch.int64))
        self.register_buffer("margin", torch.zeros(teachers))
        # No buffer: between calibrations DDP would send it around in every step.
        self.cost: Tensor | None = None

    def forward(self, student: Tensor, teacher: Tensor, reducer: Reducer) -> Tensor:
        """The distance L of one batch, a scalar, from (B, S, H, W) and (B, T, H, W)."""
        return partial_distance(*self.matched(student, teacher, reducer))

    def matched(
        self, student: Tensor, teacher: Tensor, reducer: Reducer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The student's map s behind its norm, and the reduced teacher's map with its margin m."""
        reduce_feature, reduce_margin = REDUCERS[reducer]
        target = reduce_feature(guides(teacher, self.flow))  # (B, S, H, W)
        margin = reduce_margin(guides(self.margin[None, :, None, None], self.flow))  # (1, S, 1, 1)
        return self.norm(student).float(), target.float(), margin

    def observe(self, student: Tensor, teacher: Tensor) -> None:
        """Add one batch to the cost D, of the student's feature as it is, not behind the norm."""
        cost = channel_distances(student, teacher).double()
        self.cost = cost if self.cost is None else self.cost.add_(cost)

    def take_cost(self) -> Tensor:
        """The sum D over the images observed since the last time, (S, T), float64."""
        cost, self.cost = self.cost, None
        if cost is None:  # this process had no part of the images
            return self.margin.new_zeros(len(self.flow), len(self.margin), dtype=torch.float64)
        return cost


def _new_norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "synchronised":
        return nn.SyncBatchNorm(channels)
    if channels % GROUPS:
        raise ValueError(
            f"the student's {channels} channels do not make {GROUPS} groups of a group norm. Use "
            "norm 'batch' or 'synchronised'."
        )
    return nn.GroupNorm(GROUPS, channels)
