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
