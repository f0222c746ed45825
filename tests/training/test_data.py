import logging
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from limbeck.data import (
    ClassificationAugmentation,
    DetectionAugmentation,
    ImageFolder,
    Shapes,
    ShuffleDetAugmentation,
)
from limbeck.data.base import BadSampleError
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from tests import tiny_models
from tests.training import tiny_runs


def module(count=10, *, train=None, val=None, task="detection", **options):
    train = Shapes(task, count=count, size=32) if train is None else train
    val = Shapes(task, count=5, size=32, seed=1) if val is None else val
    options = {"batch_size": 2, "augmentation": DetectionAugmentation()} | options
    return DataModule(val, train, **options)


def endless(loader):
    while True:
        yield from loader


def same(batch, other):
    return all(map(torch.equal, batch.images, other.images)) and all(
        torch.equal(value, expected[key])
        for target, expected in zip(batch.targets, other.targets, strict=True)
        for key, value in target.items()
    )


def ids(batches):
    return [[target["image_id"].item() for target in batch.targets] for batch in batches]


def test_task_and_classes_are_the_datasets():
    data = module(task="classification", augmentation=None)
    assert data.task == "classification"
    assert data.classes == Shapes().classes


def test_batches_do_not_depend_on_the_number_of_workers():
    runs = [list(islice(endless(module(workers=n).train_dataloader()), 8)) for n in (0, 1, 2)]
    for batches in runs[1:]:
        assert all(map(same, runs[0], batches))
    assert ids(runs[0][:5]) != ids(runs[0][5:])
    assert sorted(i for batch in ids(runs[0][:5]) for i in batch) == list(range(10))


MULTI_SCALE = DetectionAugmentation(sizes=((32, 32), (48, 48), (64, 40)), jitter=0.3)


def test_one_size_a_batch_whatever_the_workers_and_after_resuming():
    runs = [
        list(islice(endless(module(augmentation=MULTI_SCALE, workers=n).train_dataloader()), 8))
        for n in (0, 2)
    ]
    assert all(map(same, *runs))
    sizes = [{tuple(image.shape[1:]) for image in batch.images} for batch in runs[0]]
    assert all(len(of_batch) == 1 for of_batch in sizes)
    assert set().union(*sizes) == set(MULTI_SCALE.sizes)

    loader, restored = (module(augmentation=MULTI_SCALE).train_dataloader() for _ in range(2))
    for _ in islice(loader, 3):
        pass
    restored.load_state_dict(loader.state_dict())
    assert all(map(same, islice(endless(restored), 5), runs[0][3:]))


def test_one_size_a_batch_is_for_training():
    data = module(augmentation=DetectionAugmentation(sizes=((48, 40),)), workers=0)
    loaders = [
        data.val_dataloader(),
        data.calibration_dataloader(4, "evaluation", step=0),
        data.calibration_dataloader(4, "training", step=0),
    ]
    sizes = [{tuple(i.shape[1:]) for b in loader for i in b.images} for loader in loaders]
    assert sizes == [{(32, 32)}, {(32, 32)}, {(48, 40)}]


def test_epochs_augment_anew():
    data = module(count=1, workers=0, augmentation=DetectionAugmentation(photometric=1.0))
    first, second = islice(endless(data.train_dataloader()), 2)
    assert ids([first]) == ids([second])
    assert not same(first, second)


@pytest.mark.parametrize(
    ("workers", "then", "read"),
    [(0, 0, 0), (0, 0, 3), (0, 0, 5), (0, 0, 7), (1, 1, 5), (2, 2, 3), (2, 0, 3), (0, 2, 7)],
)
def test_a_restored_loader_goes_on_with_any_number_of_workers(workers, then, read):
    loader = module(workers=workers).train_dataloader()
    source = endless(loader)
    for _ in islice(source, read):
        pass
    restored = module(workers=then).train_dataloader()
    restored.load_state_dict(loader.state_dict())
    assert restored.state_dict() == loader.state_dict()
    for batch, expected in zip(endless(restored), islice(source, 4), strict=False):
        assert same(batch, expected)


def test_a_loader_of_a_finished_epoch_goes_on_with_the_next():
    loader, restored = module(workers=0).train_dataloader(), module(workers=0).train_dataloader()
    list(loader)
    restored.load_state_dict(loader.state_dict())
    assert ids(restored) == ids(loader)


