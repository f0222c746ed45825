"""What splits are called, whatever their own names are."""

import pytest

from limbeck.data.split_names import known_splits, spellings


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["valid", "Train"], {"train": "Train", "val": "valid"}),
        (["train2017", "val_2017", "cat_train"], {"train": "train2017", "val": "val_2017"}),
        (["train2014", "train2017"], {"train2014": "train2014", "train2017": "train2017"}),
        (["trainval", "test"], {"trainval": "trainval", "test": "test"}),
        (["train", "trainval"], {"train": "train"}),
        (["images", "labels"], {}),
    ],
)
def test_known_splits(names: list[str], known: dict[str, str]) -> None:
    found = known_splits(names)
    assert found == known
    assert list(found) == list(known)


def test_spellings_of_a_folder() -> None:
    assert list(spellings("val2017")) == ["val2017", "val", "valid", "validation", "dev"]
    assert list(spellings("others")) == ["others"]
