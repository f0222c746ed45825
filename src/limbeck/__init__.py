'''limbeck distils heavy image classifiers and object detectors into light ones.

``Distillation(student, teacher, methods)`` is an ``nn.Module``; one call to it with a batch gives
named losses. Everything else builds its three arguments, feeds it, or reports on it.

This is a tour of all public names, which runs as it stands (a test runs it, but for two lines).
Each name is imported when it is first used.

**Models and data.** Images are RGB in [0, 1], boxes are xyxy in pixels, and labels count from 1.

>>> import limbeck, tempfile, torch
>>> from limbeck import Distillation, data, methods, models
>>> arguments = {"num_classes": 5, "levels": (3, 4), "fpn_channels": 16, "head_depth": 1}
>>> teacher = models.RetinaNet(models.BasicBlocks((1, 1, 1), (16, 16, 32)), **arguments)
>>> student = models.RetinaNet(models.BasicBlocks((1, 1, 1), (8, 8, 16)), **arguments)
>>> shapes = data.Shapes(count=2, size=64)
>>> images = [image.float() / 255 for image, _ in shapes]
>>> targets = [target for _, target in shapes]

**Places in a model** are named by a landmark or by a module path; ``Taps`` reads them, and a
``TapError`` says what is wrong with one. A ``Tap`` says more than a name can. ``norm_of`` gives the
norm behind which a place is read. ``register_family`` teaches limbeck the landmarks of a family of
models: it takes a function that gives ``{name: Tap}`` for the models that it knows.

>>> places = limbeck.landmarks(student)
>>> [name for name in places if name.startswith(("C", "P"))]
['C2', 'C2.pre', 'C3', 'C3.pre', 'C4', 'C4.pre', 'P3', 'P4']
>>> taps = {"stage": "C3", "input": limbeck.Tap("backbone.body", side="input")}
>>> with limbeck.Taps(student, taps, stop_early=True) as seen:
...     losses = student(images, targets)
>>> seen["stage"].shape, seen["input"].shape
(torch.Size([2, 8, 8, 8]), torch.Size([2, 3, 64, 64]))
>>> limbeck.Taps(student, ["backbone.bodi"])
Traceback (most recent call last):
limbeck.tap.TapError: RetinaNet has neither a landmark nor a module 'backbone.bodi'. ...
>>> limbeck.norm_of(student, "C3")
FrozenBatchNorm2d(8, eps=1e-05)
>>> def mine(model):
...     return {"neck": limbeck.Tap("middle.neck")} if type(model).__name__ == "Mine" else {}
>>> limbeck.register_family(mine)

**A distillation** gives ``Losses`` by name. ``check`` refuses one that is not alive with a
``NotAliveError``, and ``balance`` shows how its terms compare.

>>> pair = Distillation(student, teacher, [methods.FitNet(["fpn"])])
>>> losses = pair(images, targets)
>>> isinstance(losses, limbeck.Losses), list(losses)
(True, ['student/classification', 'student/bbox_regression', 'FitNet/fpn.0', 'FitNet/fpn.1'])
>>> losses.total.backward()
>>> len(limbeck.check(pair, images, targets).connections)
1
>>> optimizer = torch.optim.SGD(teacher.parameters(), lr=0.01)
>>> limbeck.check(pair, images, targets, optimizer)
Traceback (most recent call last):
limbeck.wiring.NotAliveError: teacher parameter 'backbone.body.conv1.weight' would be trained: ...
>>> shares = {term.name: term.share for term in limbeck.balance(pair, images, targets).terms}
>>> shares["FitNet/fpn.0"] > shares["FitNet/fpn.1"] > 0
True

**A method of one's own** is a subclass of ``Method``. ``adapters`` bring its features to one
shape, and ``schedules`` are weights that change during training.

>>> class MeanMatching(limbeck.Method):
...     """Matches the means of one feature map's channels."""
...
...     def __init__(self, place: str = "C3") -> None:
...         super().__init__()
...         self.student_taps = self.teacher_taps = {"map": place}
...         self.weights = {"mean": limbeck.schedules.WarmUp(1.0, steps=100)}
...
...     def setup(self, step):
...         student, teacher = step.student.features["map"], step.taught.features["map"]
...         self.adapter = limbeck.adapters.convolution(student, teacher)
...
...     def forward(self, step):
...         student = self.adapter(step.student.features["map"]).float().mean((0, 2, 3))
...         teacher = step.taught.features["map"].float().mean((0, 2, 3))
...         return {"mean": torch.nn.functional.mse_loss(student, teacher)}
>>> list(Distillation(student, teacher, [MeanMatching()])(images, targets))[2:]
['MeanMatching/mean']

**The student is kept** alone, with what is needed to build it. ``metrics`` judge it, ``report``
says what it costs, and ``checkpoints`` read and write the files of other libraries.

>>> folder = tempfile.TemporaryDirectory()
>>> limbeck.save_student(student, folder.name, classes=shapes.classes)
>>> kept = limbeck.load_student(folder.name)
>>> metric = limbeck.metrics.VOCAveragePrecision(shapes.classes)
>>> metric.update(kept(images), targets)
>>> metric.compute()[metric.headline] <= 1
tensor(True)
>>> limbeck.report.measure_cost(kept, (64, 64)).parameters
28914
>>> file = limbeck.checkpoints.read_file(f"{folder.name}/student.safetensors")
>>> file.tensors["backbone.body.conv1.weight"].shape
torch.Size([8, 3, 3, 3])

``training`` is what ``limbeck fit`` trains a pair with, for Lightning's ``Trainer``.

>>> from lightning import Trainer
>>> from limbeck.training import DataModule, DistillationModule, Optimizer
>>> fitnet = {"fitnet": methods.FitNet(["fpn"])}
>>> module = DistillationModule(student, teacher, fitnet, optimizer=Optimizer(lr=0.01))
>>> loaders = DataModule(val=shapes, train=shapes, batch_size=2, workers=0)
>>> trainer = Trainer(max_steps=100, use_distributed_sampler=False)
>>> trainer.fit(module, loaders)  # doctest: +SKIP

**Whether anything was gained** is told by ``compare``, which trains a plain student, distilled ones
and their controls over several seeds, and writes a report. ``comparison`` has what it is made of.

>>> recipe = {"data": {"val": {"class_path": "limbeck.data.Shapes"}}, "trainer": {"max_epochs": 9}}
>>> taught = {"model": {"methods": {"fitnet": {"class_path": "limbeck.methods.FitNet"}}}}
>>> mine = limbeck.comparison.Comparison("Mine", plain=(recipe,), rows={"FitNet": (taught,)})
>>> findings = limbeck.compare(mine, "runs/mine")  # doctest: +SKIP
'''

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck import (
        adapters,
        checkpoints,
        comparison,
        data,
        methods,
        metrics,
        models,
        report,
        schedules,
        training,
    )
    from limbeck.balancing import balance
    from limbeck.comparison import compare
    from limbeck.distillation import Distillation
    from limbeck.landmarks import landmarks, norm_of, register_family
    from limbeck.losses import Losses
    from limbeck.methods import Method
    from limbeck.models import load_student, save_student
    from limbeck.tap import Tap, TapError
    from limbeck.taps import Taps
    from limbeck.wiring import NotAliveError, check

