"""ShuffleNetV2 with the ReLU of each stage at its end (Ma et al., ECCV 2018, arXiv 1807.11164).

In torchvision's network each unit activates the half of the channels that it computes, and hands
the other half on. A ReLU that is applied twice is a ReLU that is applied once, so it can be left
to whatever reads a channel: the next unit for the half that it convolves, and the end of the stage
for all. The function, the gradients, the names of the tensors and their values are torchvision's;
but now one tensor holds a whole stage before its ReLU, which methods such as MGD learn from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.shufflenetv2 import InvertedResidual, ShuffleNetV2, channel_shuffle


class Unit(InvertedResidual):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's unit of ShuffleNetV2, with one place for a ReLU, ``relu``, at its end.

    The place is empty until :func:`late_relu` fills it in the last unit of each stage.

    Args:
        inp: The number of channels of the input.
        oup: The number of channels of the output.
        stride: The stride: 1, or 2 in the first unit of a stage.
    """

    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__(inp, oup, stride)
        for branch in (self.branch1, self.branch2):
            if len(branch):
                branch[-1] = nn.Identity()  # the names of what follows stay
        self.relu: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the unit's map: (B, inp, H, W) -> (B, oup, H / stride, W / stride)."""
        if self.stride == 1:
            kept, used = x.chunk(2, dim=1)
            out = torch.cat((kept, self.branch2(F.relu(used))), dim=1)
        else:  # the first of its stage: what comes in has been activated
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        result: Tensor = self.relu(channel_shuffle(out, 2))
        return result


def late_relu(network: ShuffleNetV2) -> ShuffleNetV2:
    """Put the ReLU at the end of every stage of a network.

    Args:
        network: A ShuffleNetV2 that was built of :class:`Unit`. It is changed in place.

    Returns:
        The network.
    """
    for stage in (network.stage2, network.stage3, network.stage4):
        stage[-1].relu = nn.ReLU()
    return network
