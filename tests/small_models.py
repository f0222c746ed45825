"""Torchvision's models, narrow and with one block a stage, pairs of them, and a toy to tap."""

import copy

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from limbeck.models import GFL, BasicBlocks
from limbeck.schedules import WarmUp

CLASSES = 4
WIDTHS = (16, 32, 64, 128)  # of the stages; a Bottleneck's maps are four times as wide


class NarrowResNet(ResNet):
    """Torchvision's ResNet, a quarter as wide."""

    def __init__(self, block, layers, num_classes=1000, **arguments):
        super().__init__(block, layers, num_classes, **arguments)
        filters = self.conv1.weight.detach()[: WIDTHS[0]].clone()  # of the same deviation
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.conv1.weight = nn.Parameter(filters)
        self.bn1 = self._norm_layer(WIDTHS[0])
        self.fc = nn.Linear(WIDTHS[-1] * block.expansion, num_classes)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        width = planes // 4
        if width == WIDTHS[0]:
            self.inplanes = width
        return super()._make_layer(block, width, blocks, stride, dilate)


def resnet(
    block: type[BasicBlock | Bottleneck] = BasicBlock,
    norm: type = nn.BatchNorm2d,
    classes: int = CLASSES,
) -> ResNet:
    """One block a stage."""
    return NarrowResNet(block, [1, 1, 1, 1], classes, norm_layer=norm)


def backbone(block: type, stages: list[int], channels: int, extra: nn.Module) -> BackboneWithFPN:
    """A ResNet of one block a stage with frozen norms, and an FPN on ``stages``."""
    body = resnet(block, norm=FrozenBatchNorm2d)
    widths = [WIDTHS[stage - 1] * block.expansion for stage in stages]
    layers = {f"layer{stage}": str(i) for i, stage in enumerate(stages)}
    return BackboneWithFPN(body, layers, widths, channels, extra)


def retinanet(block: type = BasicBlock, channels: int = 32) -> RetinaNet:
    """P3 to P7; frozen norms, so that a batch's images do not depend on each other."""
    trunk = backbone(block, [2, 3, 4], channels, LastLevelP6P7(channels, channels))
    return RetinaNet(trunk, num_classes=CLASSES + 1)


def faster_rcnn(block: type = BasicBlock, channels: int = 32) -> FasterRCNN:
    """P2 to P6."""
    trunk = backbone(block, [1, 2, 3, 4], channels, LastLevelMaxPool())
    return FasterRCNN(trunk, num_classes=CLASSES + 1)


def fcos(block: type = BasicBlock) -> FCOS:
    """P3 to P7; its towers' norms are of 32 groups, which want two values each."""
    trunk = backbone(block, [2, 3, 4], 64, LastLevelP6P7(64, 64))
    return FCOS(trunk, num_classes=CLASSES + 1)


def gfl(widths: tuple[int, ...] = (8, 16, 16, 32)) -> GFL:
    """P3 to P7, of limbeck; its scores and boxes are decided."""
    shape = BasicBlocks((1,) * len(widths), widths)
    model = GFL(shape, CLASSES, fpn_channels=32, head_depth=1)
    for predictor in (
        model.head.classification_head.cls_logits,
        model.head.regression_head.bbox_reg,
    ):
        nn.init.kaiming_normal_(predictor.weight)
        nn.init.zeros_(predictor.bias)
    return model


def hinted_classifiers() -> Distillation:
    """Two classifiers, logits and one hint."""
    methods = {"soft": KD(weight=0.5), "hint": FitNet(["C4"], weight=WarmUp(2.0, 10))}
    return Distillation(resnet(), resnet(Bottleneck), methods)


def hinted_detectors() -> Distillation:
    """Two detectors, a hint at every level."""
    return Distillation(retinanet(), retinanet(Bottleneck), [FitNet(["fpn"])])


def out_of_place(model: nn.Module) -> nn.Module:
    """A copy whose activations do not work in place."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


class Toy(nn.Module):
    """A stem, one head that is called ``times`` times, a tail; outputs a dict and a tuple."""

    def __init__(self, times=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.pack = Pack()
        self.tail = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)
        self.times = times
        self.in_place = False

    def forward(self, x):
        x = self.stem(x)
        if self.in_place:
            x += 1
        heads = [self.head(x * (i + 1)) for i in range(self.times)]
        packed = self.pack(heads[0], heads[-1])
        return self.tail(packed["pair"][1].mean((2, 3)))


class Pack(nn.Module):
    def forward(self, first, last):
        return {"pair": (first, last), "sum": first + last}


def train_step(pair: nn.Module, batch: tuple, lr: float = 0.01) -> None:
    """One step of plain SGD on all that is trained."""
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr)
    pair(*batch).total.backward()
    optimizer.step()
    optimizer.zero_grad()
    pair.advance()
