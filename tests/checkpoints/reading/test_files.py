import argparse
import json
import os
import pickle
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.reading.pickles import write_pickle

TENSORS = {"stem.weight": torch.arange(6.0).view(3, 2), "head.bias": torch.ones(3)}
OTHERS = {name: -value for name, value in TENSORS.items()}


def save(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


def prefixed(prefix: str, tensors: dict[str, Tensor] = TENSORS) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["kept.pth", "kept.ckpt", "kept.pkl", "kept"])
def test_both_formats_of_torch_whatever_the_name(zipped: bool, name: str, tmp_path: Path) -> None:
    path = save(TENSORS, tmp_path / name, _use_new_zipfile_serialization=zipped)
    contents = read_file(path)
    assert same(contents.tensors, TENSORS)
    assert contents == Contents(path, contents.tensors)


def test_safetensors_with_its_metadata(tmp_path: Path) -> None:
    for name in ("kept.safetensors", "kept.bin"):
        save_file(TENSORS, tmp_path / name, metadata={"format": "pt", "author": "x"})
        contents = read_file(tmp_path / name)
        assert contents.tensors.keys() == TENSORS.keys()
        assert torch.equal(contents.tensors["stem.weight"], TENSORS["stem.weight"])
        assert contents.metadata == {"format": "pt", "author": "x"}


def test_detectron2_pickles(tmp_path: Path) -> None:
    write_pickle(tmp_path / "kept.pkl", TENSORS, matching_heuristics=True)
    contents = read_file(tmp_path / "kept.pkl")
    assert same(contents.tensors, TENSORS)
    assert contents.container == "model"
    assert contents.metadata == {"__author__": "limbeck", "matching_heuristics": True}
    contents.tensors["head.bias"].add_(1)  # the arrays are writable


def test_parameters_come_as_plain_tensors(tmp_path: Path) -> None:
    kept = {"weight": nn.Parameter(torch.ones(2)), "array": np.ones(3, np.float32)}
    found = read_file(save(kept, tmp_path / "kept.pth")).tensors
    assert [type(value) for value in found.values()] == [Tensor, Tensor]
    assert not found["weight"].requires_grad
    assert torch.equal(found["array"], torch.ones(3))


# -- wrappers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "container", "prefix"),
    [
        (OrderedDict(TENSORS), "", ""),
        ({"state_dict": TENSORS}, "state_dict", ""),
        ({"model": TENSORS}, "model", ""),
        ({"net": TENSORS}, "net", ""),
        ({"whatever": TENSORS}, "whatever", ""),
        ({"state_dict": {"model": TENSORS}}, "state_dict.model", ""),
        (prefixed("module."), "", "module."),
        (prefixed("_orig_mod."), "", "_orig_mod."),
        ({"model": prefixed("module._orig_mod.")}, "model", "module._orig_mod."),
        ({"stem._orig_mod.weight": TENSORS["stem.weight"], "head.bias": torch.ones(3)}, "", ""),
    ],
)
def test_wrappers_are_taken_off(kept: Any, container: str, prefix: str, tmp_path: Path) -> None:
    contents = read_file(save(kept, tmp_path / "kept.pth"))
    assert same(contents.tensors, TENSORS)
    assert (contents.container, contents.prefix) == (container, prefix)
    assert contents.part == contents.parts[0] == (container or "weights")


