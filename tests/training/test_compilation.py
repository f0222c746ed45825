import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing import start_processes
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from limbeck.models import Classifier
from limbeck.models.resnet import BasicBlocks
from limbeck.training.compilation import channels_last, compile_trunks
from tests import batches, observation, small_models, tiny_models


class Nested(nn.Module):
    """A classifier with one convolution of one's own, deep inside."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, convolution.in_channels, 3, padding=1)
        self.block = nn.Sequential(nn.Sequential(convolution, nn.ReLU()))
        self.fc = nn.Linear(convolution.out_channels, small_models.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.stem(images)).mean((2, 3)))


# -- channels_last --------------------------------------------------------------------------------


def strided_convolutions(rank: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = Distillation(Classifier(BasicBlocks((1, 1), (8, 16), 1), 5, norm="frozen")).train()
    last = copy.deepcopy(plain)
    channels_last(last)
    images, labels = torch.rand(8, 3, 120, 160), torch.arange(8) % 5
    for pair in (plain, last):
        pair(images, labels).total.backward()
    gradients = dict(plain.named_trainable_parameters())
    for name, parameter in last.named_trainable_parameters():
        expected = gradients[name].grad
        near = 1e-4 * expected.abs().max()
        assert torch.allclose(parameter.grad, expected, rtol=1e-3, atol=near), name


def test_strided_convolutions_of_few_channels_do_not_crash() -> None:
    # Without the hook, torch 2.14 ends this with SIGSEGV on a CPU with AVX-512.
    start_processes(strided_convolutions, nprocs=1, start_method="forkserver")


@pytest.mark.parametrize(
    ("convolution", "cut"),
    [
        (partial(nn.Conv2d, 8, 16, 1, 2), True),
        (partial(nn.Conv2d, 15, 4, 1, (2, 1), bias=False), True),
        (partial(nn.Conv2d, 4, 4, 1, 3, padding="valid"), True),
        (partial(nn.Conv2d, 16, 16, 1, 2), False),
        (partial(nn.Conv2d, 8, 16, 1), False),
        (partial(nn.Conv2d, 8, 16, 3, 2, padding=1), False),
        (partial(nn.Conv2d, 8, 16, 1, 2, padding=1), False),
        (partial(nn.Conv2d, 8, 16, 1, 2, groups=2), False),
    ],
)
def test_only_convolutions_that_corrupt_memory_are_cut(
    convolution: Callable[[], nn.Conv2d], cut: bool
) -> None:
    pair = Distillation(Nested(convolution()), Nested(convolution()), [KD()])
    channels_last(pair)
    channels_last(pair)
    found = [observation.hook_count(model.block) for model in (pair.student, pair.teacher)]
    assert found == [int(cut)] * 2


def test_convolutions_of_methods_are_cut_too() -> None:
    method = FitNet({"stem": "stem"})
    pair = Distillation(Nested(nn.Conv2d(8, 8, 1)), Nested(nn.Conv2d(8, 8, 1)), [method])
    method.extra = nn.Conv2d(8, 8, 1, 2)
    channels_last(pair)
    assert observation.hook_count(method) == 1


@pytest.mark.parametrize("stride", [2, 3, (2, 1), (1, 4)])
@pytest.mark.parametrize("size", [(12, 12), (11, 13), (9, 8), (1, 1)])
def test_a_cut_changes_no_result(stride: Any, size: tuple[int, int]) -> None:
    convolution = nn.Conv2d(8, 16, 1, stride)
    images = torch.rand(2, 8, *size, requires_grad=True)
    expected = convolution(images)
    expected.square().sum().backward()
    gradients = [images.grad.clone(), convolution.weight.grad.clone()]
    images.grad = convolution.weight.grad = None
    channels_last(Distillation(Nested(convolution)))
    seen: list[torch.Size] = []
    convolution.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    found = convolution(images)
    found.square().sum().backward()
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip((images.grad, convolution.weight.grad), gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    vertical, horizontal = convolution.stride
    assert vertical == 1 or seen[0][0] % vertical == 1
    assert horizontal == 1 or seen[0][1] % horizontal == 1


def test_nothing_is_cut_off_the_cpu() -> None:
    convolution = nn.Conv2d(8, 16, 1, 2)
    channels_last(Distillation(Nested(convolution)))
    seen: list[torch.Size] = []
    convolution.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    convolution.to("meta")(torch.empty(2, 8, 12, 12, device="meta"))
    assert seen == [(2, 8, 12, 12)]


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_every_map_is_channels_last(kind: str) -> None:
    if kind == "detector":
        pair = Distillation(
            small_models.retinanet(), small_models.retinanet(Bottleneck), [FitNet(["fpn"])]
        )
        batch = batches.detection_batch()
    else:
        shape = BasicBlocks((1, 1), (8, 16), 1)
        pair = Distillation(Classifier(shape, 4), Classifier(shape, 4), [KD()])
        batch = (batches.pictures(), batches.labels())
    channels_last(pair)
    maps: dict[str, bool] = {}

    def note(name: str, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        maps[name] = output.is_contiguous(memory_format=torch.channels_last)

    for name, module in pair.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU | nn.MaxPool2d):
            module.register_forward_hook(partial(note, name))
    pair.train()(*batch)
    assert {name.partition(".")[0] for name in maps} >= {"student", "teacher"}
    assert [name for name, last in maps.items() if not last] == []


# -- compilation ----------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """The graphs that are compiled (and then run as they are)."""
    found: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield found
    torch.compiler.reset()


def detectors(*places: str) -> Distillation:
    models = tiny_models.detector(seed=1), tiny_models.detector(seed=2)
    return Distillation(*models, [FitNet(list(places))]).train()


def convolutions(graph: torch.fx.GraphModule) -> int:
    return sum("conv2d" in str(node.target) for node in graph.graph.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["C3.pre", "C4", "fpn"])
def test_each_trunk_is_one_graph_that_ends_with_the_teachers_last_tap(
    place: str, graphs: list[torch.fx.GraphModule]
) -> None:
    pair, plain = detectors(place), detectors(place)
    plain.load_state_dict(pair.state_dict())
    called: list[nn.Module] = []
    for module in plain.teacher.backbone.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: called.append(module))
    batch = batches.detection_batch()
    expected = plain(*batch)
    compile_trunks(pair)
    for _ in range(3):
        losses = pair(*batch)
        losses.total.backward()
        for name, loss in expected.raw.items():
            assert losses.raw[name].item() == pytest.approx(loss.item(), rel=1e-5), name
        assert len(graphs) == 2
    assert convolutions(graphs[0]) == len(called)


@pytest.mark.slow
def test_changing_sizes_are_compiled_twice(graphs: list[torch.fx.GraphModule]) -> None:
    pair = detectors("C4.pre")
    compile_trunks(pair)
    counts = []
    for size in (64, 96, 128, 64):
        pair(*batches.detection_batch(2, size)).total.backward()
        counts.append(len(graphs))
    assert counts == [2, 4, 4, 4]


def test_student_and_teacher_have_a_limit_of_recompilations_each(
    graphs: list[torch.fx.GraphModule],
) -> None:
    pair = Distillation(*(Nested(nn.Conv2d(8, 8, 1)) for _ in range(2)), [FitNet(["block"])])
    compile_trunks(pair)
    with torch._dynamo.config.patch(recompile_limit=4, fail_on_recompile_limit_hit=True):
        for size in (32, 48):
            pair.train()(batches.pictures(2, size), batches.labels(2)).total.backward()
            pair.eval()
            with torch.no_grad():
                pair.student(batches.pictures(2, size))
                pair.teacher(batches.pictures(2, size))
    assert 4 < len(graphs) <= 8


def test_a_compiled_teacher_is_whole_when_nothing_is_read(
    graphs: list[torch.fx.GraphModule],
) -> None:
    teacher = small_models.resnet(Bottleneck)
    pair = Distillation(small_models.resnet(), teacher, [FitNet(["C3"])]).train()
    with torch.no_grad():
        expected = teacher(batches.pictures())
    compile_trunks(pair)
    pair(batches.pictures(), batches.labels())
    with torch.no_grad():
        found = teacher(batches.pictures())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_by_hand_taps_stay_alive() -> None:
    torch.compiler.reset()
    pair, plain = detectors("C4.pre"), detectors("C4.pre")
    plain.load_state_dict(pair.state_dict())
    batch = batches.detection_batch()
    expected = plain(*batch)
    for model in (pair.student, pair.teacher):
        model.backbone.compile(backend="eager")
    for _ in range(2):
        for name, loss in pair(*batch).raw.items():
            assert loss.item() == pytest.approx(expected.raw[name].item(), rel=1e-5), name
    torch.compiler.reset()


def test_compilation_spares_convolutions_of_few_channels_too() -> None:
    pair = Distillation(Nested(nn.Conv2d(8, 16, 1, 2)))
    compile_trunks(pair)
    channels_last(pair)
    assert observation.hook_count(pair.student.block) == 1