__version__ = "0.1.0"

__all__ = [
    "Distillation",
    "Losses",
    "Method",
    "NotAliveError",
    "Tap",
    "TapError",
    "Taps",
    "adapters",
    "balance",
    "check",
    "checkpoints",
    "compare",
    "comparison",
    "data",
    "landmarks",
    "load_student",
    "methods",
    "metrics",
    "models",
    "norm_of",
    "register_family",
    "report",
    "save_student",
    "schedules",
    "training",
]

# Where the names are that are no modules themselves.
_MODULES = {
    "Distillation": "distillation",
    "Losses": "losses",
    "Method": "methods",
    "NotAliveError": "wiring",
    "Tap": "tap",
    "TapError": "tap",
    "Taps": "taps",
    "balance": "balancing",
    "check": "wiring",
    "compare": "comparison",
    "landmarks": "landmarks",
    "load_student": "models",
    "norm_of": "landmarks",
    "register_family": "landmarks",
    "save_student": "models",
}


class _Package(ModuleType):
    """A package whose ``landmarks`` stays the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds a submodule to its package's attribute once it is imported.
        if name == "landmarks" and isinstance(value, ModuleType):
            value = value.landmarks
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # or mypy would believe that every name exists

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_MODULES.get(name, name)}")
        value = getattr(module, name) if name in _MODULES else module
        setattr(sys.modules[__name__], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | set(__all__))
