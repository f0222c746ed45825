import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import KD
from limbeck.transfer import checksum
from tests import batches, observation, small_models


def test_transfer_copies_once_and_trains_apart():
    teacher, student = small_models.retinanet(Bottleneck), small_models.retinanet()
    pair = Distillation(student, teacher, transfer={"head": "head"}).train()
    before = observation.snapshot(teacher.head)
    assert observation.same(before, observation.snapshot(student.head))
    small_models.train_step(pair, batches.detection_batch())
    assert observation.same(before, observation.snapshot(teacher.head))
    assert not observation.same(before, observation.snapshot(student.head))
    trained = observation.snapshot(student.head)
    pair.load_state_dict(pair.state_dict())
    assert observation.same(trained, observation.snapshot(student.head))


@pytest.mark.parametrize(
    ("transfer", "says"),
    [
        ({"layer1": "layer1"}, r"layer1.*differ in \d+ entries.*student.*teacher.*equal shapes"),
        ({"layer4": "layer3"}, r"'layer4' from 'layer3'"),
        ({"fc": "nowhere"}, r"transfer 'fc' from 'nowhere'.*nowhere"),
        ({"avgpool": "avgpool"}, r"'avgpool' from 'avgpool': neither module has weights"),
        ({"nowhere": "fc"}, r"transfer 'nowhere' from 'fc'.*nowhere"),
    ],
)
def test_transfer_is_strict(transfer, says):
    with pytest.raises(ValueError, match=says):
        Distillation(small_models.resnet(), small_models.resnet(Bottleneck), transfer=transfer)


def test_transfer_and_methods_need_a_teacher():
    with pytest.raises(ValueError, match="transfer needs a teacher"):
        Distillation(small_models.resnet(), transfer={"fc": "fc"})
    with pytest.raises(ValueError, match="needs a teacher, and there is none"):
        Distillation(small_models.resnet(), None, [KD()])


def test_checksum_sees_every_weight_name_and_buffer():
    model = small_models.resnet()
    first = checksum(model)
    assert first == checksum(small_models.out_of_place(model))
    assert len(first) == 16
    seen = {first}
    model.bn1.running_mean[0] += 1
    seen.add(checksum(model))
    model.fc.weight.data[3, 5] += 1e-3
    seen.add(checksum(model))
    seen.add(checksum(model.bfloat16()))
    model.other = nn.Identity()
    model.other.register_buffer("empty", torch.zeros(0))
    seen.add(checksum(model))
    assert len(seen) == 5
