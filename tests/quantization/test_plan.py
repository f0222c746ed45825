import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from limbeck.quantization import planned
from tests import tiny_models


class Residual(nn.Module):
    """Every case once: folded and not, followed by a ReLU, a sum, a layer, and nothing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.act = BatchNormAct2d(8, act_layer=nn.ReLU)
        self.third = nn.Conv2d(8, 8, 1)
        self.shared = nn.Conv2d(8, 8, 1)
        self.of_one, self.of_other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.unused = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, images):
        x = F.relu_(self.norm(self.first(images)))
        y = self.third(self.act(self.second(x)))
        z = self.of_one(self.shared(x)) + self.of_other(self.shared(y))
        return self.head((y + z).mean((2, 3)))


def plan(model: nn.Module, *keep: str):
    return planned(model.eval(), lambda: model(torch.rand(1, 3, 16, 16)), keep)


def test_what_is_folded_and_whose_output_is_rounded():
    quantization = plan(Residual())
    assert quantization.folded == {"norm": "first", "act": "second"}
    assert quantization.layers == {
        "first": False,  # ReLU, in place
        "second": False,  # the ReLU of its normalisation
        "third": True,  # a sum
        "shared": True,  # normalisations that cannot be folded
        "head": True,  # the end
    }


def test_what_is_kept_is_not_folded_either():
    quantization = plan(Residual(), "first", "head")
    assert list(quantization.layers) == ["second", "third", "shared"]
    assert quantization.folded == {"act": "second"}


def test_nothing_is_changed():
    model = tiny_models.classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan(model)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(model.state_dict(), before)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (["frist"], r"keep has 'frist', which is no module of the Residual"),
        (["first", "second", "third", "shared", "head"], r"no layer of the Residual is left"),
    ],
)
def test_what_cannot_be_kept_is_refused(keep, said):
    with pytest.raises(ValueError, match=said):
        plan(Residual(), *keep)


def test_an_attention_s_projection_that_is_not_run_as_a_layer_is_left_alone():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model.train()  # in evaluation mode it may run as one kernel
    quantization = planned(model, lambda: model(torch.rand(1, 4, 8)))
    assert set(quantization.layers) == {"linear1", "linear2"}
