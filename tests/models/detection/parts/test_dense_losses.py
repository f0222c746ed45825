"""What divides RetinaNet's losses with detectron2's preset."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from limbeck.models import RetinaNet
from limbeck.models.detection.parts.matcher import match_anchors
from tests.batches import nothing, photographs, targets
from tests.models.detection.tiny_detectors import tiny


def dense_outputs(model: RetinaNet, images: int) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Random outputs of the head on 128 x 128 images, and the anchors."""
    maps = [torch.zeros(1, 8, 128 // s, 128 // s) for s in model.strides]
    shape = ImageList(torch.zeros(images, 3, 128, 128), [(128, 128)] * images)
    anchors = model.anchor_generator(shape, maps)
    columns = model.head.classification_head.num_classes
    outputs = {"cls_logits": torch.randn(images, len(anchors[0]), columns)}
    return outputs | {"bbox_regression": torch.randn(images, len(anchors[0]), 4)}, anchors


def positives(model: RetinaNet, anchors: list[Tensor], truth: list[dict[str, Tensor]]) -> list[int]:
    pairs = zip(truth, anchors, strict=True)
    return [int((match_anchors(model.proposal_matcher, t, a) >= 0).sum()) for t, a in pairs]


def test_detectron2_divides_by_a_running_mean_of_positives() -> None:
    """Focal and L1 sums over max(1, positives of the batch), momentum 0.9, beginning at 100."""
    model, other = tiny(RetinaNet, "detectron2"), tiny(RetinaNet, "mmdetection")
    outputs, anchors = dense_outputs(model, 2)
    truth = [*targets(1), nothing()]
    counts = positives(model, anchors, truth)
    assert counts == positives(other, anchors, truth)
    assert counts[1] == 0 < counts[0]
    batch = other.compute_loss(truth, outputs, anchors)
    mean = 100.0
    for _ in range(3):
        losses = model.compute_loss(truth, outputs, anchors)
        mean = 0.9 * mean + 0.1 * counts[0]
        for name, loss in losses.items():
            expected = batch[name] * (counts[0] + 1) / mean  # mmdetection: one at least an image
            torch.testing.assert_close(loss, expected)
    assert model.loss_normaliser.item() == pytest.approx(mean)


def test_two_batches_before_a_backward_pass() -> None:
    model = tiny(RetinaNet, "detectron2").train()
    losses = [model(photographs((128, 128)), targets(1)) for _ in range(2)]
    sum(loss for of_batch in losses for loss in of_batch.values()).backward()
    assert model.loss_normaliser < 100


def test_evaluation_leaves_the_running_mean_alone() -> None:
    model = tiny(RetinaNet, "detectron2", min_size=64, max_size=64).eval()
    model(photographs((64, 64)))
    assert model.loss_normaliser == 100


def test_training_resumes_with_the_running_mean() -> None:
    model = tiny(RetinaNet, "detectron2").train()
    batch = photographs((128, 128)), targets(1)
    model(*batch)
    resumed = tiny(RetinaNet, "detectron2").train()
    resumed.load_state_dict(model.state_dict())
    assert resumed.loss_normaliser == model.loss_normaliser < 100
    expected, losses = model(*batch), resumed(*batch)
    assert all(torch.equal(loss, expected[name]) for name, loss in losses.items())


def test_weights_without_a_running_mean_load_strictly() -> None:
    model = tiny(RetinaNet, "detectron2").train()
    model(photographs((128, 128)), targets(1))
    mean = model.loss_normaliser.clone()
    model.load_state_dict(tiny(RetinaNet, "mmdetection").state_dict())
    assert model.loss_normaliser == mean
    with pytest.raises(RuntimeError, match=r"Missing key.*fpn"):
        model.load_state_dict({})


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_all_processes_take_the_running_mean_of_the_first() -> None:
    wrapped = DistributedDataParallel(tiny(RetinaNet, "detectron2"))
    wrapped(photographs((128, 128)), targets(1))
    assert "loss_normaliser" in wrapped.named_module_buffers


def test_with_torchvisions_preset_losses_are_torchvisions_to_the_last_bit() -> None:
    model = tiny(RetinaNet, "torchvision")
    torch.manual_seed(0)
    outputs, anchors = dense_outputs(model, 3)
    truth = [*targets(1), nothing(), *targets(1)]
    truth[2]["boxes"] = truth[2]["boxes"] * 1.7
    found, expected = (
        kind.compute_loss(model, truth, outputs, anchors)
        for kind in (RetinaNet, detection.RetinaNet)
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
