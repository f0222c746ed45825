"""What Matching Guided Distillation costs: a flow update, and a training step.

    python benchmarks/mgd.py [--rounds 10] [--only update step] [--write]

Each beside the published procedure, written out here as the authors' code has it: for tracking, a
product of channels for each image; for matching, one arc after the other of integer costs, handed
to a solver (scipy's: theirs is no longer to be had, so their own solving time is not in it); for a
step, a teacher with an autograd graph, and argmax over a stack of channels. "Plain" is a short way
with the same result: an einsum, and scipy with teachers as rows, tiled for the students' copies.
Features are those of ResNet-50 and ResNet-18 with fresh weights.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import statistics
from collections.abc import Iterator

import numpy as np
import timm
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Distillation, Taps
from limbeck.methods import MGD
from limbeck.methods.mgd.matching import channel_distances, cheapest_columns
from measuring import CPU, Step, above, begin, interleaved, publish, ratios, settings, spread
from step_ratio import CLASSES, HEAD, Row, classifier, distilled, inference, line, training_step

PLACES = ["C2.pre", "C3.pre", "C4.pre", "C5.pre"]


# -- the published procedure ----------------------------------------------------------------------


def published_tracking(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances (S, T), by way of (B, S, T)."""
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (student, teacher))
    return (2 - 2 * torch.bmm(s, t.transpose(1, 2))).sum(0)


def published_matching(cost: np.ndarray, count: int) -> np.ndarray:
    """The flow, from integer costs that are handed over one by one."""
    whole = (1e5 * np.concatenate([cost] * count)).astype(np.int64)
    arcs = []
    for copy in range(len(whole)):
        for teacher in range(len(whole)):
            arcs.append((copy, teacher, int(whole[copy, teacher])))  # noqa: PERF401 - as it was
    table = np.empty_like(whole)
    rows, columns, values = zip(*arcs, strict=True)
    table[list(rows), list(columns)] = values
    return linear_sum_assignment(table)[1].reshape(count, -1).T


def published_distance(student: Tensor, teacher: Tensor, flow: Tensor, margin: Tensor) -> Tensor:
    """Absolute max pooling and the partial distance."""
    stack = torch.stack([teacher[:, chosen] for chosen in flow.T], dim=2)  # (B, S, k, H, W)
    strongest = stack.abs().argmax(dim=2, keepdim=True)
    target = stack.gather(2, strongest).squeeze(2).detach()
    target = torch.max(target, margin[flow].mean(1)[None, :, None, None])
    mask = ((student > target) | (target > 0)).float()
    return (F.mse_loss(student, target, reduction="none") * mask).sum()


# -- a flow update --------------------------------------------------------------------------------


def plain_tracking(student: Tensor, teacher: Tensor) -> Tensor:
    """Distances (S, T), with one product."""
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (student, teacher))
    return 2 * len(s) - 2 * torch.einsum("bsp,btp->st", s, t)


def plain_matching(cost: np.ndarray, count: int) -> np.ndarray:
    """The flow, from costs with teachers as rows."""
    return linear_sum_assignment(np.tile(cost.T, (1, count)))[1]


def compared(name: str, steps: list[Step], rounds: int) -> str:
    """Seconds of limbeck's, and its time in units of the plain and the published procedure."""
    measured = interleaved(steps, rounds, warm_up=1)
    seconds = statistics.median(times[steps[0]][CPU] for times in measured)
    others = [spread(ratios(measured, steps[0], [step], CPU)) for step in steps[1:]]
    return f"| {name} | {seconds:.4f} | {' | '.join(others)} |"


