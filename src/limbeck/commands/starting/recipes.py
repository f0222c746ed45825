"""The four files that ``limbeck new`` writes, with a sentence above each choice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.commands.starting import rules
from limbeck.commands.starting.commented import Chosen, as_text, plain
from limbeck.commands.starting.detectors import least_side
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.methods import USUAL, distilled_by
from limbeck.commands.starting.models import named, usual_names
from limbeck.commands.starting.named_model import Model
from limbeck.names import in_shell

FILES = ("teacher.yaml", "student.yaml", "distilled.yaml", "comparison.yaml")
_METRICS = {"KITTI": "kitti"}


@dataclass(frozen=True)
class Beginning:
    """All that was chosen.

    Attributes:
        data: What the data are like.
        folder: The folder of the recipes.
        side: The side of images, and why.
        size: ``[shorter, longer]`` side of images in detection, the one side in classification.
        teacher: The teacher.
        student: The student.
        method: What a recipe states of the method.
        name: The method's name.
    """

    data: Measured
    folder: Path
    side: Chosen
    size: Any
    teacher: Model
    student: Model
    method: Mapping[str, Any]
    name: str

    @classmethod
    def of(
        cls,
        data: Measured,
        folder: Path,
        teacher: str | None,
        student: str | None,
        method: str | None,
    ) -> "Beginning":
        """Choose everything.

        Args:
            data: What the data are like.
            folder: The folder of the recipes.
            teacher: The teacher's word. None: the usual one.
            student: The student's word. None: the usual one.
            method: The method's name. None: the usual one.

        Returns:
            What was chosen.

        Raises:
            ValueError: A model or a method is not there, or does not suit the data.
        """
        detects = data.task == "detection"
        words = [
            given or usual
            for given, usual in zip((teacher, student), usual_names(data), strict=True)
        ]
        side = rules.classified_side(data)
        size: Any = side.value
        if detects:
            side = rules.short_side(data, least_side(words))
            size = [side.value, rules.long_side(data, side.value)]
        first, second = (named(word, data, size) for word in words)
        if "letterbox" in (first.form, second.form):
            side, size = _in_a_letterbox(side, first, second)
            first, second = (named(word, data, size) for word in words)
        stated = distilled_by(method or USUAL[data.task], data.task, first, second)
        name = next(iter(stated["methods"].values())).value["class_path"].rpartition(".")[2]
        return cls(data, folder, side, size, first, second, stated, name)

    @property
    def run(self) -> Path:
        """The folder that `limbeck fit` leaves the teacher's run in."""
        return Path("runs", self.folder.resolve().name, "teacher")

    @property
    def compare(self) -> str:
        """The command that trains and compares all of it."""
        output = in_shell(self.run.with_name("comparison"))
        return f"limbeck compare {self._path('comparison.yaml')} --output {output}"

    @property
    def taught_by(self) -> Any:
        """The teacher, as the recipe of the distilled student states it."""
        if self.teacher.ready is not None:
            return Chosen(self.teacher.stated, f"It is not trained again. {self.teacher.ready}")
        folder = {"folder": str(self.run / "student")}
        return Chosen(
            {"class_path": "limbeck.models.load_student", "init_args": folder},
            "What `limbeck fit --config teacher.yaml` leaves. `limbeck compare` trains it first, "
            "and puts that one here.",
        )

    def texts(self) -> dict[str, str]:
        """The contents of the files by their names."""
        return {
            "teacher.yaml": self._teacher(),
            "student.yaml": self._student(),
            "distilled.yaml": self._distilled(),
            "comparison.yaml": self._comparison(),
        }

    def _path(self, name: str) -> str:
        """A file as a word of a command."""
        return in_shell(self.folder / name)

    def _teacher(self) -> str:
        model = self.teacher
        what = "the teacher, which is trained on these data first"
        if model.ready is not None:
            what = (
                "the teacher, which needs no training; this recipe trains it further, if you like"
            )
        count = self._epochs(model)
        if not model.from_scratch:
            count = rules.teacher_epochs(self._epochs(self.student).value)
        command = f"limbeck fit --config {self._path('teacher.yaml')}"
        return as_text(command, f"{model.word}: {what}", self._recipe(model, count))

    def _student(self) -> str:
        command = f"limbeck fit --config {self._path('student.yaml')}"
        what = f"{self.student.word}: the student ({self.student.parameters}), trained plainly"
        return as_text(command, what, self._recipe(self.student, self._epochs(self.student)))

    def _distilled(self) -> str:
        command = " ".join(["limbeck fit", *(f"--config {self._path(n)}" for n in FILES[1:3])])
        what = (
            f"The same student, taught by {self.teacher.word} with {self.name}. It is laid over "
            "student.yaml, so that the two differ in nothing else."
        )
        return as_text(command, what, {"model": {"teacher": self.taught_by, **self.method}})

    def _comparison(self) -> str:
        trained = {"recipe": "teacher.yaml"}
        recipe: dict[str, Any] = {
            "title": f"{self.data.layout.root.name}: {self.teacher.word} to {self.student.word}",
            "teacher": trained,
            "plain": "student.yaml",
            "rows": {self.name: "distilled.yaml"},
            "seeds": Chosen(
                [0, 1, 2],
                "Students are trained with each seed. One seed gives no verdict, three may; fewer "
                "take less time.",
            ),
        }
        if self.teacher.ready is not None:
            recipe["teacher"] = self.teacher.stated
        if self.data.splits.test is not None:
            why = "Images that chose nothing. Without this, students are scored on val."
            recipe["scored_on"] = Chosen(self.data.splits.test, why)
        trains = " It trains the teacher, too." if self.teacher.ready is None else ""
        what = (
            "What distillation gains against a student that is trained plainly: for as many steps, "
            f"for as long, and for twice as long.{trains} --dry-run says how long it takes. What "
            "is finished is taken over when the same command is given again."
        )
        return as_text(self.compare, what, recipe)

    def _epochs(self, model: Model) -> Chosen:
        batch = rules.batch_size(self.data).value
        return rules.epochs(self.data, batch, from_scratch=model.from_scratch)

    def _recipe(self, model: Model, count: Chosen) -> dict[str, Any]:
        trainer: dict[str, Any] = {
            "max_epochs": count,
            "check_val_every_n_epoch": rules.evaluation_interval(count.value),
            "gradient_clip_val": 0.1 if model.form == "transformer" else 10.0,
        }
        stated: dict[str, Any] = {"student": model.stated, **_learning(model)}
        if (metric := self._metric()) is not None:
            stated["metric"] = Chosen(metric, "The score of the benchmark whose layout this is.")
        return {"model": stated, "data": self._data(), "trainer": trainer}

    def _metric(self) -> str | None:
        layout = self.data.layout
        truth = "ground_truth" in self.data.splits.val["init_args"]
        return "widerface" if layout.name == "WIDER FACE" and truth else _METRICS.get(layout.name)

    def _data(self) -> dict[str, Any]:
        splits = self.data.splits
        stated = {
            "train": Chosen(splits.train, splits.why),
            "val": splits.val,
            "augmentation": self._augmentation(),
            "batch_size": rules.batch_size(self.data),
            "workers": 2,
        }
        if self.data.unreadable:
            why = "Some images cannot be read. Without this, training ends at the first of them."
            stated["on_bad_sample"] = Chosen("skip", why)
        return stated

    def _augmentation(self) -> Chosen:
        if self.data.task == "classification":
            arguments: dict[str, Any] = {"size": self.size, "scale": [0.5, 1.0], "jitter": 0.2}
            if self.size <= 64:
                arguments["resize"] = self.size  # of so small images nothing is cut off
            kind = "ClassificationAugmentation"
        else:
            kind, arguments = "DetectionAugmentation", self._of_boxes()
        stated = {"class_path": f"limbeck.data.{kind}", "init_args": arguments}
        why = f"{self.side.why} Set flip: 0 where no mirrored image could be taken, as of a text."
        return Chosen(stated, why)

    def _of_boxes(self) -> dict[str, Any]:
        """The size that both models are trained with: one for all where one of them needs it so."""
        fixed = next((m for m in (self.student, self.teacher) if m.form == "fixed"), None)
        if fixed is not None:
            return {"size": list(fixed.arguments["image_size"]), "flip": 0.5, "jitter": 0.2}
        short, long = self.size
        return {"short_sides": [short], "long_side": long, "flip": 0.5, "jitter": 0.2}