def test_what_lies_beside_is_said(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kept = {
        "model": {**TENSORS, "version": 3, "extra": {"a": 1}},
        "optimizer": optimizer.state_dict(),
        "epoch": 7,
        "best": np.float64(0.5),
        "classes": ("cat", "dog"),
        "args": argparse.Namespace(lr=0.1, output=Path("x")),
        "rng": torch.get_rng_state(),
    }
    contents = read_file(save(kept, tmp_path / "kept.pth"))
    assert same(contents.tensors, TENSORS)
    assert contents.metadata == {"epoch": 7, "best": 0.5, "classes": ["cat", "dog"]}
    assert set(contents.set_aside) == {"optimizer", "args", "rng", "version", "extra"}


@pytest.mark.parametrize("name", ["model_ema", "state_dict_ema", "ema_state_dict"])
def test_averages_are_had_by_name(name: str, tmp_path: Path) -> None:
    average = {**prefixed("module.", OTHERS), "n_averaged": torch.tensor(3)}
    path = save({name: average, "model": TENSORS, "epoch": 1}, tmp_path / "kept.pth")
    contents = read_file(path)
    assert same(contents.tensors, TENSORS)
    assert set(contents.parts) == {"model", name}
    chosen = read_file(path, part=name)
    assert same(chosen.tensors, OTHERS)
    assert (chosen.part, chosen.prefix) == (name, "module.")
    assert "n_averaged" in chosen.set_aside
    with pytest.raises(ValueError, match=rf"no part 'ema': found {name}, model"):
        read_file(path, part="ema")


def test_averages_among_the_weights_as_in_mmdetection_2(tmp_path: Path) -> None:
    average = {f"ema_{name.replace('.', '_')}": value for name, value in OTHERS.items()}
    counted = {**TENSORS, "bn.num_batches_tracked": torch.tensor(5)}
    path = save({"meta": {}, "state_dict": counted | average}, tmp_path / "kept.pth")
    assert same(read_file(path).tensors, counted)
    assert read_file(path).parts == ("state_dict", "ema")
    found = read_file(path, part="ema").tensors
    assert same(found, counted | OTHERS)


def test_sets_without_a_first_one_are_to_be_named(tmp_path: Path) -> None:
    path = save({"student": TENSORS, "teacher": OTHERS}, tmp_path / "kept.pth")
    with pytest.raises(ValueError, match=r"several sets of weights: student, teacher\. Name one"):
        read_file(path)
    assert same(read_file(path, "teacher").tensors, OTHERS)


def test_checkpoints_of_lightning_lose_one_attribute(tmp_path: Path) -> None:
    kept = {
        "pytorch-lightning_version": "2",
        "epoch": 1,
        "state_dict": prefixed("model._orig_mod."),
    }
    contents = read_file(save(kept, tmp_path / "kept.ckpt"))
    assert same(contents.tensors, TENSORS)
    assert contents.prefix == "model._orig_mod."
    kept["state_dict"] = prefixed("net.backbone.")
    found = read_file(save(kept, tmp_path / "kept.ckpt"))
    assert list(found.tensors) == [f"backbone.{name}" for name in TENSORS]
    kept["state_dict"] = prefixed("net.") | {"loss.weight": torch.ones(1)}
    assert read_file(save(kept, tmp_path / "kept.ckpt")).prefix == ""


def test_names_that_meet_are_refused(tmp_path: Path) -> None:
    kept = {"a._orig_mod.w": torch.ones(1), "a.w": torch.ones(1)}
    with pytest.raises(ValueError, match=r"kept\.pth: two tensors .* called 'a\.w'"):
        read_file(save(kept, tmp_path / "kept.pth"))


# -- objects of training frameworks ---------------------------------------------------------------


@pytest.fixture
def mmengine() -> Iterator[Any]:
    """mmengine's HistoryBuffer as it is pickled, until ``mmengine.gone()``."""
    names = ["mmengine", "mmengine.logging", "mmengine.logging.history_buffer"]
    modules = {name: types.ModuleType(name) for name in names}

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.array([0.5, 0.25])
            self._count_history = np.array([1, 1])
            self._statistics_methods = {"mean": HistoryBuffer.mean}

        def mean(self) -> None:
            raise AssertionError("was run")

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("was run")

    def gone() -> None:
        for name in names:
            sys.modules.pop(name, None)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = names[-1], "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = names[-1], "HistoryBuffer.mean"
    modules[names[-1]].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    sys.modules.update(modules)
    yield types.SimpleNamespace(HistoryBuffer=HistoryBuffer, gone=gone)
    gone()


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_mmengine(mmengine: Any, zipped: bool, tmp_path: Path) -> None:
    kept = {
        "meta": {"cfg": "model = dict()", "epoch": 12, "dataset_meta": {"classes": ("a", "b")}},
        "state_dict": TENSORS,
        "message_hub": {
            "log_scalars": OrderedDict({"train/loss": mmengine.HistoryBuffer()}),
            "runtime_info": OrderedDict({"iter": 3, "best": np.float32(0.5)}),
        },
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(1)}}, "param_groups": []},
        "param_schedulers": [{"base_values": [0.1]}],
    }
    path = save(kept, tmp_path / "epoch_12.pth", _use_new_zipfile_serialization=zipped)
    assert b"HistoryBuffer" in path.read_bytes()
    assert b"getattr" in path.read_bytes()
    mmengine.gone()
    before = set(torch.serialization.get_safe_globals())
    contents = read_file(path)
    assert set(torch.serialization.get_safe_globals()) == before
    assert same(contents.tensors, TENSORS)
    assert contents.metadata["meta"]["dataset_meta"] == {"classes": ["a", "b"]}
    assert contents.metadata["message_hub"]["runtime_info"] == {"iter": 3, "best": 0.5}
    assert contents.set_aside == ("optimizer",)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self) -> None:
        """Only what can be called is pickled as a call."""


