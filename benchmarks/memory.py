"""What a distillation step holds at its peak, beside a plain step and the teacher's forward.

    python benchmarks/memory.py [--write]

Exact bytes of torch's allocator (the profiler's record of it on a CPU, the allocator's own peak on
a GPU) above what was held before the step: weights, gradients' absence and momentum are not in it.
The teacher runs first and stops after its last tap, so the peak should be the larger of the plain
step's and the teacher's, plus the features that the methods compare and what comes of them.
"""

import os

# Before torch is imported, as in the other benchmarks.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from limbeck import Distillation
from limbeck.frame import network_frame
from limbeck.tap import tensors_in
from measuring import Step, begin, conditions, device, publish, settings
from precision import FLOAT32, moved, pairs, step_of

MIB = 2**20


def peak(step: Step) -> float:
    """The most that is held during a step above what was held before it, MiB."""
    step()  # momentum, and whatever else the first one allocates for good
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / MIB


def weights(model: nn.Module) -> float:
    """Parameters and buffers, MiB."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers())) / MIB


def line(name: str, pair: Distillation, batch: tuple) -> str:
    """The pair, measured."""
    features: list[float] = []

    def teach() -> None:
        with network_frame(pair.teacher):
            seen = pair._taught[None].teach(batch[0], pair.student)[1]
        features.append(sum(t.nbytes for t in tensors_in(seen)) / MIB)

    alone = Distillation(copy.deepcopy(pair.student))
    plain, taught = peak(step_of(alone, batch, FLOAT32)), peak(step_of(pair, batch, FLOAT32))
    teacher = peak(teach)
    floor = max(plain, teacher) + features[-1]
    cells = [weights(pair.student), weights(pair.teacher), plain, teacher, features[-1], taught]
    return f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} | {taught / floor:.2f} |"


HEAD = """\
| step, MiB | student's weights | teacher's weights | plain step | teacher's forward | \
hints | distilled step | / (max of plain and teacher + hints) |
|---|---|---|---|---|---|---|---|"""


def table() -> Iterator[str]:
    """The table, line by line."""
    yield f"Classification 8 x 160 px, detection 2 x 256 px; {conditions()}.\n\n{HEAD}"
    for name, pair, batch in pairs():
        yield line(name, pair.to(device()), moved(batch))


def main() -> None:
    """Measure and print the table."""
    options = settings(__doc__).parse_args()
    begin()
    publish("benchmarks/memory.py", table(), options.write)


if __name__ == "__main__":
    main()