@pytest.mark.parametrize("flaw", [{"count": 12}, {"batch_size": 5}, {"seed": 1}])
def test_a_place_in_another_order_is_refused(flaw):
    state = module(workers=0).train_dataloader().state_dict()
    found = "images 10, batch_size 2, seed 0, world_size 1, this run's has images"
    with pytest.raises(ValueError, match=f"the checkpoint's data had {found}"):
        module(**{"workers": 0} | flaw).train_dataloader().load_state_dict(state)


def test_loading_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    for workers in (0, 1):
        data = module(workers=workers)
        list(data.train_dataloader()), list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), state)


class Recorder(lightning.LightningModule):
    """Writes down what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, index):
        pixels = [zlib.crc32(image.numpy().tobytes()) for image in batch.images]
        self.seen.append((self.current_epoch, index, ids([batch]), pixels))
        return self.weight.sum()

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, checkpoint=None, callbacks=(), **limits):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    recorder = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **limits,
    )
    trainer.fit(recorder, data, ckpt_path=checkpoint)
    return recorder.seen


IN_THE_MIDDLE = {"every_n_train_steps": 2}
AFTER_VALIDATION = {"every_n_epochs": 1}
AFTER_THE_EPOCH = {"every_n_epochs": 1, "save_on_train_epoch_end": True}


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize(
    ("workers", "then", "limits", "when"),
    [
        (0, 0, {"max_epochs": 3}, IN_THE_MIDDLE),
        (0, 0, {"max_epochs": 3}, AFTER_VALIDATION),
        (0, 0, {"max_epochs": 3}, AFTER_THE_EPOCH),
        (0, 0, {"max_epochs": -1, "max_steps": 12}, AFTER_THE_EPOCH),
        (0, 0, {"max_epochs": 3, "limit_train_batches": 3}, IN_THE_MIDDLE),
        (0, 0, {"max_epochs": 3, "limit_train_batches": 3}, AFTER_THE_EPOCH),
        (1, 1, {"max_epochs": 3}, AFTER_VALIDATION),
        (1, 0, {"max_epochs": 3, "limit_train_batches": 3}, IN_THE_MIDDLE),
        (2, 1, {"max_epochs": -1, "max_steps": 12}, IN_THE_MIDDLE),
    ],
)
def test_a_resumed_run_sees_what_it_would_have_seen(tmp_path, workers, then, limits, when):
    saving = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    seen = fit(module(workers=workers), callbacks=[saving], **limits)
    epochs = [epoch for epoch, *_ in seen]
    assert epochs == sorted(epochs)
    checkpoints = {int(path.stem.split("=")[1]): path for path in tmp_path.iterdir()}
    assert len(checkpoints) >= 2
    for step, path in checkpoints.items():
        if step < len(seen):
            assert fit(module(workers=then), path, **limits) == seen[step:]


def test_validation_is_in_order_and_whole():
    for workers in (0, 2):
        batches = list(module(workers=workers, eval_batch_size=3).val_dataloader())
        assert ids(batches) == [[0, 1, 2], [3, 4]]
        assert torch.equal(batches[1].images[0], Shapes(count=5, size=32, seed=1)[3][0])


def test_classification_batches():
    augmentation = ClassificationAugmentation(size=24)
    data = module(task="classification", augmentation=augmentation, workers=1)
    images, targets = next(iter(data.train_dataloader()))
    assert images.shape == (2, 3, 24, 24)
    assert targets.dtype == torch.int64
    images, targets = list(data.val_dataloader())[2]
    assert images.shape == (1, 3, 24, 24)
    assert targets.tolist() == [data.val[4][1].item()]


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_images_are_bytes_until_they_are_on_the_device(task):
    data = module(task=task, augmentation=None, workers=1)
    batch = next(iter(data.train_dataloader()))
    images, targets = data.on_after_batch_transfer(batch, 0)
    assert {image.dtype for image in batch.images} == {torch.uint8}
    assert {image.dtype for image in images} == {torch.float32}
    for image, stored in zip(images, batch.images, strict=True):
        torch.testing.assert_close(image, stored / 255)
    assert targets is batch.targets


class Tall(Shapes):
    """The upper half of every third image is missing."""

    def image_size(self, index):
        return (16 if index % 3 == 0 else 32), 32

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image[:, -self.image_size(index)[0] :], target


def test_lying_images_are_grouped():
    def mixed(data):
        batches = list(data.train_dataloader())
        assert len(batches) == 7
        return sum(len({i % 3 == 0 for i in batch}) > 1 for batch in ids(batches))

    options = {"train": Tall(count=29, size=32), "batch_size": 4, "workers": 0}
    assert mixed(module(**options)) > 3
    assert mixed(module(**options, group_by_aspect_ratio=True)) <= 1


def test_processes_share_the_images():
    trained, validated = [], []
    for rank in range(3):
        distributed.init_process_group("fake", rank=rank, world_size=3, store=FakeStore())
        try:
            data = module(workers=0)
            trained.append(ids(data.train_dataloader()))
            validated.append(ids(data.val_dataloader()))
        finally:
            distributed.destroy_process_group()
    assert validated == [[[0, 3]], [[1, 4]], [[2]]]
    assert [len(batches) for batches in trained] == [1, 1, 1]
    assert len({image for batches in trained for image in batches[0]}) == 6


def test_a_place_among_other_processes_is_refused():
    state = module(workers=0).train_dataloader().state_dict()
    distributed.init_process_group("fake", rank=0, world_size=3, store=FakeStore())
    try:
        with pytest.raises(
            ValueError, match=r"world_size 1, this run's has .* world_size 3: the ord"
        ):
            module(workers=0).train_dataloader().load_state_dict(state)
    finally:
        distributed.destroy_process_group()


class Holes(Tall):
    """Two of three images cannot be read."""

    def image_size(self, index):
        return super().image_size(self._readable(index))

    def __getitem__(self, index):
        return super().__getitem__(self._readable(index))

    def _readable(self, index):
        if index % 3:
            raise BadSampleError(f"{index}.jpg: not a readable image")
        return index


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_skipped(workers):
    holes = {"train": Holes(count=10, size=32), "val": Holes(count=10, size=32)}
    options = {"workers": workers, "group_by_aspect_ratio": True, "on_bad_sample": "skip"}
    data = module(**holes, **options)
    of_epoch = ids(data.train_dataloader())
    assert [len(batch) for batch in of_epoch] == [2] * 5
    assert {image % 3 for batch in of_epoch for image in batch} == {0}
    assert ids(data.val_dataloader()) == [[0], [3], [6], [9]]
    bad = [index for index in range(10) if index % 3]
    for flags in data.bad_samples.values():
        assert flags.nonzero()[:, 0].tolist() == bad


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_samples_are_errors(workers):
    data = module(train=Holes(count=10, size=32), val=Holes(count=10, size=32), workers=workers)
    assert data.bad_samples == {}
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(BadSampleError, match=r"\d\.jpg: not a readable image"):
            list(loader)
    data.group_by_aspect_ratio = True
    with pytest.raises(BadSampleError, match=r"1\.jpg"):
        data.train_dataloader()


class Nothing(Shapes):
    def __getitem__(self, index):
        raise BadSampleError(f"{index}.jpg: not a readable image")


def test_nothing_but_bad_samples_is_an_error():
    none = Nothing(count=6, size=32)
    data = module(train=none, val=none, workers=0, on_bad_sample="skip")
    with pytest.raises(BadSampleError, match=r"none of the 6 images is a good sample: \d\.jpg"):
        list(data.train_dataloader())
    with pytest.raises(BadSampleError, match="none of the images in 3 batches is a good sample"):
        list(data.val_dataloader())


class Threads(Shapes):
    def __getitem__(self, index):
        image, _ = super().__getitem__(index)
        return image, torch.tensor(torch.get_num_threads())


def test_workers_have_one_thread():
    train = Threads("classification", count=2, size=32)
    data = module(train=train, task="classification", augmentation=None, workers=1)
    assert next(iter(data.train_dataloader())).targets.tolist() == [1, 1]


class Fewer(Shapes):
    """Without the last class."""

    def __init__(self):
        super().__init__()
        self.classes = self.classes[:-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: module(train=Shapes("classification")),
            "data.train is for classification, and data.val for detection; expected",
        ),
        (
            lambda: module(augmentation=ClassificationAugmentation()),
            r"is for classification, but .* for detection.* limbeck\.data\.DetectionAugmentation",
        ),
        (
            lambda: module(task="classification", augmentation=ShuffleDetAugmentation()),
            r"ShuffleDetAugmentation, .* such as limbeck\.data\.ClassificationAugmentation",
        ),
        (lambda: module(batch_size=0), "batch_size is 0"),
        (lambda: module(eval_batch_size=0), "data.eval_batch_size is 0; expected"),
        (lambda: module(workers=-1), "data.workers is -1; expected"),
        (lambda: module(seed=-1), "data.seed is -1; expected"),
        (lambda: module(on_bad_sample="Skip"), "on_bad_sample is 'Skip'; expected"),
        (lambda: DataModule(Shapes()).train_dataloader(), "data.train is missing"),
        (
            lambda: module(val=Fewer()),
            r"5 classes and data\.val 4, which differ: only data\.train has cross\. Expected",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_classes_are_refused(shared):
    folders = shared / "data/imagefolder"
    with pytest.raises(ValueError, match=r"data\.train has dress, .* data\.val has airplane, "):
        DataModule(ImageFolder(folders / "cifar10/val"), ImageFolder(folders / "clothing/train"))


def stated(folder, augmentation):
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"""
data:
  val: {{class_path: limbeck.data.Shapes, init_args: {{count: 200, seed: 1}}}}
  train: {{class_path: limbeck.data.Shapes, init_args: {{count: 100000}}}}
  batch_size: 8
  augmentation: {augmentation}
  on_bad_sample: skip
