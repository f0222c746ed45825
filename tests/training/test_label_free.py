"""Runs on images without labels, alone or mixed with labelled ones."""

from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from limbeck.data import ImageFolder, Images, Shapes
from limbeck.methods import DKD, KD, FineGrainedImitation, FitNet, Step
from limbeck.training.callbacks import BalanceReport, NonFiniteLossError
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import Optimizer
from limbeck.training.suitability import large_batches, shared_images
from tests import observation, tiny_models
from tests.training import tiny_runs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """24 images of 64 px."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, (image, _) in enumerate(Shapes(size=64, count=24, seed=5)):
        to_pil_image(image).save(folder / f"{number}.png")
    return Images(folder)


def data_of(unlabelled: Images | None, task: Any = "classification", **options: Any) -> DataModule:
    """32 labelled images in batches of 8."""
    sets = {
        "val": Shapes(task, size=64, count=8, seed=0),
        "train": Shapes(task, size=64, count=32, seed=1),
        "unlabelled": unlabelled,
    }
    return DataModule(**{**sets, "batch_size": 8, "workers": 0, **options})


def taught(**methods: Any) -> DistillationModule:
    """A classifier and its teacher."""
    options = {"optimizer": tiny_runs.PLAIN_SGD, "learning_rate": tiny_runs.STEADY}
    return DistillationModule(
        tiny_models.classifier(0), tiny_models.classifier(1), methods, **options
    )


class Terms(L.Callback):
    """Notes the names of the terms of every step, and what was logged."""

    def __init__(self) -> None:
        self.names: list[set[str]] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.names.append(set(pl_module.terms))
        self.logged.append({n: float(value) for n, value in trainer.callback_metrics.items()})


# -- mixed with labelled images -------------------------------------------------------------------


def test_steps_without_labels_have_the_methods_losses_alone(
    photographs: Images, tmp_path: Path
) -> None:
    terms = Terms()
    module = taught(kd=KD(), hint=FitNet(["C4"]))
    data = data_of(photographs, unlabelled_share=0.75)
    tiny_runs.fit(module, data, tmp_path, terms, max_epochs=2, log_every_n_steps=1)
    assert module.pair.number == 8  # as without unlabelled images
    whole = {"student/cross_entropy", "kd/logits", "hint/C4"}
    assert sorted(map(len, terms.names)) == [2] * 6 + [3] * 2
    assert all(names in (whole, whole - {"student/cross_entropy"}) for names in terms.names)


def test_a_plain_student_that_shares_the_data_sees_labelled_images_alone(
    photographs: Images, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    students = []
    for unlabelled in (photographs, None):
        module = DistillationModule(tiny_models.classifier(), optimizer=tiny_runs.PLAIN_SGD)
        tiny_runs.fit(module, data_of(unlabelled), tmp_path)
        students.append(observation.snapshot(module.pair.student))
    assert observation.same(*students)
    told = [message for message in caplog.messages if "data.unlabelled" in message]
    assert len(told) == 1
    assert "data.unlabelled has 24 images, and model.methods is empty" in told[0]


@pytest.mark.parametrize("train", [True, False])
def test_methods_that_need_labels_are_refused_by_name_before_training(
    photographs: Images, tmp_path: Path, train: bool
) -> None:
    sets = {} if train else {"train": None}
    module = taught(kd=KD(), decoupled=DKD())
    with pytest.raises(
        ValueError, match=r"data\.unlabelled has 24 images.*need labels: decoupled \(DKD\)\."
    ):
        tiny_runs.fit(module, data_of(photographs, **sets), tmp_path)
    assert module.pair.number == 0
    models = tiny_models.detector(0), tiny_models.detector(1)
    imitation = DistillationModule(*models, {"imitation": FineGrainedImitation()})
    with pytest.raises(ValueError, match=r"imitation \(FineGrainedImitation\)"):
        tiny_runs.fit(imitation, data_of(photographs, "detection", **sets), tmp_path)


def test_the_mixture_is_the_same_for_any_workers_and_after_resuming(photographs: Images) -> None:
    def batches(workers: int) -> Any:
        loader = data_of(photographs, unlabelled_share=0.4, workers=workers).train_dataloader()
        return loader, (batch for _ in range(3) for batch in loader)

    runs = [list(batches(workers)[1]) for workers in (0, 2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one.images, other.images)
        assert (one.targets is None) == (other.targets is None)
    loader, drawn = batches(0)
    list(islice(drawn, 6))
    resumed = data_of(photographs, unlabelled_share=0.4).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    for one, other in zip(runs[0][6:8], resumed, strict=True):
        assert torch.equal(one.images, other.images)
    others = data_of(photographs, unlabelled_share=0.5).train_dataloader()
    with pytest.raises(ValueError, match=r"unlabelled_share 0\.4.*unlabelled_share 0\.5"):
        others.load_state_dict(loader.state_dict())


def test_a_loss_that_is_not_finite_on_unlabelled_images_is_named(
    photographs: Images, tmp_path: Path
) -> None:
    class Spoilt(KD):
        def forward(self, step: Step) -> dict[str, torch.Tensor]:
            losses = super().forward(step)
            return losses if step.targets is not None else {"logits": losses["logits"] / 0}

    module = taught(good=FitNet(["C4"]), bad=Spoilt())
    with pytest.raises(NonFiniteLossError, match=r"^bad/logits became NaN or infinite"):
        tiny_runs.fit(module, data_of(photographs), tmp_path, log_every_n_steps=6, max_epochs=3)


def test_the_balance_is_that_of_a_batch_with_labels(photographs: Images, tmp_path: Path) -> None:
    module = taught(kd=KD())
    report = next(c for c in module.companions if isinstance(c, BalanceReport))
    report.after = 1
    data = data_of(photographs, unlabelled_share=0.8)
    tiny_runs.fit(module, data, tmp_path, max_epochs=3)
    assert report.reported
    assert '"student/cross_entropy"' in (tmp_path / "balance.json").read_text()


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(photographs: Images, share: float) -> None:
    with pytest.raises(ValueError, match=r"data\.unlabelled_share is"):
        data_of(photographs, unlabelled_share=share)


# -- alone ----------------------------------------------------------------------------------------


def test_a_detector_learns_from_images_alone_and_what_nothing_reads_stays(
    photographs: Images, tmp_path: Path
) -> None:
    models = tiny_models.detector(0), tiny_models.detector(1)
    decaying = Optimizer("sgd", lr=0.01, momentum=0.9, weight_decay=0.1)
    module = DistillationModule(
        *models, {"hint": FitNet(["fpn"])}, transfer={"head": "head"}, optimizer=decaying
    )
    teacher = observation.snapshot(module.pair.teacher)
    before = observation.snapshot(module.pair.student)
    terms = Terms()
    tiny_runs.fit(module, data_of(photographs, "detection", train=None), tmp_path, terms)
    assert terms.names == [{"hint/fpn.0", "hint/fpn.1"}] * 3
    after = observation.snapshot(module.pair.student)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("backbone.") for name in moved)
    assert not any(name.startswith("head.") for name in moved)
    assert observation.same(teacher, observation.snapshot(module.pair.teacher))


def test_a_plain_student_cannot_learn_from_images_alone(
    photographs: Images, tmp_path: Path
) -> None:
    module = DistillationModule(tiny_models.classifier())
    with pytest.raises(ValueError, match="there is no method: the student learns nothing"):
        tiny_runs.fit(module, data_of(photographs, train=None), tmp_path)


def test_calibration_takes_labelled_images_where_there_are(photographs: Images) -> None:
    for train, labelled in ((Shapes("classification", size=64, count=8), True), (None, False)):
        loader = data_of(photographs, train=train).calibration_dataloader(8, "evaluation", 0)
        assert [batch.targets is not None for batch in loader] == [labelled]


def test_images_that_cannot_be_read_are_skipped(tmp_path: Path) -> None:
    for number, (image, _) in enumerate(Shapes(size=64, count=7)):
        to_pil_image(image).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"no image")
    data = data_of(Images(tmp_path), train=None, on_bad_sample="skip")
    module = taught(kd=KD())
    with_logs = tmp_path / "run"
    tiny_runs.fit(module, data, with_logs)
    assert module.pair.number == 1
    assert (with_logs / "skipped.txt").read_text().startswith("unlabelled: ")


def test_validation_images_that_are_trained_on_without_labels_are_told_of(
    photographs: Images, tmp_path: Path
) -> None:
    folder = tmp_path / "val"
    for kind in ("a", "b"):
        (folder / kind).mkdir(parents=True)
        to_pil_image(photographs[0]).save(folder / kind / f"{kind}.png")
    sets = ImageFolder(folder), None
    data = DataModule(*sets, unlabelled=Images(folder), batch_size=4, workers=0)
    (said,) = shared_images(data)
    assert said.startswith("data.unlabelled and data.val share images: 2 of the 2")
    (said,) = large_batches(data)
    assert "data.unlabelled has 2 images" in said
