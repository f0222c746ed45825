import pytest
import torch

from limbeck import adapters


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_convolution_brings_the_student_to_the_teachers_shape(kernel_size):
    student, teacher = torch.randn(2, 5, 6, 4), torch.randn(2, 7, 6, 4)
    adapter = adapters.convolution(student, teacher, kernel_size)
    assert adapter(student).shape == teacher.shape
    assert adapter.weight.shape == (7, 5, kernel_size, kernel_size)
    assert adapter.bias is not None


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_convolution_at_some_positions_is_the_whole_one_there(kernel_size):
    feature = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    adapter = adapters.convolution(feature, torch.zeros(2, 7, 6, 4), kernel_size).double()
    mask = torch.rand(2, 6, 4) > 0.6
    mask[0, 0, 0] = mask[1, 5, 3] = True  # corners, where the kernel reaches into the padding
    where = mask.nonzero(as_tuple=True)
    inputs = [feature, adapter.weight, adapter.bias]
    whole = adapter(feature).permute(0, 2, 3, 1)[mask]
    found = adapters.convolved_at(adapter, feature, where)
    assert torch.allclose(found, whole)
    expected = torch.autograd.grad(whole.square().sum(), inputs)
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), inputs), expected, strict=True
    ):
        assert torch.allclose(ours, theirs)


def test_a_convolution_at_no_position_still_has_a_gradient():
    feature = torch.randn(1, 5, 6, 4, requires_grad=True)
    adapter = adapters.convolution(feature, torch.zeros(1, 7, 6, 4), 3)
    found = adapters.convolved_at(adapter, feature, torch.zeros(1, 6, 4).nonzero(as_tuple=True))
    found.sum().backward()
    assert found.shape == (0, 7)
    assert adapter.weight.grad.abs().sum() == feature.grad.abs().sum() == 0


def test_convolution_keeps_any_size():
    adapter = adapters.convolution(torch.zeros(1, 5, 4, 4), torch.zeros(1, 7, 4, 4), 3)
    assert adapter(torch.zeros(3, 5, 9, 2)).shape == (3, 7, 9, 2)


@pytest.mark.parametrize("kernel_size", [0, 2])
def test_a_kernel_that_changes_the_size_is_refused(kernel_size):
    with pytest.raises(ValueError, match=rf"kernel_size={kernel_size}: expected 1, 3, 5"):
        adapters.convolution(torch.zeros(1, 5, 4, 4), torch.zeros(1, 7, 4, 4), kernel_size)


def test_linear_changes_the_last_dimension_only():
    student, teacher = torch.randn(2, 3, 5), torch.randn(2, 3, 7)
    adapter = adapters.linear(student, teacher)
    assert torch.equal(adapter(student)[1], adapter(student[1]))
    assert adapter(student).shape == teacher.shape


def test_a_convolution_without_a_bias():
    maps = torch.zeros(1, 5, 4, 4), torch.zeros(1, 7, 4, 4)
    assert adapters.convolution(*maps, bias=False).bias is None


def test_maps_are_brought_to_another_size():
    feature = torch.arange(16.0).reshape(1, 1, 4, 4)
    averaged = adapters.resized(feature, (2, 1), "area")
    assert torch.equal(averaged, feature.reshape(1, 1, 2, 2, 4).mean((3, 4), keepdim=True)[..., 0])
    assert adapters.resized(feature, feature.shape[2:], "bilinear") is feature
    row = torch.tensor([[[[0.0, 4.0]]]])
    expected = torch.tensor([[[[0.0, 1.0, 3.0, 4.0]]]])  # the corners of outer cells coincide
    assert torch.equal(adapters.resized(row, (1, 4), "bilinear"), expected)


@pytest.mark.parametrize(
    ("make", "student", "teacher", "says"),
    [
        (adapters.convolution, (2, 5), (2, 7), r"student's feature has shape \(2, 5\)"),
        (adapters.convolution, (2, 5, 4, 4), (2, 7), r"teacher's feature has shape \(2, 7\)"),
        (
            adapters.convolution,
            (2, 5, 4, 4),
            (2, 7, 4, 2),
            r"\(2, 5, 4, 4\).*\(2, 7, 4, 2\).*stride",
        ),
        (
            adapters.linear,
            (2, 5, 4, 4),
            (2, 7, 4, 4),
            r"\(2, 5, 4, 4\).*\(2, 7, 4, 4\).*convolution",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_shapes(make, student, teacher, says):
    with pytest.raises(ValueError, match=says):
        make(torch.zeros(student), torch.zeros(teacher))