""")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(DataModule, "data")
    return parser.instantiate_classes(parser.parse_args([f"--config={recipe}"])).data


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        ("{sizes: [[320, 320], [352, 416]]}", {"sizes": ((320, 320), (352, 416))}),
        ("{size: [320, 320]}", {"size": (320, 320)}),
    ],
)
def test_a_recipe_states_sizes(tmp_path, augmentation, expected):
    assert stated(tmp_path, augmentation).augmentation == DetectionAugmentation(**expected)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize(
    "augmentation",
    [
        "{drift: [15, 10]}",
        "{class_path: limbeck.data.ShuffleDetAugmentation, init_args: {drift: [15, 10]}}",
    ],
)
def test_a_recipe_states_the_augmentation_of_shuffledet(tmp_path, augmentation):
    data = stated(tmp_path, augmentation)
    assert data.augmentation == ShuffleDetAugmentation(drift=(15, 10))
    assert next(iter(data.train_dataloader())).images[0].shape == (3, 384, 1248)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_a_recipe_states_the_data(tmp_path):
    data = stated(tmp_path, "{short_sides: [240, 320], photometric: 0.5}")
    assert len(data.train) == 100_000
    assert data.batch_size == 8
    assert len(data.bad_samples["training"]) == 100_000
    assert data.augmentation == DetectionAugmentation(short_sides=(240, 320), photometric=0.5)


# -- what the data may not hold --------------------------------------------------------------------


class Mislabelled(Shapes):
    """Its labels, or class indices, are beyond the classes."""

    def __getitem__(self, index: int) -> Any:
        image, target = super().__getitem__(index)
        if isinstance(target, dict):
            return image, target | {"labels": target["labels"] + 5}
        return image, target + 5


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("detection", r"\(image_id \d+\): targets have the label \d+; expected 1 to 5"),
        ("classification", r"the class index \d+; expected 0 to 4, as there are 5 classes"),
    ],
)
def test_labels_of_no_class_are_refused_before_they_reach_a_device(
    side: str, task: Any, message: str, tmp_path: Path
) -> None:
    data = tiny_runs.shapes(task)
    setattr(data, side, Mislabelled(task, size=64, count=16, seed=7))
    student = tiny_models.detector() if task == "detection" else tiny_models.classifier()
    with pytest.raises(ValueError, match=message):
        tiny_runs.fit(DistillationModule(student), data, tmp_path)


class Bytes(ClassificationAugmentation):
    """Leaves validation images as they are stored, from 0 to 255."""

    def evaluation(self) -> Any:
        return lambda image, target: (image.float(), target)


def test_validation_images_are_looked_at_too(tmp_path: Path) -> None:
    data = tiny_runs.shapes("classification")
    data.augmentation = Bytes(size=64)
    with pytest.raises(ValueError, match=r"images holds values of .*Divide by 255"):
        tiny_runs.fit(DistillationModule(tiny_models.classifier()), data, tmp_path)
