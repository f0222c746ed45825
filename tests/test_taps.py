import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from limbeck import Tap, TapError, Taps
from tests import batches, observation, small_models


@pytest.fixture
def toy():
    return small_models.Toy()


@pytest.fixture
def x():
    return batches.pictures(2, 8)


def installed(model, taps, x, **options):
    taps = Taps(model, taps, **options)
    taps.learn(lambda: model(x))
    return taps


# -- in-place operations --------------------------------------------------------------------------


def plain_hook(model, path, x):
    """The input of a module's last call, by a hook of our own."""
    seen = []
    handle = model.get_submodule(path).register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    model(x)
    handle.remove()
    return seen[-1]


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("level", ["C2", "C4", "C5"])
def test_feature_before_an_in_place_relu(level, learnt):
    model = small_models.resnet(Bottleneck)
    reference = small_models.out_of_place(model)
    x = batches.pictures()
    if learnt:
        values = installed(model.eval(), [f"{level}.pre"], x).read(lambda: model.train()(x))[1]
    else:
        with Taps(model, [f"{level}.pre"]) as values:
            model(x)
    expected = plain_hook(reference, f"layer{int(level[1]) - 1}.0.relu", x)
    value = values[f"{level}.pre"]
    assert value.min() < 0
    assert torch.equal(value, expected)
    value.square().sum().backward()
    expected.square().sum().backward()
    gradients = [
        (p.grad, q.grad) for p, q in zip(model.parameters(), reference.parameters(), strict=True)
    ]
    assert all((a is None) == (b is None) for a, b in gradients)
    assert all(torch.equal(a, b) for a, b in gradients if a is not None)


def test_pre_and_post_activation_in_one_pass():
    model = small_models.resnet(Bottleneck)
    with Taps(model, ["C3.pre", "C3"]) as seen:
        model(batches.pictures())
    assert torch.equal(seen["C3.pre"].relu(), seen["C3"])


@pytest.mark.parametrize("learnt", [False, True])
def test_value_that_the_residual_sum_overwrites(learnt):
    model = small_models.resnet().eval()
    x = batches.pictures()
    expected = plain_hook_output(model, "layer2.0.bn2", x, clone=True)
    assert not torch.equal(plain_hook_output(model, "layer2.0.bn2", x, clone=False), expected)
    if learnt:
        values = installed(model, ["layer2.0.bn2"], x).read(lambda: model(x))[1]
    else:
        with Taps(model, ["layer2.0.bn2"]) as values:
            model(x)
    assert torch.equal(values["layer2.0.bn2"], expected)


def plain_hook_output(model, path, x, clone):
    seen = []
    handle = model.get_submodule(path).register_forward_hook(
        lambda _, __, out: seen.append(out.clone() if clone else out)
    )
    model(x)
    handle.remove()
    return seen[-1]


def test_what_nothing_overwrites_is_not_copied(toy, x):
    taps = installed(toy, ["tail", "stem"], x)
    output, values = taps.read(lambda: toy(x))
    assert values["tail"] is output


def test_overwriting_that_was_not_there_at_set_up_is_refused(toy, x):
    taps = installed(toy, ["stem"], x)
    toy.in_place = True
    with pytest.raises(TapError, match=r"stem: the value was overwritten in place"):
        taps.read(lambda: toy(x))


# -- which call, which item -----------------------------------------------------------------------