def _in_a_letterbox(side: Chosen, *models: Model) -> tuple[Chosen, list[int]]:
    """The size at which all models see images, where one has a letterbox: by their longer side."""
    frames = [plain(m.arguments["image_size"]) for m in models if m.form == "letterbox"]
    longer = max(max(frame) for frame in frames)
    why = f"{side.why} A letterbox brings the longer side of every image to {longer} px."
    return Chosen(longer, why), [longer, longer]


def _learning(model: Model) -> dict[str, Any]:
    """The optimizer and the learning rate, by what begins with weights."""
    optimizer: dict[str, Any] = {"name": "adamw", "lr": 1.0e-3, "weight_decay": 0.01}
    why = "What begins with weights moves slowly, and what begins at random fast."
    if model.form == "transformer":
        optimizer |= {"lr": 1.0e-4, "weight_decay": 1.0e-4}
        why = "As transformer detectors are trained: slowly, and their trunk slower still."
    elif model.from_scratch:
        optimizer["lr"] = 2.0e-3
        why = "It is trained from scratch, so all of it moves fast."
    elif model.form == "classifier":
        optimizer["lr"] = 3.0e-4
        why = "Nearly all of it begins with weights, so it moves slowly."
    elif model.ready is not None:
        optimizer["lr"] = 1.0e-4
        why = "It has learnt these classes, and is only to be refined."
    if model.pretrained is not None and _has(model, model.pretrained):
        optimizer["lr_factors"] = {model.pretrained: 0.1}
    shape = {"shape": "one_cycle", "warm_up": 0.1}
    return {
        "optimizer": Chosen(optimizer, why),
        "learning_rate": Chosen(
            shape, "Up for a tenth of the run and down to 0, which suits runs of any length."
        ),
    }


def _has(model: Model, prefix: str) -> bool:
    """Whether a model has parameters whose names begin so; of one on the hub it is taken for so."""
    if model.built is None:
        return True
    return any(name.startswith(prefix) for name, _ in model.built.named_parameters())
