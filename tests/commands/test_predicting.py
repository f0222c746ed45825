import resource
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import Tensor, nn

from limbeck.commands.predicting import (
    ImageFiles,
    answers,
    chosen_device,
    classify,
    detect,
    image_loader,
)
from limbeck.data.augmentation import to_float

CPU = torch.device("cpu")


def image_paths(*sizes: tuple[int, int]) -> list[Path]:
    """Images of these widths and heights, and a damaged one in the second place."""
    paths = [Path(f"{index}.png") for index in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        PIL.Image.effect_noise(size, 60).save(path)
    Path("damaged.png").write_bytes(paths[0].read_bytes()[:60])
    return [paths[0], Path("damaged.png"), *paths[1:]]


def test_files_are_read_alike_with_workers_and_without() -> None:
    paths = image_paths((40, 30), (40, 30), (20, 10))
    files = ImageFiles(paths, to_float())
    alone, helped = (
        [each for batch in image_loader(files, 3, workers, CPU) for each in batch]
        for workers in (0, 2)
    )
    assert [each.path for each in alone] == [each.path for each in helped] == paths
    assert [len(batch) for batch in image_loader(files, 3, 0, CPU)] == [3, 1]
    for one, other in zip(alone, helped, strict=True):
        assert one.problem == other.problem
        if one.pixels is None or other.pixels is None:
            assert one.path.name == "damaged.png"
            assert one.pixels is other.pixels
            assert "damaged.png: not a readable image" in one.problem
        else:
            assert type(one.pixels) is Tensor
            assert torch.equal(one.pixels, other.pixels)
    assert alone[3].pixels is not None
    assert alone[3].pixels.shape == (3, 10, 20)


def test_what_the_transform_refuses_names_the_file() -> None:
    def refuse(_: Tensor) -> Tensor:
        raise ValueError("it is too small")

    (first, *_) = image_paths((8, 8))
    assert ImageFiles([first], refuse)[0].problem == "0.png: it is too small"


def test_a_device_is_one_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert chosen_device(None) == chosen_device("cpu") == CPU
    with pytest.raises(ValueError, match=r"--device cuda: this machine has cpu\. Name one"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: gpu)
    assert chosen_device(None) == gpu
    assert chosen_device("cuda:1") == torch.device("cuda", 1)
    for unknown in ("cuda:2", "mps", "gpu", "meta"):
        with pytest.raises(ValueError, match="this machine has cpu, cuda, cuda:0, cuda:1"):
            chosen_device(unknown)


def test_of_a_batch_that_a_model_refuses_each_image_is_asked_about() -> None:
    asked = []

    def ask(images: list[Tensor]) -> list[float]:
        asked.append(len(images))
        if any(image.sum() == 0 for image in images):
            raise ValueError("black")
        return [image.sum().item() for image in images]

    model = nn.Identity()
    found = answers(ask, model, [torch.ones(2), torch.zeros(2), torch.ones(3)])
    assert (found[0], str(found[1]), found[2]) == (2, "black", 3)
    assert asked == [3, 1, 1, 1]
    assert answers(ask, model, [torch.ones(2)] * 2) == [2, 2]
    assert asked[4:] == [2]


def test_an_image_at_which_a_model_breaks_costs_no_other_one() -> None:
    """Such as one too small for the last pooling of an AlexNet."""
    pool = nn.MaxPool2d(3)
    images = [torch.ones(3, 8, 8), torch.ones(3, 1, 1), torch.ones(3, 8, 8)]
    found = answers(lambda batch: [pool(image) for image in batch], pool, images)
    assert [isinstance(each, ValueError) for each in found] == [False, True, False]
    assert str(found[1]).startswith("RuntimeError: ")


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
def test_a_model_that_breaks_at_every_image_is_not_blamed_on_them(kind: type[Exception]) -> None:
    def broken(_: object) -> list[object]:
        raise kind("of the device")

    with pytest.raises(kind, match="of the device"):
        answers(broken, nn.Identity(), [torch.ones(3, 8, 8)] * 2)


def test_detections_below_the_threshold_or_of_no_class_are_left_out() -> None:
    def model(images: list[Tensor]) -> list[dict[str, Any]]:
        scores = torch.tensor([0.4, 0.39, 0.9, 0.5])
        found = {"boxes": torch.arange(16.0).view(4, 4), "labels": torch.tensor([1, 1, 0, 2])}
        return [found | {"scores": scores, "features": image} for image in images]

    first, second = detect(model, [torch.zeros(3, 2, 2)] * 2, 0.4)
    assert first["scores"].tolist() == pytest.approx([0.4, 0.5])
    assert first["labels"].tolist() == [1, 2]
    assert first.keys() == second.keys() == {"boxes", "labels", "scores"}


def test_images_of_different_sizes_are_classified_one_by_one() -> None:
    class Colours(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(tuple(images.shape))
            return images.mean(dim=(2, 3))

    sizes: list[tuple[int, ...]] = []
    model = Colours()
    images = [torch.rand(3, *size) for size in ((4, 4), (4, 6), (4, 4))]
    each = [classify(model, [image], ["r", "g", "b"])[0] for image in images]
    sizes.clear()
    assert classify(model, images, ["r", "g", "b"]) == each
    assert sizes == [(1, 3, 4, 4), (1, 3, 4, 6), (1, 3, 4, 4)]
    assert classify(model, images[::2], ["r", "g", "b"]) == each[::2]
    assert sizes[3:] == [(2, 3, 4, 4)]
    assert {row["class"] for row in classify(model, images[:1], [])[0]} == {0, 1, 2}


def test_a_batch_from_a_worker_takes_few_file_descriptors() -> None:
    paths = image_paths(*[(8 + index % 3, 8) for index in range(200)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(list(Path("/proc/self/fd").iterdir())) + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        (batch,) = image_loader(ImageFiles(paths, to_float()), 300, 1, CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(each.pixels is not None for each in batch) == 200
