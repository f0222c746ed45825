import pytest
import torch

from limbeck.models.precision import in_full_precision


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32(half: torch.dtype) -> None:
    tensor = torch.randn(5).to(half)
    found = in_full_precision(tensor)
    assert found.dtype == torch.float32
    assert torch.equal(found.to(half), tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_tensors_are_left_as_they_are(dtype: torch.dtype) -> None:
    tensor = torch.randn(5, dtype=dtype)
    assert in_full_precision(tensor) is tensor
