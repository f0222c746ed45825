"""No file runs code before it is trusted, whatever its name and its description say."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from limbeck.commands.students import student_of
from limbeck.exported import load
from limbeck.exported.description import beside
from tests.exported.files import write_classifier


class Hostile:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A file of torch.export whose example inputs are code, and the folder that they would make."""
    folder = tmp_path_factory.mktemp("hostile")
    write_classifier(folder / "good.pt2", runtime="torch_export")
    path, made = folder / "bad.pt2", folder / "made"
    with zipfile.ZipFile(folder / "good.pt2") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if "sample_inputs" in name:
                torch.save(Hostile(made), folder / "inputs", pickle_module=pickle)
                content = (folder / "inputs").read_bytes()
            bad.writestr(name, content)
    beside(folder / "good.pt2").rename(beside(path))
    return path, made


def test_a_file_that_runs_code_is_not_opened_unless_it_is_trusted(hostile):
    path, made = hostile
    with pytest.raises(ValueError, match=r"bad.pt2 .* code of its own; expected --trust true, or"):
        student_of(path)
    assert not made.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever PyTorch makes of a folder
        student_of(path, trust=True)
    assert made.exists()


def test_a_description_does_not_choose_the_runtime_of_a_file_of_another_name(hostile, tmp_path):
    path, _ = hostile
    disguised = tmp_path / "helmets.onnx"
    disguised.write_bytes(path.read_bytes())
    beside(disguised).write_bytes(beside(path).read_bytes())
    for trust in (False, True):
        with pytest.raises(ValueError, match=r"ends with .pt2; found .onnx. Give the file as"):
            student_of(disguised, trust=trust)


@pytest.mark.parametrize(("runtime", "suffix"), [("torch_export", ".pt2"), ("torchscript", ".pt")])
def test_what_is_trusted_runs(runtime, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    module = write_classifier(path, runtime=runtime)
    with pytest.raises(ValueError, match=f"is a file of {runtime}, .* --format onnx or openvino"):
        load(path)
    batch = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(load(path, trust=True)(batch), module(batch))
