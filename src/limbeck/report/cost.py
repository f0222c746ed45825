"""What a model costs to keep and to run: its parameters, GFLOPs and milliseconds."""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.frame import takes_list

WARM_UP, ROUNDS = 2, 7


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        parameters: The number of the model's parameters, including frozen ones.
        gflops: The floating-point operations in units of 1e9. A multiply-add counts as two (some
            papers count one).
        latency_ms: The time on one CPU thread, in milliseconds.
    """

    parameters: int
    gflops: float
    latency_ms: float


def measure_cost(model: nn.Module, size: tuple[int, int]) -> Cost:
    """Measure what one image costs a model in evaluation mode on the CPU.

    Operations are counted where PyTorch knows how: convolutions, matrix products and attention.
    A detector that resizes for itself is measured at the size it resizes to. Afterwards the model
    is on its device and in its mode as before.

    Args:
        model: A model that takes a batch (1, 3, H, W), or a list of one image (3, H, W) if it is a
            detector.
        size: The height and the width of the image, in pixels.

    Returns:
        The cost of the image.
    """
    with _evaluating_on_cpu(model), FlopCounterMode(display=False) as counter:
        _run(model, _image(size))
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gflops=counter.get_total_flops() / 1e9,
        latency_ms=measure_latencies({"": model}, size)[""],
    )


def measure_latencies(models: Mapping[str, nn.Module], size: tuple[int, int]) -> dict[str, float]:
    """Time several models fairly: round by round, each round in another order.

    A neighbour that keeps the machine busy for a while then slows down all of them alike.

    Args:
        models: The models, as for :func:`measure_cost`, by name.
        size: The height and the width of the image, in pixels.

    Returns:
        For each name the median time over the rounds, in milliseconds on one CPU thread.
    """
    image, names, shuffler = _image(size), list(models), random.Random(0)
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(_evaluating_on_cpu(model))
        stack.enter_context(_one_thread())
        for _ in range(WARM_UP + ROUNDS):
            shuffler.shuffle(names)
            for name in names:
                start = time.perf_counter()
                _run(models[name], image)
                milliseconds[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(milliseconds[name][WARM_UP:]) for name in models}


def _image(size: tuple[int, int]) -> Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _run(model: nn.Module, image: Tensor) -> None:
    model([image] if takes_list(model) else image[None])


@contextmanager
def _evaluating_on_cpu(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    model.cpu().eval()
    try:
        yield
    finally:
        model.to(device)
        for module, was_training in training.items():
            module.training = was_training


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
