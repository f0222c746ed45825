import pytest
import torch
import torchvision
from torch import nn

from limbeck.models import Classifier
from tests.models.lively_weights import scramble


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """torchvision's network, and the same weights with the late ReLU, in double precision."""
    torch.manual_seed(0)
    stock = scramble(torchvision.models.shufflenet_v2_x0_5(num_classes=4))
    ours = Classifier("shufflenet_v2_x0_5", 4).network
    ours.load_state_dict(stock.state_dict())
    return stock.double(), ours.double()


def test_names_and_shapes_are_torchvisions(pair) -> None:
    stock, ours = (
        {name: tensor.shape for name, tensor in net.state_dict().items()} for net in pair
    )
    assert list(ours.items()) == list(stock.items())


@pytest.mark.parametrize("training", [False, True])
def test_the_function_and_its_gradients_are_torchvisions(pair, training: bool) -> None:
    images = torch.rand(2, 3, 64, 64).double()
    outputs = []
    for net in pair:
        net.zero_grad()
        net.train(training)
        outputs.append(net(images))
        outputs[-1].square().sum().backward()
    assert outputs[0].std() > 0
    assert torch.equal(*outputs)
    for theirs, ours in zip(pair[0].parameters(), pair[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for theirs, ours in zip(pair[0].buffers(), pair[1].buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
