"""The same distillation steps by limbeck, by torchdistill and by hand, in one run.

    pip install -e ".[benchmarks]"
    python benchmarks/beside_torchdistill.py [--rounds 10] [--write]

R = step / (plain student step + the part of the teacher's forward that the method needs, under
inference_mode), of ResNet-50 and ResNet-18. "By hand, at once" runs each adapter as soon as its map
is there, in the student's forward pass, where the others run them after it: whether the map has
left the cache by then would show between the two.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdistill.common.constant import SELF_MODULE_PATH
from torchdistill.core.distillation import get_distillation_box

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from measuring import CPU, WALL, Step, above, begin, interleaved, publish, ratios, settings, spread
from step_ratio import (
    CLASSES,
    LAYERS,
    classifier,
    distilled,
    hint_by_hand,
    hints_by_hand,
    inference,
    kd_by_hand,
    logits_of,
    plain,
    training_step,
    trunk,
)

CHANNELS = {"layer2": (128, 512), "layer3": (256, 1024), "layer4": (512, 2048)}
Config = dict[str, Any]

# -- torchdistill ---------------------------------------------------------------------------------


def torchdistills_step(teacher: nn.Module, images: Tensor, labels: Tensor, config: Config) -> Step:
    """A step of its box of teacher, student and losses, with its own backward and optimizer."""
    optimizer = {"key": "SGD", "kwargs": {"lr": 1e-4, "momentum": 0.9}}
    box = get_distillation_box(
        teacher,
        classifier("resnet18").train(),
        {},
        {"num_epochs": 1, "optimizer": optimizer, **config},
        device=torch.device("cpu"),
        device_ids=None,
        distributed=False,
        lr_factor=1,
    )

    def step() -> None:
        box.post_forward_process(box.forward_process(images, labels, None))

    return step


def kd_config() -> Config:
    """Soft labels at a temperature of 4 beside the labels."""
    logits = {"student_module_path": SELF_MODULE_PATH, "teacher_module_path": SELF_MODULE_PATH}
    ends = {"student_module_io": "output", "teacher_module_io": "output"}
    loss = {"key": "KDLoss", "kwargs": {**logits, **ends, "temperature": 4, "alpha": 1, "beta": 1}}
    return {
        "teacher": {"requires_grad": False, "forward_proc": "forward_batch_only"},
        "student": {"forward_proc": "forward_batch_only"},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1}}},
        },
    }


def hints_config() -> Config:
    """Mean squared errors on three stages behind 1x1 convolutions, beside the labels."""
    connectors = {
        layer: {
            "conv2d_kwargs": {"in_channels": few, "out_channels": many, "kernel_size": 1},
            "io": "output",
            "path": f"student_model.{layer}",
        }
        for layer, (few, many) in CHANNELS.items()
    }
    terms = {
        layer: term("MSELoss", output(f"connector_dict.{layer}"), output(layer, of_teacher=True))
        for layer in CHANNELS
    }
    labels = term("CrossEntropyLoss", output(SELF_MODULE_PATH), {"uses_label": True})
    student = [f"student_model.{layer}" for layer in CHANNELS]
    adapted = [f"connector_dict.{layer}" for layer in CHANNELS]
    return {
        "teacher": {
            "requires_grad": False,
            "forward_proc": "forward_batch_only",
            "forward_hook": {"output": list(CHANNELS)},
        },
        "student": {
            "forward_proc": "forward_batch_only",
            "auxiliary_model_wrapper": {
                "key": "Connector4DAB",
                "kwargs": {"connectors": connectors},
            },
            "forward_hook": {"output": [*student, *adapted]},
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"labels": labels, **terms}},
        },
    }


def output(module: str, *, of_teacher: bool = False) -> Config:
    """What a loss reads."""
    return {"is_from_teacher": of_teacher, "module_path": module, "io": "output"}


def term(loss: str, left: Config, right: Config) -> Config:
    """A loss of torch's between two of them."""
    wrapper = {"key": "SimpleLossWrapper", "kwargs": {"input": left, "target": right}}
    criterion = {"key": loss, "kwargs": {}}
    return {"criterion": criterion, "criterion_wrapper": wrapper, "weight": 1}


# -- by hand --------------------------------------------------------------------------------------


def hints_at_once(teacher: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """Each adapter and its loss as soon as its map is there."""
    student = classifier("resnet18").train()
    adapters = nn.ModuleDict({layer: nn.Conv2d(*few, 1) for layer, few in CHANNELS.items()})

    def loss() -> Tensor:
        with torch.no_grad():
            hints = dict(zip(CHANNELS, trunk(teacher, images), strict=True))
        x = student.maxpool(student.relu(student.bn1(student.conv1(images))))
        terms = []
        for layer in LAYERS:
            x = getattr(student, layer)(x)
            if layer in hints:
                terms.append(F.mse_loss(adapters[layer](x), hints[layer]))
        return F.cross_entropy(logits_of(student, x), labels) + sum(terms)

    return training_step([*student.parameters(), *adapters.parameters()], loss)


# -- measuring ------------------------------------------------------------------------------------


def lines(size: int, batch: int, rounds: int) -> Iterator[str]:
    """The table, line by line."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(CLASSES, (batch,))
    teacher = classifier("resnet50").eval()

    def limbecks(method: KD | FitNet) -> Step:
        pair = Distillation(classifier("resnet18"), classifier("resnet50"), [method])
        return distilled(pair, images, labels)

    rows = {
        "KD on logits": (
            inference(lambda: teacher(images)),
            {
                "limbeck": limbecks(KD()),
                "torchdistill": torchdistills_step(
                    classifier("resnet50").eval(), images, labels, kd_config()
                ),
                "by hand": kd_by_hand(teacher, images, labels),
            },
        ),
        "three stages behind 1x1 adapters": (
            inference(lambda: trunk(teacher, images)),
            {
                "limbeck": limbecks(FitNet(["C3", "C4", "C5"], adapter="conv")),
                "torchdistill": torchdistills_step(
                    classifier("resnet50").eval(), images, labels, hints_config()
                ),
                "by hand": hints_by_hand(teacher, images, labels, hint_by_hand(adapted=True)),
                "by hand, at once": hints_at_once(teacher, images, labels),
            },
        ),
    }
    what = f"{batch} x {size} px, torchdistill {version('torchdistill')}"
    yield f"{above(what, rounds)}\n\n{HEAD}"
    for name, (needed, steps) in rows.items():
        floor = [plain(images, labels), needed]
        measured = interleaved([*steps.values(), *floor], rounds)
        for whose, step in steps.items():
            own = [spread(ratios(measured, step, floor, clock)) for clock in (CPU, WALL)]
            by = [spread(ratios(measured, step, [steps["limbeck"]], CPU))]
            yield f"| {name} | {' | '.join([whose, *own, *by])} |"


HEAD = """\
| step, R50 -> R18 | by | R, CPU time | R, wall | / limbeck, CPU time |
|---|---|---|---|---|"""


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=10)
    parser.add_argument("--size", type=int, default=160, help="height and width, pixels")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    options = parser.parse_args()
    begin()
    found = lines(options.size, options.batch, options.rounds)
    publish("benchmarks/beside_torchdistill.py", found, options.write)


if __name__ == "__main__":
    main()
