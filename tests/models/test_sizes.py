"""Networks that are too large, and those that are not, while they are built."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from limbeck.models import Build
from limbeck.models.sizes import BoundedOperations, bounded_size

TOO_LARGE = ValueError("too large")


@contextmanager
def bounded(values: int, tensors: int) -> Iterator[None]:
    with bounded_size(values, tensors, TOO_LARGE), BoundedOperations(4 * values, TOO_LARGE):
        yield


# Of each the parameters are few, late or none, and what they are computed from has gigabytes.
ABSURD = {
    "a position for each of 16 million pixels": Build(
        "torchvision.models.VisionTransformer",
        {
            "image_size": 4096,
            "patch_size": 1,
            "num_layers": 1,
            "num_heads": 1,
            "hidden_dim": 192,
            "mlp_dim": 4,
        },
    ),
    "the place of each pixel to each other one": Build(
        "torchvision.models.SwinTransformer",
        {
            "patch_size": [4, 4],
            "embed_dim": 24,
            "depths": [2],
            "num_heads": [1],
            "window_size": [130, 130],
        },
    ),
    "a pyramid of very wide layers": Build(
        "torchvision.models.resnet50", {"width_per_group": 6000}
    ),
}


@pytest.mark.parametrize("build", ABSURD.values(), ids=ABSURD)
def test_a_network_beyond_its_weights_takes_no_memory(build: Build) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="too large"), bounded(120_000_000, 5000):
        build.make()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_buffers_are_counted() -> None:
    def build() -> None:
        module, value = nn.Module(), torch.zeros(1)
        for number in range(5005):
            module.register_buffer(f"n{number}", value)

    with bounded_size(10_000, 5000, TOO_LARGE), pytest.raises(ValueError, match="too large"):
        build()


BUILDS = {
    "resnet18": Build("torchvision.models.resnet18", {"num_classes": 3}),
    "swin_t": Build("torchvision.models.swin_t", {"num_classes": 3}),
    "maxvit_t": Build("torchvision.models.maxvit_t", {"num_classes": 3}),
    "timm's": Build("timm.create_model", {"model_name": "deit_tiny_patch16_224"}),
    "limbeck's": Build("limbeck.models.RetinaNet", {"backbone": "resnet18", "num_classes": 3}),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_networks_are_built_as_without_bounds(build: Build) -> None:
    torch.manual_seed(0)
    expected = build.make().state_dict()
    torch.manual_seed(0)
    values = sum(tensor.numel() for tensor in expected.values())
    with bounded(4 * values, 4 * len(expected)):
        found = build.make().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class TooLargeError(Exception):
    """What the tests raise."""


@pytest.mark.parametrize(("values", "tensors"), [(14, 100), (100, 2)])
def test_what_is_larger_is_stopped_before_the_rest_is_built(values: int, tensors: int) -> None:
    built: list[nn.Module] = []
    with pytest.raises(TooLargeError), bounded_size(values, tensors, TooLargeError()):
        built.extend(nn.Linear(2, 4) for _ in range(3))  # 8 values and 4 each
    assert len(built) == 1
    nn.Linear(10, 10)  # the bound ends with its block


def test_parameters_without_a_shape_yet_are_not_counted() -> None:
    with bounded_size(10, 10, RuntimeError("too large")):
        nn.LazyLinear(4)


def test_what_fits_and_what_other_threads_build_is_left_alone() -> None:
    made: list[nn.Module] = []
    with bounded_size(12, 2, TooLargeError()):
        made.append(nn.Linear(2, 4))
        thread = threading.Thread(target=lambda: made.append(nn.Linear(100, 100)))
        thread.start()
        thread.join()
    assert len(made) == 2
