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


def test_synchronised_normalisations_are_folded_too():
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(Residual())
    assert isinstance(synchronised.norm, nn.SyncBatchNorm)
    assert plan(synchronised).folded["norm"] == "first"


def test_what_is_kept_is_not_folded_either():
    quantization = plan(Residual(), "first", "head")
    assert list(quantization.layers) == ["second", "third", "shared"]
    assert quantization.folded == {"act": "second"}


def test_a_layer_before_one_that_is_kept_rounds_its_own_output():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    assert plan(model).layers == {"0": False, "1": False, "2": True}
    assert plan(model, "1").layers == {"0": True, "2": True}


def test_a_normalisation_that_is_kept_is_not_folded():
    quantization = plan(Residual(), "norm")
    assert quantization.folded == {"act": "second"}
    assert quantization.layers["first"]


def test_an_activation_that_is_no_cut_leaves_the_rounding_to_the_layer_before():
    for act, rounds in ((nn.ReLU, False), (nn.SiLU, True), (nn.Identity, False)):
        norm = BatchNormAct2d(4, act_layer=act)
        model = nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.Conv2d(4, 4, 1))
        assert plan(model).layers == {"0": rounds, "2": True}


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