@pytest.mark.parametrize("learnt", [False, True])
def test_last_all_and_indexed_calls(toy, x, learnt):
    names = ["head", "head[*]", "head[0]", "head[1]", "head[-1]", "head:input[-3]"]
    if learnt:
        values = installed(toy, names, x).read(lambda: toy(x))[1]
    else:
        with Taps(toy, names) as values:
            toy(x)
    stem = toy.stem(x)
    every = [toy.head(stem * i) for i in (1, 2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(values["head[*]"], every, strict=True))
    assert torch.equal(values["head"], every[2])
    assert torch.equal(values["head[-1]"], every[2])
    assert torch.equal(values["head[0]"], every[0])
    assert torch.equal(values["head[1]"], every[1])
    assert torch.equal(values["head:input[-3]"], stem)


def test_items_of_dicts_and_tuples(toy, x):
    taps = {"first": "pack/pair/0", "sum": "pack/sum", "both": "pack:input", "one": "tail:input"}
    with Taps(toy, taps) as seen:
        toy(x)
    assert torch.equal(seen["first"] + seen["both"][1], seen["sum"])
    assert torch.equal(seen["both"][1].mean((2, 3)), seen["one"])


def test_selector_and_whole_call(toy, x):
    shapes = Tap("head", "call", None, select=lambda call: (call.args[0].shape, call.output.shape))
    with Taps(toy, {"calls": shapes, "mean": Tap("stem", select=Tensor.mean)}) as seen:
        toy(x)
    assert seen["calls"] == [((2, 4, 6, 6), (2, 4, 6, 6))] * 3
    assert seen["mean"] == toy.stem(x).mean()


def test_input_of_a_module_that_is_called_by_names():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            return self.inner(input=x)

    x = torch.rand(1, 2)
    with Taps(named := Named(), {"given": Tap("inner", "input")}) as seen:
        named(x)
    assert torch.equal(seen["given"], x)


def test_call_that_does_not_exist(toy, x):
    with (
        pytest.raises(TapError, match=r"head\[3\]: the module was called 3 times"),
        Taps(toy, ["head[3]"]),
    ):
        toy(x)


# -- errors that name the place -------------------------------------------------------------------


def test_unknown_path_names_the_nearest(toy):
    with pytest.raises(
        TapError, match=r"Toy has neither a landmark nor a module 'stemm'.*\bstem\b"
    ):
        Taps(toy, ["stemm"])
    with pytest.raises(TapError, match=r"Toy has no module 'tial'.*\btail\b"):
        Taps(toy, {"t": Tap("tial")})
    with pytest.raises(TapError, match=r"landmarks: C2.*C5"):
        Taps(small_models.resnet(), ["C9"])
    assert observation.hook_count(toy) == 0


def test_tap_that_never_fires(toy, x):
    with (
        pytest.raises(TapError, match=r"unused never fired: Linear"),
        Taps(toy, ["tail", "unused"]),
    ):
        toy(x)
    assert observation.hook_count(toy) == 0
    taps = Taps(toy, ["unused"])
    with pytest.raises(TapError, match="never fired"):
        taps.learn(lambda: toy(x))


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("stop_early", [False, True])
def test_changed_number_of_calls(toy, x, times, stop_early):
    taps = installed(toy, ["head", "tail"], x, stop_early=stop_early)
    toy.times = times
    with pytest.raises(TapError, match=rf"fired {times} times in this step and 3 times"):
        taps.read(lambda: toy(x))
    toy.times = 3
    assert taps.read(lambda: toy(x))[1].keys() == {"head", "tail"}


# -- stopping early -------------------------------------------------------------------------------


def test_modules_after_the_last_tap_never_run(toy, x):
    taps = installed(toy, ["stem", "head"], x, stop_early=True)
    with observation.calls_of(toy.tail) as tails, observation.calls_of(toy.head) as heads:
        output, values = taps.read(lambda: toy(x))
    assert output is None
    assert torch.equal(values["head"], toy.head(toy.stem(x) * 3))
    assert (len(heads), len(tails)) == (3, 0)


def test_stops_after_the_wanted_call(toy, x):
    taps = installed(toy, ["head[0]"], x, stop_early=True)
    with observation.calls_of(toy.head) as heads:
        taps.read(lambda: toy(x))
    assert len(heads) == 1


def test_stops_before_a_module_whose_input_is_tapped(toy, x):
    taps = installed(toy, ["tail:input"], x, stop_early=True)
    toy.tail.forward = lambda _: pytest.fail("the linear map was reached")
    values = taps.read(lambda: toy(x))[1]
    assert torch.equal(values["tail:input"], toy.head(toy.stem(x) * 3).mean((2, 3)))


def test_learning_runs_the_whole_model(toy, x):
    taps = Taps(toy, ["stem"], stop_early=True)
    with observation.calls_of(toy.tail) as tails:
        taps.learn(lambda: toy(x))
    assert len(tails) == 1


# -- nothing is left behind -----------------------------------------------------------------------


def test_exception_inside_the_model(toy, x):
    taps = installed(toy, ["stem", "tail"], x)
    with pytest.raises(RuntimeError, match="channels"):
        taps.read(lambda: toy(torch.zeros(2, 5, 8, 8)))
    assert taps.read(lambda: toy(x))[1].keys() == {"stem", "tail"}
    taps.close()
    assert observation.hook_count(toy) == 0


def test_hooks_are_inert_outside_of_read(toy, x):
    taps = installed(toy, ["head"], x, stop_early=True)
    assert toy(x).shape == (2, 2)
    assert all(not reader.values for reader in taps._readers.values())


@pytest.mark.parametrize("times", [3, 2])
def test_no_graph_is_kept(toy, x, times):
    taps = installed(toy, ["stem", "head[*]"], x)
    outputs = []
    toy.stem.register_forward_hook(lambda _, __, out: outputs.append(weakref.ref(out)))
    toy.times = times
    if times == 3:
        taps.read(lambda: toy(x))
    else:
        with pytest.raises(TapError):
            taps.read(lambda: toy(x))
    gc.collect()
    assert [ref() for ref in outputs] == [None]


def test_copied_and_pickled_with_its_model(toy, x):
    taps = installed(toy, ["head[*]"], x)
    for other in (copy.deepcopy(taps), pickle.loads(pickle.dumps(taps))):
        values = other.read(lambda other=other: other.model(x))[1]
        assert torch.equal(values["head[*]"][1], taps.read(lambda: toy(x))[1]["head[*]"][1])
        assert other.model is not toy
        other.close()
        assert observation.hook_count(other.model) == 0
    assert observation.hook_count(toy) == 1


# -- wrappers and compiled models -----------------------------------------------------------------


def test_wrapped_model_is_looked_through(toy, x):
    wrapped = nn.DataParallel(toy)
    with Taps(wrapped, ["stem"]) as seen:
        wrapped(x)
    assert torch.equal(seen["stem"], toy.stem(x))


def wrap(model):
    return torch.compile(model, backend="eager")


def compile_whole(model):
    model.compile(backend="eager")
    return model


def compile_above_the_tap(model):
    model.head.compile(backend="eager")
    return model


def wrap_above_the_tap(model):
    model.head = torch.compile(model.head, backend="eager")
    return model


@pytest.mark.parametrize(
    "compiled", [wrap, compile_whole, compile_above_the_tap, wrap_above_the_tap]
)
def test_compiled_model_is_refused(toy, compiled):
    path = "head._orig_mod.0" if compiled is wrap_above_the_tap else "head.0"
    with pytest.raises(TapError, match=r"compile"):
        Taps(compiled(toy), [path])
    assert observation.hook_count(toy) == 0


def test_compiled_elsewhere_is_allowed(toy, x):
    toy.tail.compile(backend="eager")
    with Taps(toy, ["stem"]) as seen:
        toy(x)
    assert torch.equal(seen["stem"], toy.stem(x))