@pytest.mark.parametrize("zipped", [True, False])
def test_stand_ins_run_nothing(mmengine: Any, zipped: bool, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    source = f"open({str(touched)!r}, 'w')"
    chain = Call(Call(getattr, "{}", "format"), "x")
    attacks = [
        (Call(eval, source), "eval"),
        (Call(os.system, f"touch {touched}"), rf"{os.system.__module__}\.system"),
        (Call(np.load, "x"), r"numpy\.load"),
        (chain, "call reduce for unrecognized function None"),
    ]
    for attack, name in attacks:
        kept = {"state_dict": TENSORS, "hub": [mmengine.HistoryBuffer(), attack]}
        path = save(kept, tmp_path / "kept.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=rf"kept\.pth cannot be read as weights: .*{name}"):
            read_file(path)
    assert not touched.exists()


# -- files that are refused -----------------------------------------------------------------------


def refused(path: Path, content: bytes | None = None) -> str:
    """What is said of the file; it has to name it."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        read_file(path)
    assert len(str(error.value)) < 800
    return str(error.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "pickle", "pickle5"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_cut_files(kind: str, share: float, tmp_path: Path) -> None:
    tensors = {"weight": torch.randn(64, 64), "bias": torch.randn(64)}
    path = tmp_path / "kept.pth"
    if kind == "safetensors":
        path = tmp_path / "kept.safetensors"
        save_file(tensors, path)
    elif kind == "pickle":
        write_pickle(path, tensors)
    elif kind == "pickle5":
        path.write_bytes(pickle.dumps({"model": {k: v.numpy() for k, v in tensors.items()}}, 5))
    else:
        save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    assert same(read_file(path).tensors, read_file(path).tensors)
    said = refused(path, content[: int(len(content) * share)])
    assert "cut off" in said or "cannot be read as weights" in said
    if kind in ("zip", "safetensors"):
        assert "cut off" in said
        assert "Download or copy it again" in said


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.pth"
    assert "is empty (0 bytes)" in refused(path, b"")
    assert "is a folder" in refused(tmp_path)
    assert "git lfs pull" in refused(path, b"version https://git-lfs.github.com/spec/v1\noid x\n")
    assert "a JPEG image" in refused(path, b"\xff\xd8\xff\xe0" + bytes(64))
    assert "unpack it first" in refused(path, b"\x1f\x8b\x08" + bytes(64))
    assert 'text that begins with \'{"message": "Not Found"}\'' in refused(
        path, b'{"message": "Not Found"}'
    )
    assert "text that begins" in refused(tmp_path / "x.safetensors", b"not a file of weights")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
    assert "a zip archive of ['a.npy']" in refused(path)
    for page in (b"<!DOCTYPE html><html>", b"\n <HTML><head>", b"<?xml version='1.0'?><Error>"):
        said = refused(path, page)
        assert "a web page" in said
        assert "download failed" in said


def test_a_missing_file_is_no_bad_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        read_file(tmp_path / "gone.pth")


def test_a_header_longer_than_its_file(tmp_path: Path) -> None:
    content = struct.pack("<Q", 2**62) + json.dumps({}).encode() + bytes(64)
    said = refused(tmp_path / "kept.safetensors", content)
    assert "header should be 4611686018427387904 bytes long" in said


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_programs_and_whole_networks(tmp_path: Path) -> None:
    path = tmp_path / "kept.pth"
    torch.jit.save(torch.jit.script(nn.Linear(2, 3)), path)
    assert "TorchScript archive" in refused(path)
    for zipped in (True, False):
        save(nn.Linear(2, 3), path, _use_new_zipfile_serialization=zipped)
        said = refused(path)
        assert "asks for torch.nn.modules.linear.Linear" in said
        assert "keep `model.state_dict()`" in said
    path.write_bytes(pickle.dumps({"model": TENSORS}))
    assert "asks for torch._utils._rebuild_tensor_v2" in refused(path)
    path.write_bytes(pickle.dumps({"model": {"a": np.array([{}])}}))
    assert "an array of 'O8', which are no plain numbers" in refused(path)


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ({"epoch": 3, "loss": 0.5}, r"\['epoch', 'loss'\]"),
        ({}, r"\[\]"),
        ([torch.ones(1)], "list"),
        (torch.ones(1), "Tensor"),
        ({0: torch.ones(1)}, r"\['0'\]"),
        ({"state_dict": {}}, r"\['state_dict'\]"),
    ],
)
def test_files_without_weights(kept: Any, found: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"holds no state dict: .*{found}"):
        read_file(save(kept, tmp_path / "kept.pth"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite(bad: float, kind: torch.dtype, tmp_path: Path) -> None:
    spoilt = {f"layer{i}": torch.tensor([1.0, bad]).to(kind) for i in range(7)}
    path = save({"state_dict": spoilt | {"fine": torch.ones(1)}}, tmp_path / "kept.pth")
    said = refused(path)
    assert "NaN or infinity in layer0, layer1, layer2, layer3, layer4 and 2 more" in said
    assert "fine" not in said


def test_only_the_chosen_part_has_to_be_finite(tmp_path: Path) -> None:
    bad = {"w": torch.tensor(float("nan"))}
    path = save({"model": {"w": torch.ones(1)}, "model_ema": bad}, tmp_path / "kept.pth")
    assert torch.equal(read_file(path).tensors["w"], torch.ones(1))
    with pytest.raises(ValueError, match="NaN or infinity in w"):
        read_file(path, part="model_ema")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(1).expand(10**12),  # 4 TB from four bytes
        lambda: torch.ones(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.empty(3, device="meta"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, on such tensors
def test_tensors_that_are_no_plain_numbers(make: Callable[[], Tensor], tmp_path: Path) -> None:
    path = save({"model": {"odd.weight": make(), "w": torch.ones(1)}}, tmp_path / "kept.pth")
    assert "odd.weight hold no plain numbers" in refused(path)


def test_metadata_is_bounded_and_may_hold_itself(tmp_path: Path) -> None:
    wide: Any = "x"
    for _ in range(12):
        wide = [wide] * 12  # 12 to the 12 strings, from a few hundred bytes
    endless: list[Any] = [1]
    endless.append(endless)
    kept = {"model": TENSORS, "wide": wide, "endless": endless, "epoch": 3}
    contents = read_file(save(kept, tmp_path / "kept.pth"))
    assert len(str(contents.metadata)) < 2_000_000
    holder: dict[str, Any] = {"weight": torch.ones(1)}
    holder["model"] = holder
    contents = read_file(save(holder, tmp_path / "kept.pth"))
    assert contents.tensors.keys() == {"weight"}


def test_paths_beside_the_weights_are_set_aside(tmp_path: Path) -> None:
    kept = {"state_dict": TENSORS, "hyper_parameters": {"root": PosixPath("a/b"), "lr": 0.1}}
    contents = read_file(save(kept, tmp_path / "kept.ckpt"))
    assert contents.metadata["hyper_parameters"] == {"lr": 0.1}