def update_lines(batch: int, rounds: int) -> Iterator[str]:
    """Tracking one batch and matching, at every size of ResNet-50 -> ResNet-18."""
    yield "| flow update, CPU time | seconds | / plain | / published |\n|---|---|---|---|"
    images = torch.rand(batch, 3, 224, 224)
    features = []
    for name in ("resnet18", "resnet50"):
        network = classifier(name).eval()
        with Taps(network, PLACES) as seen:
            network(images)
        features.append(seen)
    for place in PLACES:
        student, teacher = (seen[place] for seen in features)
        channels, teachers = student.shape[1], teacher.shape[1]
        name = f"{channels} and {teachers} channels"
        tracking = [
            lambda s=student, t=teacher, f=track: f(s, t)
            for track in (channel_distances, plain_tracking, published_tracking)
        ]
        yield compared(f"track {batch} images, {name}", tracking, rounds)
        cost = channel_distances(student, teacher).double().numpy() / batch
        count = teachers // channels
        matching = [
            lambda c=cost, k=count, f=match: f(c, k)
            for match in (cheapest_columns, plain_matching, published_matching)
        ]
        yield compared(f"match, {name}", matching, rounds)
        sparse = [
            lambda c=cost: cheapest_columns(c, 1),
            lambda c=cost: linear_sum_assignment(c),
            lambda c=cost: published_matching(padded(c), 1),
        ]
        yield compared(f"match sparsely (sm), {name}", sparse, rounds)


def padded(cost: np.ndarray) -> np.ndarray:
    """Costs (T, T) with students that are none, as sparse matching was published."""
    channels, teachers = cost.shape
    return np.pad(cost, ((0, teachers - channels), (0, 0)), constant_values=1e6)


# -- a training step ------------------------------------------------------------------------------


def student_network() -> nn.Module:
    """MobileNetV1."""
    return timm.create_model("mobilenetv1_100", num_classes=CLASSES, act_layer="relu").train()


def published_step(pair: Distillation, teacher: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """A step with the flow and margins of ``pair``."""
    student = student_network()
    method = pair.methods["MGD"]
    teacher.requires_grad_()
    norms = nn.ModuleList(nn.BatchNorm2d(method.adapter_of(place).num_features) for place in PLACES)
    stages = [method.stages[place.replace(".", "_")] for place in PLACES]
    taps = [Taps(model, PLACES) for model in (teacher, student)]
    for tap, model in zip(taps, (teacher, student), strict=True):
        tap.learn(lambda model=model: model(images[:2]))

    def loss() -> Tensor:
        logits, guided = taps[1].read(lambda: student(images))
        _, hints = taps[0].read(lambda: teacher(images))
        total = F.cross_entropy(logits, labels)
        for place, norm, stage in zip(PLACES, norms, stages, strict=True):
            distance = published_distance(
                norm(guided[place]), hints[place], stage.flow, stage.margin
            )
            total = total + method.weights[place] * distance / len(images)
        return total

    return training_step([*student.parameters(), *norms.parameters()], loss)


def trunk_of(network: nn.Module, images: Tensor) -> Tensor:
    """A ResNet as far as C5."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


def step_line(batch: int, size: int, rounds: int) -> str:
    """R of a step, and of the published one ("by hand")."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(CLASSES, (batch,))
    teacher, alone = classifier("resnet50").eval(), student_network()
    pair = Distillation(student_network(), teacher, [MGD(PLACES)])
    pair.observe(images, labels)
    pair.solve()
    published = published_step(pair, classifier("resnet50").eval(), images, labels)
    row = Row(
        "MGD (amp), R50 -> MobileNetV1",
        distilled(pair, images, labels),
        (
            training_step(list(alone.parameters()), lambda: F.cross_entropy(alone(images), labels)),
            inference(lambda: trunk_of(teacher, images)),
        ),
        published,
    )
    return line(row, rounds)


def tables(options: argparse.Namespace) -> Iterator[str]:
    """The tables, line by line."""
    yield above(f"Steps of {options.batch} x {options.size} px", options.rounds) + "\n"
    if not options.only or "step" in options.only:
        yield HEAD.replace("by hand", "as published")
        yield step_line(options.batch, options.size, options.rounds) + "\n"
    if not options.only or "update" in options.only:
        with torch.inference_mode():
            yield from update_lines(options.tracked, options.rounds)


def main() -> None:
    """Measure and print the tables."""
    parser = settings(__doc__, rounds=10)
    parser.add_argument("--batch", type=int, default=8, help="images a training step")
    parser.add_argument("--size", type=int, default=160, help="their height and width, pixels")
    parser.add_argument("--tracked", type=int, default=32, help="images a tracked batch, 224 px")
    parser.add_argument("--only", nargs="*", choices=["update", "step"])
    options = parser.parse_args()
    begin()
    publish("benchmarks/mgd.py", tables(options), options.write)


if __name__ == "__main__":
    main()
