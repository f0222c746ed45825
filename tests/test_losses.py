import pytest
import torch
from torch.nn import functional as F

from limbeck import Losses
from limbeck.losses import named_scalars, refuse_half, student_losses


def test_weighted_and_raw_and_total():
    raw = {"student/box": torch.tensor(2.0), "KD/logits": torch.tensor(3.0)}
    losses = Losses(raw, {"student/box": 1.0, "KD/logits": 0.5})
    assert list(losses) == ["student/box", "KD/logits"]
    assert len(losses) == 2
    assert (losses["KD/logits"], losses.raw["KD/logits"]) == (1.5, 3.0)
    assert losses.total == 3.5
    assert dict(losses) == {"student/box": 2.0, "KD/logits": 1.5}


def test_total_is_differentiable_and_float32():
    x = torch.tensor(2.0, requires_grad=True)
    losses = Losses({"a": x**2, "b": (3 * x).bfloat16()}, {"a": 1.0, "b": 10.0})
    assert losses.total.dtype is torch.float32
    losses.total.backward()
    assert x.grad == 4 + 30
    assert Losses({"b": x.bfloat16()}, {"b": 1.0}).total.dtype is torch.float32


def test_a_weight_of_nothing_leaves_no_gradient():
    x = torch.tensor(2.0, requires_grad=True)
    Losses({"a": x**2, "b": x}, {"a": 0.0, "b": 1.0}).total.backward()
    assert x.grad == 1


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_by_name(half):
    refuse_half({"a/b": torch.tensor(1.0), "a/c": torch.tensor(1.0, dtype=torch.float64)})
    with pytest.raises(
        TypeError, match=r"the loss a/d is b?float16; expected float32.*\.float\(\)"
    ):
        refuse_half({"a/b": torch.tensor(1.0), "a/d": torch.tensor(1.0, dtype=half)})


def test_detectors_losses_keep_their_names():
    given = {"classification": torch.tensor(1.0), "bbox_regression": torch.tensor(2.0)}
    assert student_losses(given, None) == given


def test_logits_get_a_cross_entropy():
    logits, targets = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    expected = F.cross_entropy(logits.bfloat16().float(), targets)
    assert student_losses(logits, targets) == {"cross_entropy": F.cross_entropy(logits, targets)}
    half = student_losses(logits.bfloat16(), targets)["cross_entropy"]
    assert half == expected
    assert half.dtype is torch.float32


@pytest.mark.parametrize("outputs", [[{"boxes": torch.zeros(0, 4)}], {}, torch.zeros(2, 3)])
def test_anything_else_is_refused(outputs):
    with pytest.raises(
        TypeError, match=rf"student returned a {type(outputs).__name__}.*student_loss"
    ):
        student_losses(outputs, [{}])


def test_the_logits_of_a_mapping_get_a_cross_entropy_too():
    """Hugging Face's classifiers answer so; logits were minimised as if they were a loss."""
    logits, targets = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    given = {"logits": logits, "hidden_states": (logits,)}
    assert student_losses(given, targets) == {"cross_entropy": F.cross_entropy(logits, targets)}


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ({"scores": torch.zeros(4, 3)}, r"\{scores: \(4, 3\)\}"),
        ({"loss": torch.zeros(()), "logits": torch.zeros(4, 3)}, r"\{loss: \(\), logits: \(4, 3\)"),
        ({"loss": 0.5}, r"\{loss: float\}"),
    ],
)
def test_only_scalars_are_losses(outputs, found):
    with pytest.raises(TypeError, match=rf"the student gives {found}.*a named loss is a scalar"):
        student_losses(outputs, torch.tensor([0, 2, 1, 1]))


def test_a_loss_without_a_name_is_told():
    with pytest.raises(TypeError, match="student_loss gives a Tensor; expected named losses"):
        named_scalars(torch.ones(()), "student_loss")


def test_a_loss_of_one_element_is_a_scalar():
    assert named_scalars({"a": torch.ones(1)}, "the student")["a"].shape == ()
