"""ShuffleNet's unit against its definition, and the paddings of TensorFlow's SAME."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.models.shufflenet_v1 import ShuffleNetV1, Unit, trunk


def shuffled(x, groups=3):
    """Channel c of group g goes to place c * groups + g."""
    per_group = x.shape[1] // groups
    order = [g * per_group + c for c in range(per_group) for g in range(groups)]
    return x[:, order]


def definition(unit, x):
    """The unit, layer by layer; halved maps have padding below and on the right alone."""
    first, norm1, _, _, *rest = unit.branch
    depthwise, norm2, last, norm3 = rest[-4:]
    y = shuffled(F.relu(norm1(first(x))))
    if unit.pool is not None:
        y = F.conv2d(F.pad(y, (0, 1, 0, 1)), depthwise.weight, stride=2, groups=y.shape[1])
    else:
        y = F.conv2d(F.pad(y, (1, 1, 1, 1)), depthwise.weight, groups=y.shape[1])
    y = norm3(last(norm2(y)))
    if unit.pool is not None:
        ones = F.pad(torch.ones_like(x), (0, 1, 0, 1))
        total = F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)
        return torch.cat([total / F.avg_pool2d(ones, 3, 2), F.relu(y)], dim=1)
    return F.relu(x + y if unit.shortcut else y)


@pytest.mark.parametrize(
    "unit",
    [
        Unit(24, 24),
        Unit(24, 48, shortcut=False),
        Unit(24, 60, stride=2),
        Unit(16, 60, stride=2, grouped_first=False),
    ],
    ids=["same", "no shortcut", "halved", "first"],
)
def test_a_unit_is_its_definition(unit):
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.randn(2, unit.branch[0].in_channels, 6, 8)
    found = unit.eval()(x)
    assert torch.allclose(found, definition(unit, x), atol=1e-5)


def test_groups_of_the_first_unit():
    """Ungrouped before it is wide, and after that where the widest stem leaves no multiple of 3."""
    narrow, wide = (trunk(width)[2][0].branch for width in (0.5, 1.0))
    assert [m.groups for m in (narrow[0], narrow[-2])] == [1, 3]
    assert [m.groups for m in (wide[0], wide[-2])] == [1, 1]


def test_maps_are_padded_below_and_on_the_right_alone():
    """A cell in the upper left corner sees no padding in a halved map."""
    pool = trunk(0.25).pool1
    x = torch.full((1, 1, 4, 4), -5.0)  # below any padding of 0
    assert torch.equal(pool(x), torch.full((1, 1, 2, 2), -5.0))
    x[0, 0, 3, 3] = 1.0
    assert pool(x).tolist() == [[[[-5.0, -5.0], [-5.0, 1.0]]]]


def test_the_classifier_has_the_trunk_of_the_detector():
    classifier = ShuffleNetV1(5, width=0.25)
    assert classifier(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    trunk(0.25).load_state_dict(  # the stem's stride is no part of its weights
        {
            name.removeprefix("features."): value
            for name, value in classifier.state_dict().items()
            if name.startswith("features.")
        }
    )
